"""Which files of this repository a script imports, followed through every import it makes."""

from __future__ import annotations

import ast
from pathlib import Path

ROOMS = ("detector", "models", "pipeline", "scenegen", "studies")


def _named(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _files(root: Path, name: str) -> list[Path]:
    path = root.joinpath(*name.split("."))
    packages = [path, *path.parents][: len(name.split("."))]  # whoever imports a.b runs a first
    found = [path.with_suffix(".py"), *(package / "__init__.py" for package in packages)]
    return [file for file in found if file.is_file()]


def closure(root: Path, script: Path) -> set[str]:
    """The script and every file of ours it imports, as paths relative to `root`.

    A package's __init__.py counts only if it holds code: a docstring changes no result.
    """
    seen: set[Path] = set()
    todo = _files(root, ".".join(script.relative_to(root).with_suffix("").parts))
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in _named(ast.parse(file.read_text())):
            if name.split(".")[0] in ROOMS:
                todo += _files(root, name)
    return {
        str(file.relative_to(root))
        for file in seen
        if file.name != "__init__.py" or len(ast.parse(file.read_text()).body) > 1
    }

"""What code decides a result: one rule for stages, checkpoints, shards and scores.

A result is decided by the module that makes it and by all modules of this project that it imports,
directly or through others. Those of the rooms in `SILENT` are left out: they talk, lock, draw
progress, read params and write files, and no byte of a result hangs on them. A module counts by its
syntax tree without docstrings, so that comments, docstrings and layout change nothing.

What a stage takes of a study by name, as `study.part("loader")`, is that study's module.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["deciding", "digest", "loaded", "study_of"]

ROOT = Path(__file__).parents[1]
ROOMS = ("base", "benchmarks", "detector", "models", "pipeline", "scenegen", "studies")
SILENT = ("base", "pipeline.running", "pipeline.study")
STUDY = "shapes3d"  # the root's, where a command names none


def study_of(words: Sequence[str]) -> str:
    """The study that a stage's command line is about, of `--study NAME`."""
    return words[words.index("--study") + 1] if "--study" in words[:-1] else STUDY


def digest(*modules: str, root: Path = ROOT, study: str = STUDY) -> str:
    """SHA-256, as hex digits, of the code that decides what these modules make.

    Args:
        modules: dotted names, as `models.training`.
        root: the folder that the names start from.
        study: whose modules those are that stages take by name.

    Raises:
        ValueError: names the file that is not Python.
    """
    found = hashlib.sha256()
    for name in deciding(*modules, root=root, study=study):
        tree = _without_docstrings(_parsed(_file(name, root)))
        found.update(f"{name} {_plain(tree)!r}\n".encode())
    return found.hexdigest()


@functools.cache
def loaded(*modules: str, study: str = STUDY) -> str:
    """The digest as it was when this process first asked, which is what Python has loaded.

    A module asks as it is imported. Files that change later are the next process's.
    """
    return digest(*modules, study=study)


def deciding(*modules: str, root: Path = ROOT, study: str = STUDY) -> list[str]:
    """Dotted names of the modules that decide what these ones make, sorted."""
    found: set[str] = set()
    todo = [name for module in modules for name in _modules(module, root)]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            imported = _imported(name, _file(name, root), study)
            todo += [one for other in imported for one in _modules(other, root)]
    return sorted(found)


def _file(name: str, root: Path) -> Path:
    path = root.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _modules(name: str, root: Path) -> Iterable[str]:
    """A module of ours and the packages it lies in, which Python runs first; none if not ours.

    Where the project is installed, others' packages lie beside it.
    """
    parts = name.split(".")
    if parts[0] not in ROOMS or any(f"{name}.".startswith(f"{room}.") for room in SILENT):
        return
    for count in range(1, len(parts) + 1):
        one = ".".join(parts[:count])
        if _file(one, root).is_file():
            yield one


def _imported(name: str, file: Path, study: str) -> set[str]:
    """Dotted names that a module may import, among them those of functions and classes."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(_parsed(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif part := _part(node):
            names.add(f"studies.{study}.{part}")
    return names


def _part(node: ast.AST) -> str | None:
    """The name in a call such as `study.part("loader")`."""
    match node:
        case ast.Call(func=ast.Attribute(attr="part"), args=[ast.Constant(value=str() as name)]):
            return name
    return None


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:  # ValueError: bytes of 0, no UTF-8
        raise ValueError(f"{file}: {type(error).__name__}: {error}") from None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without strings that stand alone: they are documentation wherever they stand."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if isinstance(body, list):
                setattr(node, name, [one for one in body if not _is_text(one)])
    return tree


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _plain(node: Any) -> Any:
    """A syntax tree as nested tuples, the same from any release of Python that reads the file.

    Releases add fields, which are empty in code that is older than they.
    """
    if isinstance(node, ast.AST):
        fields = ((key, value) for key, value in ast.iter_fields(node) if value not in (None, []))
        return (type(node).__name__, *((key, _plain(value)) for key, value in fields))
    if isinstance(node, list):
        return [_plain(one) for one in node]
    return node

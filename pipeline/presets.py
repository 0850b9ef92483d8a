"""Presets: named sets of values that one command writes into params.yaml, keeping its comments."""

from __future__ import annotations

import io
import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap

from base.files import write_bytes
from pipeline.running.params import fail, read_params, shown
from pipeline.study import ROOT, Study

__all__ = ["about", "apply", "names", "render"]


def names(folder: Path = ROOT.presets) -> list[str]:
    """The presets there are."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def about(preset: str, folder: Path = ROOT.presets) -> str:
    """What a preset is for: the comment at the head of its file."""
    lines = (folder / f"{preset}.yaml").read_text("utf-8", "replace").splitlines()
    return " ".join(line[2:] for line in itertools.takewhile(lambda x: x.startswith("# "), lines))


def _overlay(into: CommentedMap, values: dict[str, Any], preset: str, key: str = "") -> None:
    for name, value in values.items():
        here = f"{key}.{name}".lstrip(".")
        if name not in into:
            fail(f"preset {preset}: {here} is not a key of params.yaml")
        # The grid's cells are a set of their own: replaced whole. Everything else is merged.
        if isinstance(value, dict) and here != "grid.cells":
            if not isinstance(into[name], dict):
                fail(f"preset {preset}: {here} = {shown(into[name])} in params.yaml: not a mapping")
            _overlay(into[name], value, preset, here)
        elif into[name] != value:
            into[name] = value


def render(preset: str, text: str, folder: Path = ROOT.presets) -> str:
    """`text` of a params.yaml with the values of `preset`; comments and order stay."""
    path = folder / f"{preset}.yaml"
    if not path.exists():
        fail(f"preset {shown(preset)}: there is {', '.join(names(folder))}")
    yaml = YAML()
    yaml.width = 1000
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(text)
    read_params(path)  # in one line says what is wrong
    _overlay(document, yaml.load(path.read_text(encoding="utf-8")), preset)
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def apply(preset: str, study: Study = ROOT) -> list[str]:
    """Write the values of `preset` into a study's params.yaml, whole or not at all.

    Returns:
        The keys whose values differ from the last commit's and that no preset sets: hand edits,
        which stay.
    """
    path = study.params
    edited = _edited(read_params(path), path, study.presets)
    text = path.read_text(encoding="utf-8")
    write_bytes(path, render(preset, text, study.presets).encode())
    return edited


def _edited(values: dict[str, Any], path: Path, folder: Path) -> list[str]:
    try:
        committed = subprocess.run(
            ["git", "show", f"HEAD:./{path.name}"],
            cwd=path.absolute().parent,
            capture_output=True,
            check=True,
        ).stdout
        before = dict(_leaves(YAML(typ="safe", pure=True).load(committed)))
    except (OSError, subprocess.CalledProcessError, YAMLError):
        return []  # no git, no clone, or nothing that can be compared with
    now = dict(_leaves(values))
    ours = {key for preset in folder.glob("*.yaml") for key, _ in _leaves(read_params(preset))}
    return sorted(k for k in before | now if before.get(k) != now.get(k) and k not in ours)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of everything below that is no mapping; the grid's cells count as one value."""
    if isinstance(value, dict) and key != "grid.cells":
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}".lstrip("."))
    else:
        yield key, value

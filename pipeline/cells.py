"""The cells of a grid: their names and seeds in params.yaml, and the code that each stands for."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.params import MIXTURES, Cell
from pipeline.stage import MODALITIES, write_bytes

__all__ = ["GridParams", "code", "unread", "write_checked"]

OF_EVERY_CELL = {"fusion", "objective", "samples", "kl", "gradient", "beta"}  # models/vae.py's
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")  # of a cell: it becomes files and arguments
TRAINING = Path("models/training.py")  # what it imports is in every training's `deps`


class GridParams(BaseModel):
    """Which cells (fusion x objective) are trained, with which seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    cells: dict[str, Cell] = Field(min_length=1, description="name: {fusion, objective, options}")
    seeds: list[int] = Field(min_length=1, description="one training per cell and seed; 0 or more")

    @field_validator("seeds")
    @classmethod
    def _seeds_are_distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**63:
            raise ValueError("must be distinct whole numbers, 0 to 2^63 - 1")
        return seeds

    @field_validator("cells")
    @classmethod
    def _names_make_file_names(cls, cells: dict[str, Cell]) -> dict[str, Cell]:
        for name in cells:
            if not NAME.fullmatch(name) or name in (*MODALITIES, "unimodal"):
                raise ValueError(
                    f"{name!r} is not a cell name: letters a to z, digits, - and _, no - first, "
                    f"and none of {', '.join(MODALITIES)}, unimodal"
                )
        return cells


def code(cell: Cell) -> bytes:
    """The files that define a cell's fusion and objective, and their digests."""
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f}\n" for f in sorted(_files(cell))]
    return "".join(lines).encode()


def write_checked(folder: Path, cells: Mapping[str, Cell]) -> None:
    """What every other stage waits for: a constant file, and for each cell its `code`."""
    write_bytes(folder / "params", b"params.yaml is valid\n")
    shutil.rmtree(folder / "cells", ignore_errors=True)
    for name, cell in cells.items():
        write_bytes(folder / "cells" / name, code(cell))


def unread(cell: Cell) -> str | None:
    """What is wrong with a cell that sets an option which nothing of it reads; None if all are."""
    if "kl" in cell.model_fields_set and (cell.fusion not in MIXTURES or cell.samples > 1):
        return (
            f"kl = {cell.kl!r}: is for a mixture ({', '.join(MIXTURES)}) with samples = 1; "
            "leave it out"
        )
    text = "".join(file.read_text() for file in _files(cell))
    for option in sorted(cell.model_fields_set - OF_EVERY_CELL):
        if not re.search(rf"\.{option}\b", text):
            return (
                f"{option} = {getattr(cell, option)!r}: fusion {cell.fusion!r} and objective "
                f"{cell.objective!r} do not read it; leave it out"
            )
    return None


def _files(cell: Cell) -> set[Path]:
    """The cell's two files and those that they import, as mopoe builds on poe; without what every
    training reads."""
    own = {
        Path(f"models/fusions/{cell.fusion}.py"),
        Path(f"models/objectives/{cell.objective}.py"),
    }
    return _with_imported(own) - _with_imported({TRAINING})


def _with_imported(files: set[Path]) -> set[Path]:
    """Files of this project, and those that they import, and so on."""
    found: set[Path] = set()
    todo = set(files)
    while todo:
        file = todo.pop()
        found.add(file)
        named = {Path(*n.split(".")).with_suffix(".py") for n in _imported(file, file.read_text())}
        todo |= {path for path in named if path.is_file()} - found
    return found


@functools.cache
def _imported(file: Path, text: str) -> frozenset[str]:
    """Names of the modules that a file's text may import.

    Raises:
        ValueError: names the file that is not Python.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{file}: SyntaxError: {error}") from None
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = file.parts[: -node.level] if node.level else ()  # from . import poe
            module = ".".join([*package, *filter(None, [node.module])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(names)

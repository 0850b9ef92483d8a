"""The cells of a grid: their names and seeds in params.yaml, and the code that each stands for."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.params import Cell
from pipeline.stage import MODALITIES

__all__ = ["GridParams", "code"]


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
            if not name.replace("-", "").replace("_", "").isalnum() or name in (
                *MODALITIES,
                "unimodal",
            ):
                raise ValueError(
                    f"{name!r} is not a cell name: letters, digits, - and _, "
                    f"and none of {', '.join(MODALITIES)}, unimodal"
                )
        return cells


def code(cell: Cell) -> bytes:
    """The files that define a cell's fusion and objective, and their digests."""
    files: set[Path] = set()
    todo = [
        Path(f"models/fusions/{cell.fusion}.py"),
        Path(f"models/objectives/{cell.objective}.py"),
    ]
    while todo:
        file = todo.pop()
        files.add(file)
        # A fusion may build on another, as mopoe does on poe.
        for folder, name in re.findall(
            r"models\.(fusions|objectives)(?:\.| import )(\w+)", file.read_text()
        ):
            todo += {Path(f"models/{folder}/{name}.py")} - files
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f}\n" for f in sorted(files)]
    return "".join(lines).encode()

"""Stage `check`: validate the whole of params.yaml before any other stage touches anything.

DVC deletes a stage's outputs before it runs its command, so a stage that refuses its own params
has already lost its last result. Every other stage depends on this one's constant output instead.

It also writes, for each cell of the grid, which code the cell's fusion and objective are. A cell
depends on that file, so that an edited fusion makes its own cells stale and no others; dvc.yaml
cannot say `models/fusions/${item.cell.fusion}.py`, since a DVC matrix over a mapping yields its
keys alone.
"""

from __future__ import annotations

from pathlib import Path

from models.params import Cell
from pipeline import params
from pipeline.cells import write_checked

__all__ = ["main"]

FOLDER = Path("data/checked")
UNIMODAL = Cell(fusion="poe", objective="none")


def main() -> None:
    """Check params.yaml, then write files that change only if what they stand for does."""
    write_checked(FOLDER, {**params.load().grid.cells, "unimodal": UNIMODAL})


if __name__ == "__main__":
    main()

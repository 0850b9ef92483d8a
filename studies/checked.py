"""What the studies' `check` stages share: the grid, and what contradicts in it."""

from __future__ import annotations

from pydantic import Field

from models.params import Cell, VAEParams, check_cell
from pipeline.cells import GridParams, unread
from pipeline.running.stage import shown
from pipeline.study import Study

__all__ = ["StudyGrid", "check_cells"]


class StudyGrid(GridParams):
    """Which cells are trained, and how the unimodal VAEs that synergy is measured against are."""

    unimodal: Cell = Field(description="of the unimodal VAEs: samples K and other options")


def check_cells(study: Study, vae: VAEParams, grid: StudyGrid) -> None:
    """Refuse modalities that are not the study's, and cells that contradict the `vae:` section.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    if sorted(vae.modalities) != sorted(study.modalities):
        raise ValueError(
            f"vae.modalities = {shown(sorted(vae.modalities))}: must be {sorted(study.modalities)}"
        )
    plain = Cell()
    if (grid.unimodal.fusion, grid.unimodal.objective) != (plain.fusion, plain.objective):
        raise ValueError(
            f"grid.unimodal: with one modality there is only fusion {plain.fusion}, "
            f"objective {plain.objective}"
        )
    for name, cell in {**grid.cells, "unimodal": grid.unimodal}.items():
        if name.lower() in study.modalities:
            raise ValueError(f"grid.cells.{name}: is the name of a modality; choose another")
        try:
            check_cell(vae, cell)
        except ValueError as error:
            raise ValueError(f"grid.cells.{name}: {error}") from None
        if wrong := unread(cell):
            raise ValueError(f"grid.cells.{name}.{wrong}")

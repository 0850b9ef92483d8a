"""Random modality dropout: one random non-empty subset reconstructs all."""

from __future__ import annotations

from models.mixture import Draws
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["plan"]


def plan(layout: Layout, cell: Cell, draws: Draws) -> Plan:
    """T = 1; the subset is uniform over the 2^M - 1, per step (as in the paper) or per sample."""
    every = layout.every_subset()
    count = layout.batch if cell.per == "sample" else 1
    row = (draws.uniform((count,), layout.like) * len(every)).long()
    return Plan(layout.sees(every[row].T[None]))

"""Exhaustive cross generation: every non-empty subset reconstructs all (eq. 12)."""

from __future__ import annotations

from models.mixture import Draws
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["plan"]


def plan(layout: Layout, cell: Cell, draws: Draws) -> Plan:
    """T = 2^M - 1 terms, the full set counted once."""
    return Plan(layout.sees(layout.every_subset()), static=True)

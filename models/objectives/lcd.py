"""Latent component dropout: elements revert to the prior before fusion (eqs. 13, 14)."""

from __future__ import annotations

from models.mixture import Draws
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["plan"]


def plan(layout: Layout, cell: Cell, draws: Draws) -> Plan:
    """T = 1; each element of each expert is kept with probability 1 - alpha."""
    shape = (len(layout.covers), 1, layout.batch, layout.latent)
    keep = draws.uniform(shape, layout.like) >= cell.alpha
    return Plan(layout.sees(layout.full()), keep=keep)

"""Joint encoder with KL terms to the encoders of smaller sets (JMVAE, Suzuki et al. 2017)."""

from __future__ import annotations

from models.mixture import Draws
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["plan"]


def plan(layout: Layout, cell: Cell, draws: Draws) -> Plan:
    """T = 1: the full set's expert, minus cross * KL(q||q_e) to each expert e of fewer inputs."""
    cross = dict.fromkeys(range(len(layout.covers) - 1), cell.cross)
    return Plan(layout.sees(layout.full()), cross=cross)

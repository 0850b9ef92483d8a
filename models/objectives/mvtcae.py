"""Total correlation explained (MVTCAE, Hwang et al. 2021)."""

from __future__ import annotations

from models.mixture import Draws
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["plan"]


def plan(layout: Layout, cell: Cell, draws: Draws) -> Plan:
    """(M-a)/M log p(x|z) - beta ((1-a) KL(q||prior) + a/M sum_i KL(q||q_i)), a = cell.tc."""
    count, full = layout.modalities, layout.full()
    target = ((count - cell.tc) / count) * full.T[..., None].to(layout.like.dtype)
    cross = dict.fromkeys(range(count), cell.beta * cell.tc / count)
    return Plan(layout.sees(full), target=target, beta=1 - cell.tc, cross=cross)

"""One term: all modalities in, all out (eq. 4)."""

from __future__ import annotations

from models.mixture import Draws
from models.params import Options
from models.plan import Layout, Plan

__all__ = ["plan"]


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """T = 1 with every expert."""
    return Plan(layout.sees(layout.full()))

"""Exhaustive cross generation: every non-empty subset reconstructs all (eq. 12)."""

from __future__ import annotations

from models.mixture import Draws
from models.objectives import Traits
from models.params import Options
from models.plan import Layout, Plan

__all__ = ["TRAITS", "plan"]

TRAITS = Traits(trains_subsets=True)


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """T = 2^M - 1 terms, the full set counted once."""
    return Plan(layout.sees(layout.every_subset()), static=True)

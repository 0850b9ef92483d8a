"""Random modality dropout: one random non-empty subset reconstructs all."""

from __future__ import annotations

from typing import Literal

from models import params
from models.mixture import Draws
from models.objectives import Traits
from models.plan import Layout, Plan

__all__ = ["TRAITS", "Options", "plan"]

TRAITS = Traits(trains_subsets=True)


class Options(params.Options):
    per: Literal["step", "sample"] = "step"
    """one random subset per step (the paper's), or per sample"""


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """T = 1; the subset is uniform over the 2^M - 1, per step (as in the paper) or per sample."""
    every = layout.every_subset()
    count = layout.batch if options.per == "sample" else 1
    row = (draws.uniform((count,), layout.like) * len(every)).long()
    return Plan(layout.sees(every[row].T[None]))

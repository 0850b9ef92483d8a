"""MVAE's sub-sampling: each term reconstructs only what it sees (Wu and Goodman 2018)."""

from __future__ import annotations

import torch
from pydantic import Field

from models import fusions, params
from models.mixture import Draws
from models.objectives import Traits
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["TRAITS", "Options", "plan", "refuse"]

TRAITS = Traits(trains_subsets=True)


class Options(params.Options):
    subsets: int = Field(default=1, ge=0, le=1000)
    """random subsets drawn each step"""


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """T = 1 + M + k: the full set, each modality alone and k random non-empty subsets."""
    every = layout.every_subset()
    row = (draws.uniform((options.subsets,), layout.like) * len(every)).long()
    given = torch.cat([every[-1:], every[: layout.modalities], every[row]])
    target = given.T[..., None].to(layout.like.dtype)
    return Plan(layout.sees(given), target=target, static=options.subsets == 0)


def refuse(options: Options, cell: Cell, modalities: int | None) -> str:
    """Encoders of sets between one modality and all, which only a random subset shows."""
    between = modalities is not None and modalities > 2
    if fusions.traits(cell.fusion).subset_experts and options.subsets == 0 and between:
        return (
            f"subsets: 0 with fusion {cell.fusion!r} and {modalities} modalities never trains the "
            "encoders of pairs; use subsets 1 or more"
        )
    return ""

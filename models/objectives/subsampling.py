"""MVAE's sub-sampling: each term reconstructs only what it sees (Wu and Goodman 2018)."""

from __future__ import annotations

import torch

from models.mixture import Draws
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["plan"]


def plan(layout: Layout, cell: Cell, draws: Draws) -> Plan:
    """T = 1 + M + k: the full set, each modality alone and k random non-empty subsets."""
    every = layout.every_subset()
    row = (draws.uniform((cell.subsets,), layout.like) * len(every)).long()
    given = torch.cat([every[-1:], every[: layout.modalities], every[row]])
    target = given.T[..., None].to(layout.like.dtype)
    return Plan(layout.sees(given), target=target, static=cell.subsets == 0)

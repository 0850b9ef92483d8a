"""A random subset, and the rest given all: log p(x) by its chain rule (Hirt et al. 2024)."""

from __future__ import annotations

import torch

from models.mixture import Draws
from models.objectives import Traits
from models.params import Options
from models.plan import Layout, Plan

__all__ = ["TRAITS", "plan"]

TRAITS = Traits(trains_subsets=True, importance=False)


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """T = 2, of a subset S: log p(x_S) and log p(x_rest|x_S), each by a bound.

    E_{q_S} log p(x_S|z) - beta KL(q_S||p), and E_{q_all} log p(x_rest|z) - beta KL(q_all||q_S).
    S is uniform over the non-empty subsets, anew for every sample; with the full set, as with none,
    this is the ELBO. Each modality is decoded once, from the term that must reconstruct it.
    """
    every = layout.every_subset()
    row = (draws.uniform((layout.batch,), layout.like) * len(every)).long()
    given = every[row].T  # [M, B]
    return Plan(
        layout.sees(torch.stack([given, torch.ones_like(given)])),
        beta=0.0,
        links={(0, None): layout.beta, (1, 0): layout.beta},
        heads=(~given).long()[:, None],
    )

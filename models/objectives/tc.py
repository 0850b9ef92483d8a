"""All modalities from the full set, whose posterior is drawn to a random subset's (Hirt et al.)."""

from __future__ import annotations

import torch

from models.mixture import Draws
from models.objectives import Traits
from models.params import Options
from models.plan import Layout, Plan

__all__ = ["TRAITS", "plan"]

TRAITS = Traits(trains_subsets=True, importance=False)


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """E_{q_all} log p(x|z) - beta KL(q_all||q_S); q_S is the prior where S is empty.

    T = 2; the second is q_S and decodes nothing. S is uniform over all subsets but the full one,
    whose KL is 0, anew for every sample.
    """
    every = layout.every_subset()
    row = (draws.uniform((layout.batch,), layout.like) * len(every)).long()
    given = ~every[row].T  # [M, B]
    empty = ~given.any(0)
    return Plan(
        layout.sees(torch.stack([torch.ones_like(given), given | empty])),  # some expert, or none
        beta=0.0,
        links={(0, None): layout.beta * empty, (0, 1): layout.beta * ~empty},
        heads=torch.zeros_like(every[:1].T[..., None], dtype=torch.long),
    )

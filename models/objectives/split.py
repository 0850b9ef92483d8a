"""The full set and the two sides of a random split of the modalities: ecg at a part of its cost."""

from __future__ import annotations

import torch
from pydantic import Field

from models import params
from models.mixture import Draws
from models.objectives import Traits
from models.plan import Layout, Plan

__all__ = ["TRAITS", "Options", "plan"]

TRAITS = Traits(trains_subsets=True, least_modalities=2)


class Options(params.Options):
    share: float = Field(default=0.5, gt=0, lt=1)
    """weight of the full set; the rest is the sides'"""


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """T = 3: share ELBO(all) + (1 - share)/2 (ELBO(S) + ELBO(rest)), each reconstructing all.

    S is uniform over the proper subsets, anew for every sample. With share = 1/(2^M - 1) the mean
    over S is ecg's bound (eq. 12) over 2^M - 1, for two modalities whatever is drawn.
    """
    proper = layout.every_subset()[:-1]
    row = (draws.uniform((layout.batch,), layout.like) * len(proper)).long()
    side = proper[row].T  # [M, B]
    full, sides = layout.like.new_full((1,), options.share), (1 - options.share) / 2
    weight = torch.cat([full, full.new_full((2,), sides)])
    given = torch.stack([torch.ones_like(side), side, ~side])
    return Plan(layout.sees(given), weight=weight)

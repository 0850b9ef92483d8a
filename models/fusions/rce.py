"""Random component expert: any present expert, drawn per latent element."""

from __future__ import annotations

import torch

from models.fusions import Traits
from models.mixture import Draws, Experts, Mixture
from models.params import Options

__all__ = ["TRAITS", "fuse"]

TRAITS = Traits(random=True)


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """Each element is that of one expert, uniform among those present.

    The Gaussian given the choice is what is returned: its log q makes a valid bound.
    """
    shape = torch.broadcast_shapes(experts.mean.shape, experts.present.shape)[1:]
    present = experts.present.long()
    count = present.sum(0)
    rank = (draws.uniform(shape, experts.mean) * count).long().minimum(count - 1)
    nth = experts.present & (present.cumsum(0) - 1 == rank)
    return experts.chosen(nth.long().argmax(0))

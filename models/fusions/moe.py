"""Mixture of experts (MMVAE, Shi et al. 2019)."""

from __future__ import annotations

import torch

from models.fusions import Traits
from models.mixture import Draws, Experts, Mixture
from models.params import Options

__all__ = ["TRAITS", "fuse"]

TRAITS = Traits(mixture=True)


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """q(z) = 1/n sum_i q_i(z) over the n experts present; an absent one has weight 0."""
    shape = torch.broadcast_shapes(experts.mean.shape, experts.present.shape)
    weight = experts.present / experts.present.sum(0)
    mean = torch.where(experts.present, experts.mean, 0.0)
    var = torch.where(experts.present, experts.var, 1.0)
    return Mixture(mean.expand(shape), var.expand(shape), weight.squeeze(-1).log())

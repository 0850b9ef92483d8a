"""Mixture of products of experts (MoPoE, Sutter et al. 2021)."""

from __future__ import annotations

from itertools import product

import torch

from models.fusions import Traits, poe
from models.mixture import Draws, Experts, Mixture
from models.plan import constant

__all__ = ["TRAITS", "Options", "fuse"]

TRAITS = Traits(mixture=True)
Options = poe.Options


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """q(z) = mean over the non-empty subsets of what is present of poe(subset).

    Component c is the subset whose bits are c + 1 (the first expert is the highest bit).
    """
    means, variances, alive = [], [], []
    every = tuple(product((False, True), repeat=len(experts.mean)))[1:]
    for members in constant(every, experts.mean.device)[..., None, None, None]:
        whole = (experts.present | ~members).all(0)  # [T, B|1, 1]
        subset = Experts(experts.mean, experts.var, members & experts.present)
        one = poe.fuse(subset, options, draws)
        means.append(torch.where(whole, one.mean[0], 0.0))
        variances.append(torch.where(whole, one.var[0], 1.0))
        alive.append(whole.squeeze(-1))
    weight = torch.stack(alive) / torch.stack(alive).sum(0)
    return Mixture(torch.stack(means), torch.stack(variances), weight.log())

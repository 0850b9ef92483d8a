"""Average of the experts' square roots, moment-matched (Hellinger VAE, Vo et al. 2026)."""

from __future__ import annotations

import math
from typing import Literal

import torch

from models import params
from models.mixture import Draws, Experts, Mixture, gaussian

__all__ = ["Options", "fuse"]


class Options(params.Options):
    overlap: Literal["element", "joint"] = "element"
    """overlap of two experts: in each latent element, or in all together"""


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """The Gaussian with mean and variance of h ~ (sum_i sqrt q_i)^2 = sum_ij sqrt(q_i q_j).

    A pair is S_ij N(m_ij, v_ij): 1/v_ij = (1/var_i + 1/var_j)/2, m_ij = v_ij (mean_i/var_i +
    mean_j/var_j)/2, S_ij^2 = 2 s_i s_j/(var_i + var_j) exp(-(mean_i - mean_j)^2/(2 (var_i +
    var_j))), with s = sqrt(var). `joint` takes S_ij as the product over the elements (the paper's):
    in many dimensions that leaves the pairs of an expert and itself, the moments of moe.
    """
    mean = torch.where(experts.present, experts.mean, 0.0)
    var = torch.where(experts.present, experts.var, 1.0)
    total = var[:, None] + var  # [E, E, T, B, L]
    pair_var = 2 / (1 / var[:, None] + 1 / var)
    pair_mean = pair_var * ((mean / var)[:, None] + mean / var) / 2
    scale = math.log(2) + (var[:, None].log() + var.log()) / 2 - total.log()
    overlap = scale / 2 - (mean[:, None] - mean).square() / (4 * total)
    if options.overlap == "joint":
        overlap = overlap.sum(-1, keepdim=True)
    both = experts.present[:, None] & experts.present
    weight = torch.where(both, overlap, -torch.inf).flatten(0, 1).softmax(0)
    pair_mean, pair_var = pair_mean.flatten(0, 1), pair_var.flatten(0, 1)
    joint = (weight * pair_mean).sum(0)
    return gaussian(joint, (weight * (pair_var + (pair_mean - joint).square())).sum(0))

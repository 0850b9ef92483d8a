"""Robust Bayesian committee machine, beta per latent dimension (eqs. 6-9)."""

from __future__ import annotations

from torch import Tensor

from models.mixture import Draws, Experts, Mixture, gaussian
from models.params import Options

__all__ = ["committee", "fuse"]


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """q(z) ~ prod_i q_i(z)^beta_i / p(z)^(sum beta - 1), beta = (log 1 - log var_i) / 2.

    Where an expert is broader than the prior its beta is negative; the joint precision still is
    at least the prior's, as every term beta_i (1 / var_i - 1) is at least 0.
    """
    return committee(experts, -0.5 * experts.var.log())


def committee(experts: Experts, beta: Tensor) -> Mixture:
    """Eqs. 6-8 for any beta [E, T|1, B, L]; beta = 1 is the Bayesian committee machine."""
    precision = 1 + experts.total(beta * (1 / experts.var - 1))
    mean = experts.total(beta * experts.mean / experts.var) / precision
    return gaussian(mean, 1 / precision)

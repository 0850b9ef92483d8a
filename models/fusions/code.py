"""Consensus of dependent experts (CoDE-VAE): errors of the experts correlate by rho."""

from __future__ import annotations

from pydantic import Field

from models import params
from models.mixture import Draws, Experts, Mixture, gaussian

__all__ = ["Options", "fuse"]


class Options(params.Options):
    prior_expert: bool = True
    """the prior is one of the experts"""
    rho: float = Field(default=0.3, ge=0, lt=1)
    """correlation of the experts' errors"""


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """The generalised least-squares consensus of k experts with covariance s_i s_j rho.

    Per element, with s = 1/sigma and S = sum s over the k present: expert i has weight
    w_i = s_i (s_i - rho S / (1 + (k-1) rho)) / (1 - rho), the precision is sum w_i and the mean
    sum w_i mean_i / precision. rho = 0 is poe.
    """
    s = experts.var.rsqrt()
    count = experts.present.sum(0).to(s.dtype)
    shared = options.rho * experts.total(s) / (1 + (count - 1) * options.rho)
    weight = s * (s - shared) / (1 - options.rho)
    precision = experts.total(weight) + float(options.prior_expert)
    return gaussian(experts.total(weight * experts.mean) / precision, 1 / precision)

"""Consensus of dependent experts (CoDE-VAE): errors of the experts correlate by rho."""

from __future__ import annotations

from models.mixture import Draws, Experts, Mixture, gaussian
from models.params import Cell

__all__ = ["fuse"]


def fuse(experts: Experts, cell: Cell, draws: Draws) -> Mixture:
    """The generalised least-squares consensus of k experts with covariance s_i s_j rho.

    Per element, with s = 1/sigma and S = sum s over the k present: expert i has weight
    w_i = s_i (s_i - rho S / (1 + (k-1) rho)) / (1 - rho), the precision is sum w_i and the mean
    sum w_i mean_i / precision. rho = 0 is poe.
    """
    s = experts.var.rsqrt()
    count = experts.present.sum(0).to(s.dtype)
    shared = cell.rho * experts.total(s) / (1 + (count - 1) * cell.rho)
    weight = s * (s - shared) / (1 - cell.rho)
    precision = experts.total(weight) + float(cell.prior_expert)
    return gaussian(experts.total(weight * experts.mean) / precision, 1 / precision)

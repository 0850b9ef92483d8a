"""Product of experts (MVAE, Wu and Goodman 2018), with the prior expert."""

from __future__ import annotations

from models.mixture import Draws, Experts, Mixture, gaussian
from models.params import Cell

__all__ = ["fuse"]


def fuse(experts: Experts, cell: Cell, draws: Draws) -> Mixture:
    """q(z) ~ p(z) prod_i q_i(z): precisions add up, means are weighted by precision."""
    precision = experts.total(1 / experts.var) + float(cell.prior_expert)
    mean = experts.total(experts.mean / experts.var) / precision
    return gaussian(mean, 1 / precision)

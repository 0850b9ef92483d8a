"""Product of experts (MVAE, Wu and Goodman 2018), with the prior expert."""

from __future__ import annotations

from models import params
from models.mixture import Draws, Experts, Mixture, gaussian

__all__ = ["Options", "fuse"]


class Options(params.Options):
    prior_expert: bool = True
    """the prior is one of the experts"""


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """q(z) ~ p(z) prod_i q_i(z): precisions add up, means are weighted by precision."""
    precision = experts.total(1 / experts.var) + float(options.prior_expert)
    mean = experts.total(experts.mean / experts.var) / precision
    return gaussian(mean, 1 / precision)

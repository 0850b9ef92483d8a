"""Best component expert: the narrowest expert, per latent element (eqs. 10, 11)."""

from __future__ import annotations

import torch

from models.mixture import Draws, Experts, Mixture
from models.params import Options

__all__ = ["fuse"]


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """mean_j and var_j are those of expert argmin_i var_ij; the argmin is over the experts."""
    return experts.chosen(torch.where(experts.present, experts.var, torch.inf).argmin(0))

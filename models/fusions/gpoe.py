"""Generalised product of experts (Cao and Fleet 2014): learned weights of modality and element."""

from __future__ import annotations

import torch
from torch import Tensor

from models.mixture import Draws, Experts, Mixture, gaussian
from models.params import Options

__all__ = ["fuse", "own"]


def own(experts: int, latent: int) -> dict[str, Tensor]:
    """The logits [E, L] of the weights; all experts begin alike."""
    return {"logits": torch.zeros(experts, latent)}


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """q(z) ~ prod_i q_i(z)^w_i, w = softmax of the logits of the experts present.

    precision = sum w_i / var_i, mean = sum w_i mean_i / var_i / precision. As the weights sum to 1,
    whoever is missing, an expert alone is itself and experts that agree are not counted twice.
    """
    logits = experts.own["logits"][:, None, None]  # [E, 1, 1, L]
    weight = torch.where(experts.present, logits, -torch.inf).softmax(0)
    precision = experts.total(weight / experts.var)
    mean = experts.total(weight * experts.mean / experts.var) / precision
    return gaussian(mean, 1 / precision)

"""Learned weights of the subsets' bounds (CoDE-VAE, Mancisidor et al. 2025)."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from models import params
from models.mixture import Draws
from models.objectives import Traits
from models.plan import Layout, Plan

__all__ = ["TRAITS", "Options", "own", "plan"]

TRAITS = Traits(trains_subsets=True)


class Options(params.Options):
    entropy: float = Field(default=1000.0, gt=0, le=1e9)
    """nats that a nat of the weights' entropy is worth: a subset whose bound is that much worse
    weighs e times less"""


def own(modalities: int) -> dict[str, Tensor]:
    """The logits of the subsets' weights; all subsets begin alike."""
    return {"logits": torch.zeros(2**modalities - 1)}


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """ecg's T = 2^M - 1 terms in a convex combination: sum_t w_t ELBO_t + entropy * H(w).

    w = softmax(logits) learns with the networks; at its best w_t ~ exp(ELBO_t / entropy), so
    without the entropy all weight would go to one subset.
    """
    weight = layout.own["logits"].softmax(0)
    sees = layout.sees(layout.every_subset())
    return Plan(sees, static=True, weight=weight, entropy=options.entropy)

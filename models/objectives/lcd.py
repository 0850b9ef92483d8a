"""Latent component dropout: elements revert to the prior before fusion (eqs. 13, 14)."""

from __future__ import annotations

from pydantic import Field

from models import params
from models.mixture import Draws
from models.objectives import Traits
from models.plan import Layout, Plan

__all__ = ["TRAITS", "Options", "plan"]

TRAITS = Traits(missing_as_prior=True)


class Options(params.Options):
    alpha: float = Field(default=0.5, ge=0, le=1)
    """probability that an element reverts to the prior"""


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """T = 1; each element of each expert is kept with probability 1 - alpha."""
    shape = (len(layout.covers), 1, layout.batch, layout.latent)
    keep = draws.uniform(shape, layout.like) >= options.alpha
    return Plan(layout.sees(layout.full()), keep=keep)

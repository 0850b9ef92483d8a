"""Total correlation explained (MVTCAE, Hwang et al. 2021)."""

from __future__ import annotations

from pydantic import Field

from models import params
from models.mixture import Draws
from models.objectives import Traits
from models.plan import Layout, Plan

__all__ = ["TRAITS", "Options", "plan"]

TRAITS = Traits(importance=False)


class Options(params.Options):
    tc: float = Field(default=5 / 6, ge=0, le=1)
    """share of the total-correlation part"""


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """(M-a)/M log p(x|z) - beta ((1-a) KL(q||prior) + a/M sum_i KL(q||q_i)), a = tc."""
    count, full = layout.modalities, layout.full()
    target = ((count - options.tc) / count) * full.T[..., None].to(layout.like.dtype)
    cross = dict.fromkeys(range(count), layout.beta * options.tc / count)
    return Plan(layout.sees(full), target=target, beta=1 - options.tc, cross=cross)

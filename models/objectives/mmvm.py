"""Each modality from its own posterior, which is drawn to the joint one (Sutter et al. 2024)."""

from __future__ import annotations

import torch

from models.mixture import Draws
from models.objectives import Traits
from models.params import Options
from models.plan import Layout, Plan

__all__ = ["TRAITS", "plan"]

TRAITS = Traits(importance=False, least_modalities=2)


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """sum_m E_{q_m} log p(x_m|z) - beta KL(q_m||q), q_m given x_m alone, q the joint posterior.

    T = M + 1; the last is q and decodes nothing. With moe q is the mean of the q_m, MMVM's prior.
    """
    count, every = layout.modalities, layout.every_subset()
    own = torch.arange(count, device=every.device)
    return Plan(
        layout.sees(torch.cat([every[:count], every[-1:]])),
        beta=0.0,
        links={(term, count): layout.beta for term in range(count)},
        heads=own.view(-1, 1, 1),
    )

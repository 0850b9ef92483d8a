"""Reconstruction from the joint posterior and from each modality's own (CRMVAE, Suzuki 2023)."""

from __future__ import annotations

import torch

from models.mixture import Draws
from models.objectives import Traits
from models.params import Options
from models.plan import Layout, Plan

__all__ = ["TRAITS", "plan"]

TRAITS = Traits(importance=False)


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """The full set's term and one for each modality alone, M + 1 in all, and over M + 1.

    1/2 sum_m (E_q log p(x_m|z) + E_{q_m} log p(x_m|z)) - beta (KL(q||p) + sum_m KL(q||q_m)), with q
    the joint posterior and q_m that given x_m alone. Each modality is decoded twice.
    """
    count, every = layout.modalities, layout.every_subset()
    own = torch.arange(1, count + 1, device=every.device)
    links: dict[tuple[int, int | None], float | torch.Tensor] = {(0, None): layout.beta}
    return Plan(
        layout.sees(torch.cat([every[-1:], every[:count]])),
        target=layout.like.new_full((1, 1, 1), 0.5),
        beta=0.0,
        links=links | {(0, term): layout.beta for term in range(1, count + 1)},
        heads=torch.stack([0 * own, own], 1)[..., None],
        weight=layout.like.new_full((count + 1,), 1 / (count + 1)),
    )

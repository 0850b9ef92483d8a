"""The expert that covers what is present (JMVAE's subset encoders)."""

from __future__ import annotations

import torch

from models.mixture import Draws, Experts, Mixture
from models.params import Cell

__all__ = ["fuse"]


def fuse(experts: Experts, cell: Cell, draws: Draws) -> Mixture:
    """The last expert present: experts over subsets are ordered by size, the full set last."""
    order = torch.arange(1, len(experts.present) + 1, device=experts.mean.device)
    last = (experts.present * order.view(-1, 1, 1, 1)).argmax(0)
    shape = (last.shape[0], *experts.mean.shape[2:])
    return experts.chosen(last.expand(shape))

"""The expert that covers what is present (JMVAE's subset encoders)."""

from __future__ import annotations

import torch

from models import objectives
from models.fusions import Traits
from models.mixture import Draws, Experts, Mixture
from models.params import Cell, Options

__all__ = ["TRAITS", "fuse", "refuse"]

TRAITS = Traits(subset_experts=True)


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """The last expert present: experts over subsets are ordered by size, the full set last."""
    order = torch.arange(1, len(experts.present) + 1, device=experts.mean.device)
    last = (experts.present * order.view(-1, 1, 1, 1)).argmax(0)
    shape = (last.shape[0], *experts.mean.shape[2:])
    return experts.chosen(last.expand(shape))


def refuse(options: Options, cell: Cell, modalities: int | None) -> str:
    """An objective that never shows a smaller set."""
    if objectives.traits(cell.objective).trains_subsets:
        return ""
    return (
        f"objective: {cell.objective!r} with fusion {cell.fusion!r} never trains the encoders of "
        f"pairs; use {objectives.having('trains_subsets')}"
    )

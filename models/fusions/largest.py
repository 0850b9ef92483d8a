"""The expert that covers what is present (JMVAE's subset encoders)."""

from __future__ import annotations

from models.mixture import Draws, Experts, Mixture
from models.params import Cell

__all__ = ["fuse"]


def fuse(experts: Experts, cell: Cell, draws: Draws) -> Mixture:
    """The last expert present: experts over subsets are ordered by size, the full set last."""
    rank = experts.present.long().cumsum(0)
    last = rank.argmax(0)  # the first place where the count is complete
    shape = (last.shape[0], *experts.mean.shape[2:])
    return experts.chosen(last.expand(shape))

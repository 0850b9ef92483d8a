"""2-Wasserstein barycenter of diagonal Gaussians, uniform over the experts present."""

from __future__ import annotations

from models.mixture import Draws, Experts, Mixture, gaussian
from models.params import Options

__all__ = ["fuse"]


def fuse(experts: Experts, options: Options, draws: Draws) -> Mixture:
    """Means and standard deviations are averaged."""
    count = experts.present.sum(0)
    mean = experts.total(experts.mean) / count
    return gaussian(mean, (experts.total(experts.var.sqrt()) / count).square())

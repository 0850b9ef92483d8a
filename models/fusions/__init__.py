"""Fusions: how expert posteriors become a joint posterior. One file per fusion.

A file `NAME.py` defines `fuse(experts, options, draws) -> Mixture` and is found by its name. What
else it may declare, its options among it, is in `models/entries.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models import entries
from models.mixture import Draws, Experts, Mixture
from models.params import fusion_names

__all__ = ["Fuse", "Traits", "code_of", "having", "load", "traits"]

Fuse = Callable[[Experts, Any, Draws], Mixture]  # Any: the fusion's own Options


@dataclass(frozen=True)
class Traits:
    """In what a fusion differs from one Gaussian made of one expert for each modality.

    Attributes:
        mixture: its posterior has several components.
        random: it draws, for each latent element.
        subset_experts: it has an expert for each subset of the modalities.
    """

    mixture: bool = False
    random: bool = False
    subset_experts: bool = False


def load(name: str) -> Fuse:
    """The `fuse` function of `models/fusions/<name>.py`; only that file is imported."""
    fuse: Fuse = entries.module("fusion", name).fuse
    return fuse


def traits(name: str) -> Traits:
    """What fusion `name` declares of itself."""
    declared: Traits = getattr(entries.module("fusion", name), "TRAITS", Traits())
    return declared


def having(trait: str) -> str:
    """The fusions with this trait, in words."""
    return entries.having("fusion", trait, fusion_names())


def code_of(name: str) -> str:
    """The digest of the code of fusion `name` that this process has loaded."""
    return entries.code_of("fusion", name)

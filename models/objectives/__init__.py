"""Objectives: which experts each term of the bound sees, and what it must reconstruct.

A file `NAME.py` defines `plan(layout, options, draws) -> Plan` and is found by its name. What else
it may declare, its options among it, is in `models/entries.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models import entries
from models.mixture import Draws
from models.params import objective_names
from models.plan import Layout, Plan

__all__ = ["MakePlan", "Traits", "code_of", "having", "load", "traits"]

MakePlan = Callable[[Layout, Any, Draws], Plan]  # Any: the objective's own Options


@dataclass(frozen=True)
class Traits:
    """In what an objective differs from one ELBO of all modalities.

    Attributes:
        trains_subsets: it trains an expert of each subset of the modalities, if there are such.
        missing_as_prior: experts revert to the prior, so that a missing modality may be taken as
            that too, and is scored both ways.
        importance: it may be trained with K > 1 importance samples, as it has no KL terms of its
            own.
        least_modalities: how many modalities it needs.
    """

    trains_subsets: bool = False
    missing_as_prior: bool = False
    importance: bool = True
    least_modalities: int = 1


def load(name: str) -> MakePlan:
    """The `plan` function of `models/objectives/<name>.py`; only that file is imported."""
    plan: MakePlan = entries.module("objective", name).plan
    return plan


def traits(name: str) -> Traits:
    """What objective `name` declares of itself."""
    declared: Traits = getattr(entries.module("objective", name), "TRAITS", Traits())
    return declared


def having(trait: str) -> str:
    """The objectives with this trait, in words."""
    return entries.having("objective", trait, objective_names())


def code_of(name: str) -> str:
    """The digest of the code of objective `name` that this process has loaded."""
    return entries.code_of("objective", name)

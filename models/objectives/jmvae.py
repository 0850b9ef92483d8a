"""Joint encoder with KL terms to the encoders of smaller sets (JMVAE, Suzuki et al. 2017)."""

from __future__ import annotations

from pydantic import Field

from models import fusions, params
from models.mixture import Draws
from models.objectives import Traits
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["TRAITS", "Options", "plan", "refuse"]

TRAITS = Traits(trains_subsets=True, importance=False, least_modalities=2)


class Options(params.Options):
    cross: float = Field(default=0.1, ge=0, le=1000)
    """weight of each KL to a smaller expert"""


def plan(layout: Layout, options: Options, draws: Draws) -> Plan:
    """T = 1: the full set's expert, minus cross * KL(q||q_e) to each expert e of fewer inputs."""
    cross = dict.fromkeys(range(len(layout.covers) - 1), options.cross)
    return Plan(layout.sees(layout.full()), cross=cross)


def refuse(options: Options, cell: Cell, modalities: int | None) -> str:
    """Experts of single modalities, and encoders that nothing would train."""
    if not fusions.traits(cell.fusion).subset_experts:
        return (
            f"fusion: {cell.fusion!r} with objective {cell.objective!r}, whose experts are subset "
            f"encoders; only fusion {fusions.having('subset_experts')} uses them"
        )
    if options.cross == 0:
        return (
            f"cross: 0 with objective {cell.objective!r} never trains the encoders of smaller "
            "subsets"
        )
    return ""

"""What the params of the studies of Tables I and II, of two modalities each, have alike."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from base.params import Section
from models.params import VAEParams
from pipeline.cells import GridParams, LookedUp, check_cells, fused
from pipeline.scoring.params import Headline

__all__ = ["PairParams", "ScoreParams"]


class PairParams(Section):
    """The sections of every study of pairs."""

    names: ClassVar[tuple[str, str]]  # of the modalities

    vae: VAEParams
    grid: GridParams

    @model_validator(mode="after")
    def _cells_are_of_the_pair(self) -> PairParams:
        if set(self.vae.modalities) != set(self.names):
            given = sorted(self.vae.modalities)
            raise ValueError(f"vae.modalities = {given}: must be {sorted(self.names)}")
        check_cells(self.vae, self.grid)
        return self

    def looked_up(self) -> LookedUp:
        """What a stage finds by a name: the cells, and what they fuse."""
        cells = {**self.grid.cells, "unimodal": self.grid.unimodal}
        return LookedUp(cells, fused(self.vae, self.grid))


class ScoreParams(Headline):
    """How trained models are scored."""

    pairs: int = Field(ge=1, description="test pairs scored, 1 or more (all there are, if fewer)")
    point: Literal["mean", "sample"] = Field(
        description="which point of the posterior is decoded: its mean or one sample"
    )
    samples: int = Field(
        ge=1, le=1_000_000, description="prior samples for joint agreement, 1 to 1,000,000"
    )
    choose: int = Field(
        ge=1, description="training pairs on which a mixture's best component is chosen"
    )
    resamples: int = Field(
        ge=100, le=100_000, description="bootstrap resamples of the pairs; 100 to 100,000"
    )
    seed: int = Field(ge=0, le=2**63 - 1, description="of the evaluation's draws, 0 or more")

    @property
    def scenes(self) -> int:
        """How many test items are scored."""
        return self.pairs

    @property
    def choosing(self) -> int:
        """On how many items a component is chosen."""
        return self.choose

    @property
    def subsets(self) -> str:
        """Every subset of the two modalities is scored."""
        return "all"

    @property
    def cross_component(self) -> str:
        """A component is drawn where a modality is missing."""
        return "drawn"

    @property
    def synergy_component(self) -> str:
        """The best one is taken where none is, as in the paper."""
        return "best"

"""The `score:` section of params.yaml."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from base.params import Section
from pipeline.scoring.faults import FAULTS
from pipeline.scoring.metrics import DETECTED, Metrics, decisive

__all__ = ["FaultParams", "Headline", "ScoreParams"]


class FaultParams(Section):
    """Sensors that lie: what is wrong with them, how badly, and on how many scenes."""

    kinds: list[str] = Field(min_length=1, description=f"of {', '.join(FAULTS)}")
    severities: list[float] = Field(
        min_length=1,
        description="amounts, rising, above 0 to 1; pipeline/scoring/faults.py has units",
    )
    scenes: int = Field(ge=2, description="test scenes, the first of the split; scenes, 2+")

    @field_validator("kinds")
    @classmethod
    def _kinds_exist(cls, kinds: list[str]) -> list[str]:
        if unknown := [kind for kind in kinds if kind not in FAULTS]:
            raise ValueError(f"{unknown[0]!r:.60} is not one of {', '.join(FAULTS)}")
        if len(set(kinds)) < len(kinds):
            raise ValueError("each kind once")
        return kinds

    @field_validator("severities")
    @classmethod
    def _severities_rise(cls, severities: list[float]) -> list[float]:
        if severities != sorted(set(severities)) or severities[0] <= 0 or severities[-1] > 1:
            raise ValueError("must rise, each above 0 and at most 1")
        return severities


class Headline(Section):
    """Which of a study's metrics decides: the table is of it, and so is a component's choice."""

    metrics: ClassVar[Metrics]

    headline: str = Field(description="the metric that decides; one of which more is better")

    @field_validator("headline")
    @classmethod
    def _is_a_metric(cls, headline: str) -> str:
        return decisive(headline, cls.metrics)


class ScoreParams(Headline):
    """How trained models are scored."""

    metrics = DETECTED

    scenes: int = Field(ge=1, description="test scenes scored, the first of the split; scenes, 1+")
    subsets: Literal["table", "all"] = Field(
        description="what is scored: `table` (Table III's columns) or `all` (each modality from "
        "each of 2^M - 1 subsets)"
    )
    point: Literal["mean", "sample"] = Field(
        description="which point of the posterior is decoded: its mean or one sample"
    )
    cross_component: Literal["drawn", "best"] = Field(
        description="component of a mixture in the subset matrix: one drawn per scene by its "
        "weight, or the best on validation for each subset"
    )
    synergy_component: Literal["best", "drawn"] = Field(
        description="component of a mixture in the synergy gain: the best on validation for all "
        "scenes, or one drawn per scene"
    )
    choosing: int = Field(
        ge=1,
        description="validation scenes on which a mixture's best component is chosen, the first "
        "of the split; scenes, 1+",
    )
    samples: int = Field(
        ge=0,
        le=1_000_000,
        description="prior samples for joint agreement; samples, 0 = skip, to 1,000,000",
    )
    resamples: int = Field(
        ge=100, le=100_000, description="bootstrap resamples of the scenes; 100 to 100,000"
    )
    seed: int = Field(
        ge=0,
        le=2**63 - 1,
        description="seed of draws (keyed by scene number), resamples and faults; 0 to 2^63 - 1",
    )
    faults: FaultParams

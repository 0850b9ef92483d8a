"""The `score:` section of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ScoreParams"]


class ScoreParams(BaseModel):
    """How trained models are scored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    scenes: int = Field(ge=1, description="test scenes scored, the first of the split; scenes, 1+")
    subsets: Literal["table", "all"] = Field(
        description="input subsets scored: `table` (what Table III needs) or `all` 2^M - 1"
    )
    point: Literal["mean", "sample"] = Field(
        description="which point of the posterior is decoded: its mean or one sample"
    )
    samples: int = Field(ge=0, description="prior samples for joint agreement; samples, 0 = skip")
    seed: int = Field(ge=0, description="seed of the evaluation draws, keyed by scene number")

"""Typed sections of studies/mnist_svhn/params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from base.params import Section
from pipeline.scoring.metrics import Metric, named
from studies import params
from studies.params import PairParams

__all__ = [
    "METRICS",
    "ClassifierParams",
    "DataParams",
    "EmbeddedParams",
    "Params",
    "ReportParams",
    "ScoreParams",
]

METRICS = named(Metric("accuracy", "accuracy (%)", True, lambda right: 100 * right.mean))


class EmbeddedParams(Section):
    """Street numbers drawn here, when `source` is `embedded`."""

    train: int = Field(ge=10, le=1_000_000, description="street numbers to train on, 10 or more")
    test: int = Field(ge=10, le=1_000_000, description="street numbers to test on, 10 or more")
    side: Literal[16, 32] = Field(description="pixels of a street number's side, 16 or 32")
    seed: int = Field(ge=0, le=2**63 - 1, description="of the drawings, 0 or more")


class DataParams(Section):
    """Which digits, and how they are paired."""

    source: Literal["embedded", "files"] = Field(
        description="embedded: scikit-learn's digits and drawn street numbers; files: MNIST, SVHN"
    )
    folder: str = Field(min_length=1, description="where MNIST's and SVHN's files lie")
    download: bool = Field(description="try to download files that are missing")
    repeats: int = Field(
        ge=1, le=100, description="street numbers paired with each training digit, 1 to 100"
    )
    seed: int = Field(ge=0, le=2**63 - 1, description="of the pairing, 0 or more")
    embedded: EmbeddedParams


class ClassifierParams(Section):
    """The two digit classifiers, trained once and frozen."""

    epochs: int = Field(ge=1, le=1000, description="passes over the training pictures, 1 to 1000")
    batch: int = Field(ge=2, le=10_000, description="pictures a step, 2 to 10,000")
    learning_rate: float = Field(gt=0, le=1, description="Adam's, above 0 to 1")
    seed: int = Field(ge=0, le=2**63 - 1, description="of weights and batches, 0 or more")


class ReportParams(Section):
    """The page."""

    examples: int = Field(ge=1, le=20, description="pairs in the pictures, 1 to 20")


class ScoreParams(params.ScoreParams):
    """How trained models are scored."""

    metrics = METRICS


class Params(PairParams):
    """The whole of studies/mnist_svhn/params.yaml."""

    names = ("mnist", "svhn")

    data: DataParams
    classifier: ClassifierParams
    score: ScoreParams
    report: ReportParams

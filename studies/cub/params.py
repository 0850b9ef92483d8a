"""Typed sections of studies/cub/params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from base.params import Section
from pipeline.scoring.metrics import Metric, named
from studies import params
from studies.params import PairParams

__all__ = [
    "METRICS",
    "CCAParams",
    "DataParams",
    "FeatureParams",
    "Params",
    "ReportParams",
    "SceneCount",
    "ScoreParams",
    "TextParams",
]

METRICS = named(Metric("cosine", "cosine", True, lambda pairs: pairs.mean))


class SceneCount(Section):
    """The rendered scenes, when `source` is `embedded`."""

    count: int = Field(ge=60, le=100_000, description="scenes rendered, 60 or more")
    side: int = Field(ge=32, le=256, description="pixels of a picture's side, 32 to 256")
    seed: int = Field(ge=0, le=2**63 - 1, description="of scenes and captions, 0 or more")


class DataParams(Section):
    """Which pictures and captions, and how they are split."""

    source: Literal["embedded", "files"] = Field(
        description="embedded: rendered scenes with generated captions; files: CUB"
    )
    folder: str = Field(min_length=1, description="where CUB's folders (or archive) lie")
    download: bool = Field(description="try to download CUB's archive if it is missing")
    test_share: float = Field(
        gt=0, lt=1, description="embedded: share of the classes held out; CUB's files name theirs"
    )
    seed: int = Field(ge=0, le=2**63 - 1, description="embedded: of the split, 0 or more")
    embedded: SceneCount


class FeatureParams(Section):
    """What turns a picture into numbers."""

    extractor: Literal["resnet101", "small"] = Field(
        description="resnet101: ImageNet's, from a local file; small: a CNN trained here on the "
        "training pictures' classes"
    )
    weights: str = Field(min_length=1, description="resnet101: the file of weights")
    side: int = Field(ge=32, le=512, description="pixels pictures are resized to, 32 to 512")
    size: int = Field(ge=8, le=2048, description="small: numbers per picture, 8 to 2048")
    normalise: bool = Field(
        description="give pictures ImageNet's mean and deviation; the field does not"
    )
    epochs: int = Field(ge=1, le=1000, description="small: passes over the training pictures")
    seed: int = Field(ge=0, le=2**63 - 1, description="small: of weights and batches, 0 or more")


class TextParams(Section):
    """Captions as sequences of FastText vectors."""

    words: int = Field(ge=2, le=128, description="words of a caption, longer ones are cut")
    size: int = Field(ge=4, le=1024, description="numbers per word")
    window: int = Field(ge=1, le=20, description="FastText's window, words to each side")
    min_count: int = Field(ge=1, le=1000, description="rarer words get no entry of the vocabulary")
    epochs: int = Field(ge=1, le=1000, description="FastText's passes over the training captions")
    buckets: int = Field(ge=1000, le=10_000_000, description="hash buckets of FastText's n-grams")
    sif: float = Field(gt=0, le=1, description="a of the SIF weights a / (a + p)")
    recipe: Literal["arora", "field"] = Field(
        description="what the CCA sees of a caption. arora: vectors centred and of one length, "
        "less the principal direction of the embeddings as they are; field: vectors as FastText "
        "gives them, less the principal direction about the embeddings' mean"
    )
    seed: int = Field(ge=0, le=2**32 - 1, description="of FastText, 0 to 2^32 - 1")


class CCAParams(Section):
    """The projections that score picture against caption."""

    size: int = Field(ge=1, le=512, description="canonical directions k")
    ridge: float = Field(ge=0, le=1, description="added to variances, as a share of their mean")


class ReportParams(Section):
    """The page."""

    examples: int = Field(ge=1, le=12, description="pictures with generated captions, 1 to 12")


class ScoreParams(params.ScoreParams):
    """How trained models are scored."""

    metrics = METRICS


class Params(PairParams):
    """The whole of studies/cub/params.yaml."""

    names = ("image", "text")

    data: DataParams
    features: FeatureParams
    text: TextParams
    cca: CCAParams
    score: ScoreParams
    report: ReportParams

    @model_validator(mode="after")
    def _space_fits_its_data(self) -> Params:
        width = 2048 if self.features.extractor == "resnet101" else self.features.size
        if self.cca.size > min(width, self.text.size):
            raise ValueError(
                f"cca.size = {self.cca.size}: must be at most {min(width, self.text.size)}, the "
                "lesser of the numbers per picture and per word"
            )
        return self

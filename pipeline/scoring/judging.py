"""What a study's `judge.py` has: a `Bench` of data and yardsticks, which makes a `Judge`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from models.vae import MultimodalVAE
from pipeline.scoring.bootstrap import Values
from pipeline.scoring.decoding import Decoded, Items
from pipeline.scoring.scores import Part

__all__ = ["Bench", "Judge"]


class Judge(Protocol):
    """Compares what is generated with what is true of some items.

    Its parts hold the figures [1 + R] of each target and metric under `figures/TARGET/METRIC`, and
    what is shown of the first items under `KIND/TARGET`, such as `pictures/image`.
    """

    @property
    def items(self) -> Items:
        """What it is asked about."""

    def part(self, generated: Decoded, targets: Sequence[str]) -> Part:
        """The figures of what is generated for the targets, and what is shown of all of it."""

    def quality(self, modality: str, generated: NDArray[Any]) -> Values:
        """The headline metric [1 + R] of what is generated for a modality."""

    def ceiling(self, modalities: Sequence[str]) -> Part:
        """The figures of the items' own data."""

    def joint(self, vae: MultimodalVAE, params: Any) -> Part:
        """Metric -> how far samples of the prior agree between the bench's pair, and what is shown.

        Args:
            params: the study's `ScoreParams`.
        """


class Bench(Protocol):
    """The data and the yardsticks for one model: made from it and the headline's key."""

    pair: tuple[str, str]
    """Whose prior samples are compared."""
    headline: str
    files: Sequence[Path]
    """What decides the figures beside the model."""
    code: Sequence[str]
    """Digests of code, and versions, that do."""

    def judge(self, split: str, most: int, resamples: int, seed: int) -> Judge:
        """The judge of at most so many items of the split `test` or `validation`."""

    def extra(self, generate: Callable[..., Decoded]) -> Mapping[str, Part]:
        """What is shown besides what is scored, as parts by name."""

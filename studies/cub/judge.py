"""The judge of CUB: a frozen canonical correlation analysis (CCA).

What is generated for one modality is compared with the truth of the other, which it came from or
belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vae import MultimodalVAE
from pipeline.scoring.bootstrap import Values, average, copies
from pipeline.scoring.decoding import Decoded, Items, sample
from pipeline.scoring.metrics import Each, parts_of
from pipeline.scoring.scores import Part
from studies.cub.loader import FEATURES, LANGUAGE, PROJECTION, Pairs, Space, load
from studies.cub.params import METRICS, ScoreParams

__all__ = ["Bench", "Judge", "ScoreParams", "items"]

CAPTIONS = 12  # pictures whose generated captions are kept for the page


def items(pairs: Pairs, rows: NDArray[np.int64]) -> Items:
    """These pairs. A picture's truth are the words, the words' truth the features as models see
    them."""
    seen = pairs.seen(rows)
    truths = {"image": pairs.captions(rows), "text": seen["image"].astype(np.float32)}
    return Items(rows, seen, truths)


@dataclass(frozen=True)
class Judge:
    """The frozen CCA before pairs, and the resamples of these."""

    space: Space
    items: Items
    copies: NDArray[np.int64]
    headline: str

    def compared(self, modality: str, generated: NDArray[Any]) -> Each:
        """The cosine [N] of what is generated and the other modality's truth."""
        truth = self.items.truths[modality]
        if modality == "image":
            return Each(self.space.cosines(generated, truth), self.copies)
        words = self.space.language.nearest(generated)
        return Each(self.space.cosines(truth, words), self.copies)

    def quality(self, modality: str, generated: NDArray[Any]) -> Values:
        """The headline metric [1 + R]."""
        return METRICS[self.headline].compute(self.compared(modality, generated))

    def part(self, generated: Decoded, targets: Sequence[str]) -> Part:
        """Figures [1 + R] by target and metric."""
        return parts_of(METRICS, {m: self.compared(m, generated[m]) for m in targets})

    def ceiling(self, modalities: Sequence[str]) -> Part:
        """Those of the pairs' own pictures and captions."""
        own = self.space.cosines(self.items.truths["text"], self.items.truths["image"])
        return parts_of(METRICS, dict.fromkeys(modalities, Each(own, self.copies)))

    def joint(self, vae: MultimodalVAE, params: ScoreParams) -> Part:
        """The mean cosine of both modalities of prior samples."""
        prior = sample(vae, Bench.pair, params.samples, params.seed)
        each = self.space.cosines(prior["image"], self.space.language.nearest(prior["text"]))
        drawn = copies(params.samples, params.resamples, params.seed)
        return {"cosine": average(each, drawn)}


class Bench:
    """The pairs and the space that they are compared in."""

    pair = ("image", "text")  # whose prior samples are compared

    def __init__(self, vae: MultimodalVAE, headline: str) -> None:
        self.headline = headline
        self.space, self.splits = load()
        self.names = tuple(vae.modalities)
        self.files = [FEATURES, LANGUAGE, PROJECTION]
        self.code: list[str] = []

    def judge(self, split: str, most: int, resamples: int, seed: int) -> Judge:
        """The space before pairs drawn of a split; none are held out for validation."""
        pairs = self.splits["test" if split == "test" else "train"]
        of = items(pairs, pairs.drawn(most, seed))
        return Judge(self.space, of, copies(len(of.numbers), resamples, seed), self.headline)

    def extra(self, generate: Callable[..., Decoded]) -> dict[str, Part]:
        """Captions of the first test pictures, which the page shows, whichever pairs are scored."""
        if set(self.names) != set(self.pair):
            return {}
        test = self.splits["test"]
        first = np.arange(0, test.ids.shape[0] * test.ids.shape[1], test.ids.shape[1])[:CAPTIONS]
        written = self.space.language.nearest(generate(items(test, first), ["image"])["text"])
        return {"first": {"captions/text": np.array(self.space.language.text(written))}}

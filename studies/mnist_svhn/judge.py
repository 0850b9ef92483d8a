"""The judge of MNIST-SVHN: a frozen digit classifier for each modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from models.vae import MultimodalVAE
from pipeline.scoring.bootstrap import Values, average, copies
from pipeline.scoring.decoding import Decoded, Items, sample
from pipeline.scoring.metrics import Each, parts_of
from pipeline.scoring.scores import Part
from pipeline.study import device
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.classifier import DigitClassifier, classify
from studies.mnist_svhn.loader import FILE, Pairs, load
from studies.mnist_svhn.params import METRICS, ScoreParams
from studies.mnist_svhn.train_classifier import path

__all__ = ["Bench", "Judge", "ScoreParams", "as_pictures", "items"]

PICTURES = 20  # kept for the page
CHANNELS = {"mnist": 1, "svhn": 3}


def as_pictures(decoded: NDArray[Any]) -> NDArray[np.uint8]:
    """What a model decoded, as the classifier was trained: uint8 [N, h, w] or [N, H, W, 3]."""
    if decoded.dtype == np.uint8:
        return decoded
    side = round(decoded.shape[1] ** 0.5)
    return np.rint(decoded.reshape(-1, side, side).clip(0, 1) * 255).astype(np.uint8)


def items(pairs: Pairs, most: int) -> Items:
    """The first pairs; both of one show its class."""
    labels = pairs.labels(most)
    return Items(np.arange(len(labels)), pairs.seen(most), dict.fromkeys(CHANNELS, labels))


@dataclass(frozen=True)
class Judge:
    """The frozen classifiers before pairs of known classes, and the resamples of these."""

    models: dict[str, DigitClassifier]
    items: Items
    copies: NDArray[np.int64]
    headline: str

    def classes(self, modality: str, decoded: NDArray[Any]) -> NDArray[np.int64]:
        """The class that each decoded picture shows [N]."""
        return classify(self.models[modality], as_pictures(decoded))

    def compared(self, modality: str, generated: NDArray[Any]) -> Each:
        """Which decoded pictures show their pair's class [N]."""
        right = self.classes(modality, generated) == self.items.truths[modality]
        return Each(right, self.copies)

    def quality(self, modality: str, generated: NDArray[Any]) -> Values:
        """The headline metric [1 + R]."""
        return METRICS[self.headline].compute(self.compared(modality, generated))

    def part(self, generated: Decoded, targets: Sequence[str]) -> Part:
        """Figures [1 + R] by target and metric, and the first pictures."""
        shown = {f"pictures/{m}": as_pictures(x[:PICTURES]) for m, x in generated.items()}
        return shown | parts_of(METRICS, {m: self.compared(m, generated[m]) for m in targets})

    def ceiling(self, modalities: Sequence[str]) -> Part:
        """Those of the pairs' own pictures."""
        return parts_of(METRICS, {m: self.compared(m, self._own(m)) for m in modalities})

    def _own(self, modality: str) -> NDArray[Any]:
        seen = self.items.seen[modality]
        return seen if modality == "svhn" else seen.astype(np.float32) / 255

    def joint(self, vae: MultimodalVAE, params: ScoreParams) -> Part:
        """Of prior samples, how many show one class in both modalities, and the first pictures."""
        drawn = sample(vae, Bench.pair, params.samples, params.seed)
        first, second = (self.classes(m, x) for m, x in drawn.items())
        agree = 100 * average(
            first == second, copies(params.samples, params.resamples, params.seed)
        )
        shown = {f"pictures/{m}": as_pictures(x[:PICTURES]) for m, x in drawn.items()}
        return {"accuracy": agree, **shown}


class Bench:
    """The pairs and the classifiers of a model's modalities."""

    pair = ("mnist", "svhn")  # whose prior samples are compared

    def __init__(self, vae: MultimodalVAE, headline: str) -> None:
        self.headline = headline
        self.models = {}
        for modality in vae.modalities:
            model = DigitClassifier(CHANNELS[modality])
            model.load_state_dict(MNIST_SVHN.read(path(modality), load_file))
            self.models[modality] = model.to(device()).eval()
        self.files = [FILE, *map(path, self.models)]
        self.code: list[str] = []

    def judge(self, split: str, most: int, resamples: int, seed: int) -> Judge:
        """The classifiers before the first pairs of a split; none are held out for validation."""
        of = items(load("test" if split == "test" else "train"), most)
        return Judge(self.models, of, copies(len(of.numbers), resamples, seed), self.headline)

    def extra(self, _generate: Callable[..., Decoded]) -> dict[str, Part]:
        """What is shown besides what is scored: nothing."""
        return {}

"""Pairs of picture features and captions, as the models and the judge take them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.running import stage
from studies.cub import CUB
from studies.cub.captions import Language
from studies.cub.cca import Projection

__all__ = ["LANGUAGE", "PROJECTION", "Pairs", "Space", "load", "store", "training"]

LANGUAGE, PROJECTION = CUB.data / "language.npz", CUB.data / "cca.npz"
FEATURES = CUB.data / "features.npz"


@dataclass(frozen=True)
class Space:
    """Everything that is fixed before a model is trained.

    Attributes:
        mean, scale: of the training features: [D], and one number.
    """

    language: Language
    projection: Projection
    mean: NDArray[np.float32]
    scale: float

    def features(self, scaled: NDArray[np.floating]) -> NDArray[np.floating]:
        """Features as the extractor gives them, from what models see."""
        return scaled * self.scale + self.mean

    def cosines(
        self, scaled: NDArray[np.floating], ids: NDArray[np.integer]
    ) -> NDArray[np.floating]:
        """Cosines [N] of the frozen CCA between pictures [N, D], as models see them, and captions
        [N, T]."""
        return self.projection.cosines(self.features(scaled), self.language.embed(ids))


@dataclass(frozen=True)
class Pairs:
    """One split: ten pairs a picture.

    Attributes:
        features: float32 [N, D], mean 0 and deviation 1 over the training pictures.
        ids: int32 [N, 10, T], words of each caption.
        language: of the captions.
        paths: [N] of the pictures.
    """

    features: NDArray[np.float32]
    ids: NDArray[np.int32]
    language: Language
    paths: NDArray[np.str_]

    def drawn(self, most: int, seed: int) -> NDArray[np.int64]:
        """Rows of at most so many pairs [P], in their order, drawn by the seed.

        They lie class by class, so that the first ones would be of few classes.
        """
        count = self.ids.shape[0] * self.ids.shape[1]
        return np.sort(np.random.default_rng(seed).permutation(count)[:most])

    def captions(self, rows: NDArray[np.int64] | None = None) -> NDArray[np.int32]:
        """Words of these pairs, or of all, [P, T]."""
        every = self.ids.reshape(-1, self.ids.shape[-1])
        return every if rows is None else every[rows]

    def seen(self, rows: NDArray[np.int64] | None = None) -> dict[str, NDArray[np.floating]]:
        """These pairs, or all, as models take them: image [P, D], text [P, T, E], 16 bits each.

        At CUB's size a training split of 32 bits would take 4 GB.
        """
        ids = self.captions(rows)
        rows = np.arange(len(ids)) if rows is None else rows
        return {
            "image": self.features.astype(np.float16)[rows // self.ids.shape[1]],
            "text": self.language.vectors.astype(np.float16)[ids],
        }


def store(path: Path, **arrays: NDArray[np.generic]) -> None:
    """Arrays as an npz file, whole or not at all."""
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    stage.write_bytes(path, packed.getvalue())


def load() -> tuple[Space, dict[str, Pairs]]:
    """What the stages `features` and `text` wrote: the space, and the splits by name."""
    words = CUB.read_arrays(LANGUAGE)
    ids, language = words.pop("ids"), Language(**words)
    projection = Projection(**CUB.read_arrays(PROJECTION))
    features, test, paths = CUB.read_arrays(FEATURES, ("features", "test", "paths")).values()
    mean = features[~test].mean(0)
    scale = float((features[~test] - mean).std())
    scaled = ((features - mean) / scale).astype(np.float32)
    space = Space(language, projection, mean, scale)
    splits = {
        split: Pairs(scaled[rows], ids[rows], language, paths[rows])
        for split, rows in (("train", ~test), ("test", test))
    }
    return space, splits


def training(
    names: Sequence[str],
) -> tuple[Mapping[str, NDArray[np.floating]], Mapping[str, NDArray[np.floating]]]:
    """What models are trained on, and validated on: nothing, as the paper trains on all pairs."""
    seen = load()[1]["train"].seen()
    return {name: seen[name] for name in names}, {}

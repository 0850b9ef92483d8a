"""Pairs of a digit and a street number of one class, as stored and as models take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studies.mnist_svhn import MNIST_SVHN

__all__ = ["FILE", "Pairs", "load", "training"]

FILE = MNIST_SVHN.data / "pairs.npz"


@dataclass(frozen=True)
class Pairs:
    """One split: unpaired pictures, and pairs of them.

    Attributes:
        digits, streets: uint8 [N, h, w] and [N, H, W, 3].
        digit_labels, street_labels: uint8 [N].
        pairs: int64 [P, 2], rows of the two.
    """

    digits: NDArray[np.uint8]
    digit_labels: NDArray[np.uint8]
    streets: NDArray[np.uint8]
    street_labels: NDArray[np.uint8]
    pairs: NDArray[np.int64]

    def seen(self, most: int | None = None) -> dict[str, NDArray[np.uint8]]:
        """The first pairs as models take them: mnist [P, h w], svhn [P, H, W, 3]."""
        pairs = self.pairs[:most]
        return {
            "mnist": self.digits[pairs[:, 0]].reshape(len(pairs), -1),
            "svhn": self.streets[pairs[:, 1]],
        }

    def labels(self, most: int | None = None) -> NDArray[np.uint8]:
        """The class that both of a pair show [P]."""
        return self.digit_labels[self.pairs[:most, 0]]


def load(split: str, path: Path = FILE) -> Pairs:
    """A split (`train` or `test`) of what the stage wrote."""
    names = [f"{split}_{name}" for name in Pairs.__dataclass_fields__]
    return Pairs(
        **{n.removeprefix(f"{split}_"): x for n, x in MNIST_SVHN.read_arrays(path, names).items()}
    )


def training(
    names: Sequence[str],
) -> tuple[Mapping[str, NDArray[np.uint8]], Mapping[str, NDArray[np.uint8]]]:
    """What models are trained on, and validated on: nothing, as the paper trains on all pairs."""
    seen = load("train").seen()
    return {name: seen[name] for name in names}, {}

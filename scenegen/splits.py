"""Which split a scene belongs to: told by its number, so that a growing dataset moves nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPLITS", "split_scenes"]

SPLITS = ("train", "validation", "test")


def split_scenes(split: str, count: int) -> NDArray[np.int64]:
    """Scene numbers below `count` of a split, ascending.

    Test is k mod 5 = 4 (20 %), validation k mod 20 = 0 (5 %), training the rest.

    Raises:
        ValueError: no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} does not exist; choose one of {', '.join(SPLITS)}")
    numbers = np.arange(count, dtype=np.int64)
    test, validation = numbers % 5 == 4, numbers % 20 == 0
    chosen = {"train": ~(test | validation), "validation": validation, "test": test}[split]
    return numbers[chosen]

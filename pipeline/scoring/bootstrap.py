"""Paired bootstrap over scenes: the same resamples for every figure and every model.

It bounds what the choice of test scenes does to a figure. What a training's seed does to it only
several seeds can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL", "Values", "average", "average_of", "bounds", "copies", "known", "mean"]

LEVEL = 0.95  # of the intervals

Values = NDArray[np.floating]
"""[1 + R]: a figure on the test scenes, then on each of R resamples of them."""


def copies(scenes: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """How often each scene is in each resample [1 + R, N]; row 0 is the scenes themselves.

    N scenes drawn with replacement. The rows depend on the arguments alone: models scored on the
    same scenes share their resamples.
    """
    drawn = np.random.default_rng([seed, scenes]).multinomial(
        scenes, np.full(scenes, 1 / scenes), size=resamples
    )
    return np.concatenate([np.ones((1, scenes), np.int64), drawn])


def average(of_each: NDArray[Any], drawn: NDArray[np.int64]) -> Values:
    """The mean [1 + R] of a figure that each scene has [N], on each of its `copies`."""
    found: Values = drawn @ of_each / drawn.sum(1)
    return found


def average_of(
    of_some: NDArray[Any], places: NDArray[np.int64], drawn: NDArray[np.int64]
) -> Values:
    """The mean [1 + R] of figures [K] of which each scene has any number; nan where none is drawn.

    Args:
        places: [K], the scene of each, a column of `drawn`.
    """
    total = drawn @ np.bincount(places, of_some, drawn.shape[1])
    count = drawn @ np.bincount(places, minlength=drawn.shape[1])
    return np.divide(total, count, out=np.full(len(drawn), np.nan), where=count > 0)


def bounds(values: Values) -> tuple[float, float] | tuple[None, None]:
    """The middle 95 % of a figure's resamples; none where it is not defined on all of them."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None, None
    low, high = np.percentile(values[1:], [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def known(value: float) -> float | None:
    """A figure, or None where it is not defined (nan, which JSON has no word for)."""
    return float(value) if np.isfinite(value) else None


def mean(values: Sequence[Values]) -> Values:
    """Mean [1 + R] over the figures that are defined on the scenes themselves; nan if none is.

    Which are in is decided once, not anew on each resample, so that resamples stay paired.
    """
    defined = [each for each in values if np.isfinite(each[0])]
    return np.mean(defined or values, axis=0)

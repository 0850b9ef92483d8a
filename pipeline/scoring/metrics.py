"""Metrics of what a model generates.

A new one is one entry: score files, scores under faults, their tables and the page take it from
here. The metrics of Shapes 3D are DETECTED; another study's judge has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.bootstrap import Values, average

__all__ = [
    "DETECTED",
    "Each",
    "Metric",
    "Metrics",
    "decisive",
    "figures",
    "named",
    "parts_of",
    "under_faults",
]


@dataclass(frozen=True)
class Metric:
    """One figure of what is generated for a modality.

    Attributes:
        key: its name in files.
        heading: what stands above it in tables.
        higher_is_better: False for an error.
        compute: the figure [1 + R] of what a study's judge compares; nan where it is not defined.
        meaning: the heading in words, for the page.
        form: how it is written.
        own: whether it says something of the sensor's own pictures, which it is the ceiling of.
        dear: whether it is left out under faults, unless it is the headline.
    """

    key: str
    heading: str
    higher_is_better: bool
    compute: Callable[[Any], Values]
    meaning: str = ""
    form: str = "{:.2f}"
    own: bool = True
    dear: bool = False


class Each(NamedTuple):
    """What metrics of single items look at: a figure of each [N], and the items' `copies`."""

    values: NDArray[Any]
    copies: NDArray[np.int64]

    @property
    def mean(self) -> Values:
        """The mean [1 + R] over the items."""
        return average(self.values, self.copies)


Metrics = Mapping[str, Metric]
"""By key, in the order of files."""


def named(*metrics: Metric) -> dict[str, Metric]:
    """The metrics by their keys."""
    return {metric.key: metric for metric in metrics}


def figures(metrics: Metrics, compared: Any) -> dict[str, Values]:
    """Key -> the metric's figure [1 + R] of what is compared."""
    return {key: metric.compute(compared) for key, metric in metrics.items()}


def parts_of(metrics: Metrics, compared: Mapping[str, Any]) -> dict[str, Values]:
    """The figures of every target that is compared, as a part of a score has them."""
    return {
        f"figures/{m}/{key}": values
        for m, seen in compared.items()
        for key, values in figures(metrics, seen).items()
    }


def decisive(key: str, metrics: Metrics) -> str:
    """The key, if its metric may be a study's headline.

    Raises:
        ValueError: there is no such metric, or less of it is better.
    """
    allowed = [metric.key for metric in metrics.values() if metric.higher_is_better]
    if key not in allowed:
        raise ValueError(f"must be one of {', '.join(allowed)}, of which more is better")
    return key


def under_faults(metrics: Metrics, headline: str) -> dict[str, Metric]:
    """The metrics of faulty sensors: the headline first, then those that are not dear."""
    others = {key: metric for key, metric in metrics.items() if not metric.dear}
    return {headline: metrics[headline]} | others


DETECTED = named(
    Metric(
        "map50",
        "mAP@0.5",
        True,
        lambda seen: seen.precision[:, 0],
        "mean average precision of the sensor's detector, a hit at an overlap of 0.5",
    ),
    Metric(
        "map50_95",
        "mAP@0.5:0.95",
        True,
        lambda seen: seen.precision.mean(1),
        "the mean over overlaps of 0.5 to 0.95",
    ),
    Metric(
        "map50_agnostic",
        "mAP@0.5, any class",
        True,
        lambda seen: seen.agnostic,
        "all classes taken for one",
        dear=True,  # a second matching
    ),
    Metric(
        "mse",
        "MSE",
        False,
        lambda seen: seen.errors["mse"],
        "mean squared error of pixels in 0 to 1",
        "{:.4f}",
        own=False,
    ),
    Metric(
        "ssim",
        "SSIM",
        True,
        lambda seen: seen.errors["ssim"],
        "structural similarity, 1 is equal",
        own=False,
    ),
    Metric(
        "count",
        "right count",
        True,
        lambda seen: seen.right_counts,
        "share of scenes in which as many objects are surely detected as are there",
    ),
    Metric(
        "position",
        "position (px)",
        False,
        lambda seen: seen.distances,
        "distance of an object's middle from where it is surely detected, in pixels",
    ),
    Metric(
        "hue",
        "hue of objects",
        False,
        lambda seen: seen.object_hues,
        "error of hue of the objects that are surely detected, in turns; grey is off by 1/4",
        "{:.3f}",
    ),
    Metric(
        "hue_background",
        "hue around them",
        False,
        lambda seen: seen.background_hues,
        "error of hue of floor and backdrop, in turns; grey is off by 1/4",
        "{:.3f}",
        own=False,
    ),
)

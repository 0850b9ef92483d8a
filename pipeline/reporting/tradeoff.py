"""What synergy and cross generation cost together: the cheapest match, the frontier, the grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.reporting.table import Row, over
from pipeline.scoring.bootstrap import Values, bounds, mean

__all__ = ["averaged", "crossed", "frontier", "recipe"]

FIGURES = {"synergy": "gain", "cross": "cross"}  # a mean's name -> its figures' in a row


def recipe(rows: Sequence[Row], ends: tuple[str, str]) -> str | None:
    """Which method is as good as one end on synergy and as the other on cross generation, for less.

    Args:
        ends: the objectives without and with cross generation.

    Compared are means over the sensors that every cell has, of those that have a figure, on the
    same resamples; "as good" is a difference whose interval reaches 0. Only methods of at most
    twice the passes (encodes and decodes) of a single ELBO of all sensors are asked. None if there
    is no row to compare with.
    """
    most = 2 * max((_elbo(row) for row in rows), default=0)
    rows = _defined(rows)
    plain, crossing = ([row for row in rows if row.objective == end] for end in ends)
    if not plain or not crossing:
        return None
    best_plain = max(plain, key=lambda row: float(_mean(row, "gain")[0]))
    best_crossing = max(crossing, key=lambda row: float(_mean(row, "cross")[0]))
    cheap = [row for row in rows if _passes(row) <= most]
    if not cheap:
        return f"No cell costs at most {most} passes, twice those of a single ELBO."
    gaps = {
        row.cell: (
            _mean(row, "gain") - _mean(best_plain, "gain"),
            _mean(row, "cross") - _mean(best_crossing, "cross"),
        )
        for row in cheap
    }

    def missed(gap: Values) -> bool:
        high = bounds(gap)[1]
        return bool(gap[0] < 0 and (high is None or high < 0))

    def show(gap: Values) -> str:
        low, high = bounds(gap)
        between = "" if low is None or high is None else f" [{low:+z.2f}, {high:+z.2f}]"
        return f"{gap[0]:+z.2f}{between}".replace("-", "−")

    good = [cell for cell, both in gaps.items() if not any(missed(gap) for gap in both)]
    nearest = max(good or gaps, key=lambda cell: min(float(gap[0]) for gap in gaps[cell]))
    synergy, cross = (show(gap) for gap in gaps[nearest])
    both = f"the best of {ends[0]} on synergy and as {ends[1]} on cross generation"
    found = (
        f"{', '.join(good)}: as good as {both}"
        if good
        else f"none of {len(gaps)} cells is at once as good as {both}; the nearest is {nearest}"
    )
    return (
        f"For at most {most} passes, twice those of a single ELBO, {found}. {nearest}: synergy "
        f"{synergy} against {best_plain.cell}, cross generation {cross} against "
        f"{best_crossing.cell} (means {averaged(rows)})."
    )


def frontier(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The cells that none of at most their passes beats on synergy and cross generation, the
    cheapest first.

    Both are means over the sensors with `_lo` and `_hi`, as in `recipe`; one beats
    another that is nowhere above it and somewhere below.
    """
    rows = _defined(rows)

    def of(row: Row) -> tuple[float, float, float]:
        return -_passes(row), float(_mean(row, "gain")[0]), float(_mean(row, "cross")[0])

    def beaten(row: Row) -> bool:
        return any(
            all(a >= b for a, b in zip(of(other), of(row), strict=True)) and of(other) != of(row)
            for other in rows
        )

    found = []
    for row in sorted((row for row in rows if not beaten(row)), key=_passes):
        shown: dict[str, Any] = {"cell": row.cell, "passes": _passes(row)}
        for name, kind in FIGURES.items():
            values = _mean(row, kind)
            low, high = bounds(values)
            shown |= {name: float(values[0]), f"{name}_lo": low, f"{name}_hi": high}
        found.append(shown)
    return found


def crossed(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """`synergy` and `cross` -> fusion -> objective -> mean over the sensors.

    Of cells that differ in an option alone, the best. Cells of which neither is defined are not in.
    """
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in FIGURES}
    for row in _defined(rows):
        for name, kind in FIGURES.items():
            value = float(_mean(row, kind)[0])
            of = found[name].setdefault(row.fusion, {})
            of[row.objective] = max(value, of.get(row.objective, value))
    return found


def _passes(row: Row) -> float:
    return float(row.cost["encodes"] + row.cost["decodes"])


def _mean(row: Row, kind: str) -> Values:
    """A row's [1 + R] figures as their mean over the sensors that have one; rows are `_shared`."""
    return mean(_of_sensors(row, kind))


def _of_sensors(row: Row, kind: str) -> list[Values]:
    return [f.resamples for name, f in row.figures.items() if name.startswith(f"{kind}_")]


def averaged(rows: Sequence[Row]) -> str:
    """Over which sensors the means of `recipe`, `frontier` and `crossed` are, in words."""
    figures = {k: v for k, v in _shared(rows)[0].figures.items() if k.startswith("cross_")}
    named = {name.removeprefix("cross_"): f.value is not None for name, f in figures.items()}
    return over([m for m in named if named[m]], [m for m in named if not named[m]])


def _elbo(row: Row) -> int:
    """Passes of a single ELBO: each sensor encoded and decoded once."""
    return 2 * len(_of_sensors(row, "cross"))


def _shared(rows: Sequence[Row]) -> list[Row]:
    """The rows with the figures that all of them have: cells may fuse different sensors."""
    alike = set.intersection(*({*row.figures} for row in rows)) if rows else set()
    return [
        replace(row, figures={k: figure for k, figure in row.figures.items() if k in alike})
        for row in rows
    ]


def _defined(rows: Sequence[Row]) -> list[Row]:
    """The rows, as `_shared`, of which some sensor has a figure.

    Where no scene shows an object none has, nor where no sensor is in every cell.
    """

    def defined(row: Row, kind: str) -> bool:
        return bool(_of_sensors(row, kind)) and bool(np.isfinite(_mean(row, kind)[0]))

    return [row for row in _shared(rows) if all(defined(row, kind) for kind in FIGURES.values())]

"""The run against the paper, in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.reporting import paper, table3
from pipeline.scoring.bootstrap import Values, bounds, mean
from scenegen.dataset import MODALITIES

__all__ = ["averaged", "crossed", "findings", "frontier", "levels", "recipe"]

Row = dict[str, Any]
FAILS = 0.6  # a direction fails below this share of the column's best
FIGURES = {"synergy": "gain", "cross": "cross"}  # a mean's name -> its figures' in a row


class Pair(NamedTuple):
    """`a`, at `x`, should be above `b`, at `y`.

    `spread` is their joint deviation over seeds, `told` whether these test scenes tell them apart.
    """

    a: str
    x: float
    b: str
    y: float
    spread: float = 0.0
    told: bool = True

    @property
    def sure(self) -> bool:
        """Whether the difference is more than chance."""
        return self.told and abs(self.x - self.y) >= self.spread

    def show(self, metric: str, between: str) -> str:
        """Both figures in words."""
        return f"{self.a} {_show(self.x, metric)} {between} {self.b} {_show(self.y, metric)}"


def _show(value: float, metric: str) -> str:
    text = f"{value:+z.1f} %" if metric.startswith("synergy") else f"{value:.2f}"
    return text.replace("-", "−")


def _pairs(
    rows: Sequence[Row],
    metric: str,
    upper: Callable[[Row], bool],
    lower: Callable[[Row], bool],
    same_fusion: bool = False,
) -> Iterator[Pair]:
    """Every (upper, lower) pair of rows whose figures are known."""
    for a in (row for row in rows if upper(row) and row[metric] is not None):
        for b in (row for row in rows if lower(row) and row[metric] is not None):
            if not same_fusion or a["fusion"] == b["fusion"]:
                spread = math.hypot(a[f"{metric}_std"] or 0, b[f"{metric}_std"] or 0)
                yield Pair(a["cell"], a[metric], b["cell"], b[metric], spread, _told(a, metric, b))


def _told(a: Row, metric: str, b: Row | None = None, share: float = 1.0) -> bool:
    """Whether the interval of a's figure less `share` of b's (or 0) leaves out 0.

    One that is not defined, as where the sensor's own VAE finds nothing in a resample, tells
    nothing.
    """
    if "figures" not in a:
        return True
    low, high = bounds(a["figures"][metric] - (share * b["figures"][metric] if b else 0))
    return low is not None and high is not None and not low <= 0 <= high


def _none(row: Row) -> bool:
    return row["objective"] == "none" and row["fusion"] in ("poe", "bce", "rbcm")


def _explicit(row: Row) -> bool:
    return row["objective"] in ("ecg", "lcd")


def _moe(row: Row) -> bool:
    return bool(row["fusion"] == "moe")


def _rce(row: Row) -> bool:
    return bool(row["fusion"] == "rce" and row["objective"] == "none")


def _shares(rows: Sequence[Row], metric: str, heading: str, works: bool) -> list[Pair]:
    """Each untrained direction against the share of the column's best below which it fails."""
    known = [row for row in rows if row[metric] is not None]
    if not known:
        return []
    best = max(known, key=lambda r: float(r[metric]))
    least = (f"{FAILS:g} times {best['cell']}’s figure,", FAILS * best[metric])
    found = []
    for row in filter(_none, known):
        own = (f"{row['cell']}: {heading}", row[metric])
        first, second = (own, least) if works else (least, own)
        found.append(Pair(*first, *second, told=_told(row, metric, best, FAILS)))
    return found


def _claims(
    rows: Sequence[Row], modalities: Sequence[str]
) -> Iterator[tuple[str, str, list[Pair]]]:
    """What the paper concludes from Table III: the sentence, its metric, the pairs it orders."""
    rows = [row for row in rows if (row["fusion"], row["objective"]) in paper.TABLE3]
    heads = table3.headings(modalities)
    for metric in ("cross_depth", "cross_image"):
        name = heads[metric]
        text = f"Training for cross generation (ecg, lcd) beats training without it on {name}."
        yield text, metric, list(_pairs(rows, metric, _explicit, _none, same_fusion=True))
    name = heads["cross_depth"]
    text = f"rce beats the other fusions on {name} when none is trained for cross generation."
    others = _pairs(rows, "cross_depth", _rce, lambda row: _moe(row) or _none(row))
    yield text, "cross_depth", list(others)
    text = f"Without cross generation, the depth from the other sensors ({name}) fails."
    yield text, "cross_depth", _shares(rows, "cross_depth", name, works=False)
    name = heads["cross_image"]
    text = f"Without cross generation, the image from the other sensors ({name}) still works."
    yield text, "cross_image", _shares(rows, "cross_image", name, works=True)
    for target in ("image", "depth"):
        metric, text = f"synergy_{target}", f"moe has the lowest synergy gain on the {target}."
        yield text, metric, list(_pairs(rows, metric, lambda row: not _moe(row), _moe))
        text = f"Every method but moe gains over the unimodal VAE on the {target}."
        gains = [
            Pair(
                row["cell"],
                row[metric],
                "the unimodal VAE",
                0.0,
                row[f"{metric}_std"] or 0,
                _told(row, metric),
            )
            for row in rows
            if not _moe(row) and row[metric] is not None
        ]
        yield text, metric, gains
    text = "Cross generation costs a little synergy on the depth: none is above ecg and lcd."
    pairs = _pairs(rows, "synergy_depth", _none, _explicit, same_fusion=True)
    yield text, "synergy_depth", list(pairs)


def _verdict(metric: str, pairs: Sequence[Pair]) -> tuple[str, str]:
    """(verdict, sentence with the figures that decide).

    "disagrees" if a comparison surely goes the other way, "agrees" if all surely go the paper's,
    "unsure" if what is left may be chance, "untested" if there is none.
    """
    if not pairs:
        return "untested", "The cells of this run cannot tell."
    by_margin = sorted(pairs, key=lambda pair: pair.x - pair.y)
    broken = [pair for pair in by_margin if pair.x <= pair.y and pair.sure]
    if broken:
        shown = "; ".join(pair.show(metric, "is not above") for pair in broken[:3])
        return "disagrees", f"Not here in {len(broken)} of {len(pairs)} comparisons: {shown}."
    unsure = [pair for pair in by_margin if not pair.sure]
    if unsure:
        shown = "; ".join(pair.show(metric, "beside") for pair in unsure[:3])
        return "unsure", f"May be chance in {len(unsure)} of {len(pairs)} comparisons: {shown}."
    closest = " is the closest case" if len(pairs) > 1 else ""
    return "agrees", f"Here too ({by_margin[0].show(metric, 'above')}{closest})."


def findings(
    rows: Sequence[Row], modalities: Sequence[str] = MODALITIES
) -> list[tuple[str, str, str]]:
    """(the paper's claim, verdict, sentence), what disagrees first."""
    claims = _claims(rows, modalities)
    found = [(text, *_verdict(metric, pairs)) for text, metric, pairs in claims]
    order = ["disagrees", "unsure", "agrees", "untested"]
    return sorted(found, key=lambda item: order.index(item[1]))


def _apart(a: float, b: float, least: float) -> bool:
    """Whether the paper's figure a is above b by more than `least`, in the decimals it prints.

    In floating point 0.75 - 0.70 is more than 0.05.
    """
    return round(a - b, 2) > least


def levels(rows: Sequence[Row], modalities: Sequence[str] = MODALITIES) -> Iterator[str]:
    """Per column of the paper: how far the figures are off, and how many orderings are the same."""
    heads = table3.headings(modalities)
    for metric in paper.COLUMNS:
        both = [r for r in rows if r[f"{metric}_diff"] is not None]
        if not both:
            continue
        gap = statistics.fmean(r[f"{metric}_diff"] for r in both)
        worst = max(both, key=lambda r: abs(r[f"{metric}_diff"]))
        least = 5 if metric.startswith("synergy") else 0.05
        told = [
            (a, b)
            for a in both
            for b in both
            if _apart(a[f"{metric}_paper"], b[f"{metric}_paper"], least)
        ]
        same = sum(a[metric] > b[metric] for a, b in told)
        side = "above" if gap > 0 else "below"
        size = f"{abs(gap):.1f} points" if least > 1 else f"{abs(gap):.2f}"
        text = (
            f"{heads[metric]}: over {len(both)} methods on average {size} {side} the paper, "
            f"furthest off {worst['cell']} ({_show(worst[metric], metric)}, the paper "
            f"{_show(worst[f'{metric}_paper'], metric)})."
        )
        if told:
            unit = "5 points" if least > 1 else "0.05"
            text += (
                f" Of {len(told)} pairs of methods that the paper tells apart by more than {unit}, "
                f"{same} {'is' if same == 1 else 'are'} in the same order."
            )
        yield text


def recipe(rows: Sequence[Row]) -> str | None:
    """Which method is as good as `paper.PLAIN` on synergy and as `paper.CROSSING` on cross
    generation, for less.

    Compared are means over the sensors that have a figure, in mAP, on the same resamples; "as good"
    is a difference whose interval reaches 0. Only methods of at most twice the passes (encodes and
    decodes) of a single ELBO are asked. None if there is no row to compare with.
    """
    rows = _defined(rows)
    plain = [row for row in rows if row["objective"] == paper.PLAIN]
    crossing = [row for row in rows if row["objective"] == paper.CROSSING]
    if not plain or not crossing:
        return None
    best_plain = max(plain, key=lambda row: float(_mean(row, "gain")[0]))
    best_crossing = max(crossing, key=lambda row: float(_mean(row, "cross")[0]))
    most = 2 * _elbo(rows[0])
    cheap = [row for row in rows if _passes(row) <= most]
    if not cheap:
        return f"No cell costs at most {most} passes, twice those of a single ELBO."
    gaps = {
        row["cell"]: (
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
    ends = f"the best of {paper.PLAIN} on synergy and as {paper.CROSSING} on cross generation"
    found = (
        f"{', '.join(good)}: as good as {ends}"
        if good
        else f"none of {len(gaps)} cells is at once as good as {ends}; the nearest is {nearest}"
    )
    return (
        f"For at most {most} passes, twice those of a single ELBO, {found}. {nearest}: synergy "
        f"{synergy} mAP against {best_plain['cell']}, cross generation {cross} against "
        f"{best_crossing['cell']} (means {averaged(rows)})."
    )


def frontier(rows: Sequence[Row]) -> list[Row]:
    """The cells that none of at most their passes beats on synergy and cross generation, the
    cheapest first.

    Both are means over the sensors in mAP with `_lo` and `_hi`, as in `recipe`; one beats
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
        shown = {"cell": row["cell"], "passes": _passes(row)}
        for name, kind in FIGURES.items():
            values = _mean(row, kind)
            low, high = bounds(values)
            shown |= {name: float(values[0]), f"{name}_lo": low, f"{name}_hi": high}
        found.append(shown)
    return found


def crossed(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """`synergy` and `cross` -> fusion -> objective -> mean over the sensors in mAP.

    Of cells that differ in an option alone, the best. Cells of which neither is defined are not in.
    """
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in FIGURES}
    for row in _defined(rows):
        for name, kind in FIGURES.items():
            value = float(_mean(row, kind)[0])
            of = found[name].setdefault(row["fusion"], {})
            of[row["objective"]] = max(value, of.get(row["objective"], value))
    return found


def _passes(row: Row) -> float:
    return float(row["encodes"] + row["decodes"])


def _mean(row: Row, kind: str) -> Values:
    """A row's [1 + R] figures as their mean over the sensors that have one."""
    return mean(_of_sensors(row, kind))


def _of_sensors(row: Row, kind: str) -> list[Values]:
    return [values for name, values in row["figures"].items() if name.startswith(f"{kind}_")]


def averaged(rows: Sequence[Row]) -> str:
    """Over which sensors the means of `recipe`, `frontier` and `crossed` are, in words."""
    figures = {k: v for k, v in rows[0]["figures"].items() if k.startswith("cross_")}
    named = {name.removeprefix("cross_"): np.isfinite(v[0]) for name, v in figures.items()}
    return table3.over([m for m in named if named[m]], [m for m in named if not named[m]])


def _elbo(row: Row) -> int:
    """Passes of a single ELBO: each sensor encoded and decoded once."""
    return 2 * len(_of_sensors(row, "cross"))


def _defined(rows: Sequence[Row]) -> list[Row]:
    """The rows of which some sensor has a figure: where no scene shows an object, none has."""
    return [
        row for row in rows if all(np.isfinite(_mean(row, kind)[0]) for kind in FIGURES.values())
    ]

"""The run against the paper, in words. Claims are a study's data; the verdict on each is made here.

A claim orders pairs of figures. A row's *share* in a column is its figure over the best row's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.reporting.table import Column, Figure, Row
from pipeline.scoring.bootstrap import bounds

__all__ = [
    "Claim",
    "Finding",
    "Pair",
    "beats",
    "direction_fails",
    "findings",
    "gains",
    "having",
    "levels",
    "loses",
    "mends",
    "share_of_best",
]

FAILS = 0.6  # a direction fails below this share of the column's best
MENDED = 0.15  # what the weaker direction's share must gain over no cross generation
LOSES = 10.0  # points by which a mean gain must be below the median of the others'

Which = Callable[[Row], bool]


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

    def show(self, form: str, between: str) -> str:
        """Both figures in words."""
        return f"{self.a} {_show(self.x, form)} {between} {self.b} {_show(self.y, form)}"


@dataclass(frozen=True)
class Claim:
    """What the paper concludes: the sentence, and the pairs of figures that it orders.

    Attributes:
        form: how these figures are written.
        only: the rows it is about; the best of a column is among them.
        detail: figures that the finding tells beside those that decide.
    """

    text: str
    pairs: Callable[[Sequence[Row]], Sequence[Pair]]
    form: str = "{:.2f}"
    only: Which = bool
    detail: Callable[[Sequence[Row]], str] | None = None


class Finding(NamedTuple):
    """A claim, its verdict, and the sentence with the figures that decide."""

    claim: str
    verdict: str
    sentence: str


def _show(value: float, form: str) -> str:
    return form.format(value).replace("-", "−")


def having(fusions: Sequence[str] | None = None, objectives: Sequence[str] | None = None) -> Which:
    """The rows of these fusions and objectives; None is all."""
    return lambda row: (
        (fusions is None or row.fusion in fusions)
        and (objectives is None or row.objective in objectives)
    )


def beats(
    key: str, upper: Which, lower: Which, same_fusion: bool = False
) -> Callable[[Sequence[Row]], list[Pair]]:
    """Every row of one kind above every row of another, of those whose figures are known."""

    def pairs(rows: Sequence[Row]) -> list[Pair]:
        there = _there(rows, key)
        return [
            Pair(a.cell, x, b.cell, y, _spread(a, b, key=key), _told(a, key, b))
            for a, x in there
            if upper(a)
            for b, y in there
            if lower(b) and (not same_fusion or a.fusion == b.fusion)
        ]

    return pairs


def gains(key: str, which: Which) -> Callable[[Sequence[Row]], list[Pair]]:
    """Every such row's gain is above 0."""
    return lambda rows: [
        Pair(row.cell, x, "the unimodal VAE", 0.0, _spread(row, key=key), _told(row, key))
        for row, x in _there(rows, key)
        if which(row)
    ]


def share_of_best(
    key: str, heading: str, which: Which, works: bool
) -> Callable[[Sequence[Row]], list[Pair]]:
    """Every such row's figure against the share of the column's best below which it fails."""

    def pairs(rows: Sequence[Row]) -> list[Pair]:
        there = _there(rows, key)
        if not there:
            return []
        best, most = max(there, key=lambda found: found[1])
        least = (f"{FAILS:g} times {best.cell}’s figure,", FAILS * most)
        found = []
        for row, x in there:
            if which(row):
                own = (f"{row.cell}: {heading}", x)
                first, second = (own, least) if works else (least, own)
                found.append(Pair(*first, *second, told=_told(row, key, best, FAILS)))
        return found

    return pairs


def direction_fails(
    keys: Sequence[str], which: Which
) -> tuple[Callable[[Sequence[Row]], list[Pair]], Callable[[Sequence[Row]], str]]:
    """At least one direction of every such row fails: the pairs, and every share in words."""

    def pairs(rows: Sequence[Row]) -> list[Pair]:
        shares = _shares(rows, keys)
        return [
            Pair("the share below which one fails", FAILS, row.cell, min(shares[row.cell].values()))
            for row in rows
            if which(row) and row.cell in shares
        ]

    def detail(rows: Sequence[Row]) -> str:
        shares, told = _shares(rows, keys), []
        for row in rows:
            if which(row) and row.cell in shares:
                own = shares[row.cell]
                figures = ", ".join(f"{k.removeprefix('cross_')} {own[k]:.2f}" for k in own)
                count = sum(share < FAILS for share in own.values())
                told.append(
                    f"{row.cell} {figures} ({('none fails', 'one fails', 'both fail')[count]})"
                )
        return f"What is generated, over the best row’s: {'; '.join(told)}." if told else ""

    return pairs, detail


def mends(
    keys: Sequence[str], which: Which, without: Which
) -> Callable[[Sequence[Row]], list[Pair]]:
    """The weaker direction of every such row is better than all of those without."""

    def pairs(rows: Sequence[Row]) -> list[Pair]:
        shares = {cell: min(each.values()) for cell, each in _shares(rows, keys).items()}
        base = [shares[row.cell] for row in rows if without(row) and row.cell in shares]
        least = max(base, default=math.nan) + MENDED
        return [
            Pair(f"the weaker share of {row.cell}", shares[row.cell], "the least to mend it", least)
            for row in rows
            if base and which(row) and row.cell in shares
        ]

    return pairs


def loses(keys: Sequence[str], which: Which) -> Callable[[Sequence[Row]], list[Pair]]:
    """The mean gain of such a row is the least, and far below the median of the others."""

    def pairs(rows: Sequence[Row]) -> list[Pair]:
        mean_of = {
            row.cell: statistics.fmean(values)
            for row in rows
            if len(values := [x for key in keys for _, x in _there([row], key)]) == len(keys)
        }
        lost = [row.cell for row in rows if which(row) and row.cell in mean_of]
        left = [row.cell for row in rows if not which(row) and row.cell in mean_of]
        if not lost or not left:
            return []
        worst = min(lost, key=lambda cell: mean_of[cell])
        least = statistics.median(mean_of[cell] for cell in left) - LOSES
        return [
            Pair(f"the median of the others less {LOSES:g}:", least, worst, mean_of[worst]),
            *(Pair(cell, mean_of[cell], worst, mean_of[worst]) for cell in left),
        ]

    return pairs


def _there(rows: Sequence[Row], key: str) -> list[tuple[Row, float]]:
    """The rows that have this figure, and the figure."""
    found = [(row, row.figures.get(key, Figure(None)).value) for row in rows]
    return [(row, value) for row, value in found if value is not None]


def _spread(*rows: Row, key: str) -> float:
    """The joint deviation over seeds."""
    return math.hypot(*(row.figures[key].deviation or 0 for row in rows))


def _told(a: Row, key: str, b: Row | None = None, share: float = 1.0) -> bool:
    """Whether the interval of a's figure less `share` of b's (or 0) leaves out 0.

    One that is not defined, as where the sensor's own VAE finds nothing in a resample, tells
    nothing. Scores without resamples have no interval, and are told apart by the seeds alone.
    """
    gap = a.figures[key].resamples
    if b is not None:
        gap = gap - share * b.figures[key].resamples
    low, high = bounds(gap)
    return len(gap) < 2 or (low is not None and high is not None and not low <= 0 <= high)


def _shares(rows: Sequence[Row], keys: Sequence[str]) -> dict[str, dict[str, float]]:
    """Cell -> column -> share, of the rows that have all of them."""
    there = [{row.cell: x for row, x in _there(rows, key)} for key in keys]
    whole = [row.cell for row in rows if all(row.cell in column for column in there)]
    best = [max((column[cell] for cell in whole), default=0.0) for column in there]
    return {
        cell: {
            key: column[cell] / most if most > 0 else 0.0
            for key, column, most in zip(keys, there, best, strict=True)
        }
        for cell in whole
    }


def _verdict(form: str, pairs: Sequence[Pair]) -> tuple[str, str]:
    """(verdict, sentence with the figures that decide).

    "disagrees" if a comparison surely goes the other way, "agrees" if all surely go the paper's,
    "unsure" if what is left may be chance, "untested" if there is none.
    """
    if not pairs:
        return "untested", "The cells of this run cannot tell."
    by_margin = sorted(pairs, key=lambda pair: pair.x - pair.y)
    broken = [pair for pair in by_margin if pair.x <= pair.y and pair.sure]
    if broken:
        shown = "; ".join(pair.show(form, "is not above") for pair in broken[:3])
        return "disagrees", f"Not here in {len(broken)} of {len(pairs)} comparisons: {shown}."
    unsure = [pair for pair in by_margin if not pair.sure]
    if unsure:
        shown = "; ".join(pair.show(form, "beside") for pair in unsure[:3])
        return "unsure", f"May be chance in {len(unsure)} of {len(pairs)} comparisons: {shown}."
    closest = " is the closest case" if len(pairs) > 1 else ""
    return "agrees", f"Here too ({by_margin[0].show(form, 'above')}{closest})."


def findings(rows: Sequence[Row], claims: Sequence[Claim]) -> list[Finding]:
    """The verdict on each of the paper's claims, what disagrees first."""
    found = []
    for claim in claims:
        of = [row for row in rows if claim.only(row)]
        verdict, sentence = _verdict(claim.form, claim.pairs(of))
        more = claim.detail(of) if claim.detail else ""
        found.append(Finding(claim.text, verdict, f"{sentence} {more}".strip()))
    order = ["disagrees", "unsure", "agrees", "untested"]
    return sorted(found, key=lambda finding: order.index(finding.verdict))


def _apart(a: float, b: float, least: float) -> bool:
    """Whether the paper's figure a is above b by more than `least`, in the decimals it prints.

    In floating point 0.75 - 0.70 is more than 0.05.
    """
    return round(a - b, 2) > least


def levels(rows: Sequence[Row], columns: Sequence[Column]) -> Iterator[str]:
    """Per column of the paper: how far the figures are off, and how many orderings are the same."""
    for column in columns:
        both = [
            (row.cell, figure.value, figure.paper)
            for row in rows
            if (figure := row.figures.get(column.key))
            and figure.value is not None
            and figure.paper is not None
        ]
        if not both:
            continue
        gap = statistics.fmean(here - theirs for _, here, theirs in both)
        cell, own, printed = max(both, key=lambda found: abs(found[1] - found[2]))
        least = 5 if column.over else 0.05
        told = [(a, b) for _, a, x in both for _, b, y in both if _apart(x, y, least)]
        same = sum(a > b for a, b in told)
        side = "above" if gap > 0 else "below"
        size = f"{abs(gap):.1f} points" if least > 1 else f"{abs(gap):.2f}"
        text = (
            f"{column.heading}: over {len(both)} methods on average {size} {side} the paper, "
            f"furthest off {cell} ({_show(own, column.form)}, the paper "
            f"{_show(printed, column.form)})."
        )
        if told:
            unit = "5 points" if least > 1 else "0.05"
            text += (
                f" Of {len(told)} pairs of methods that the paper tells apart by more than {unit}, "
                f"{same} {'is' if same == 1 else 'are'} in the same order."
            )
        yield text

"""A study's table: a row per cell, each figure with its interval, deviation and the paper's."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.reporting.legend import EMPTY, UNDEFINED
from pipeline.scoring.bootstrap import Values, bounds, known, mean

__all__ = [
    "COSTS",
    "COST_HEADINGS",
    "Column",
    "Figure",
    "Row",
    "as_markdown",
    "build",
    "columns_of",
    "differ",
    "format_cost",
    "gaps_to_best",
    "keys",
    "others",
    "over",
    "written",
]

COSTS = ("encodes", "decodes", "parameters")  # no seconds, which differ from run to run
COST_HEADINGS = ("enc + dec", "params (M)")
SUFFIXES = {
    "": "value",
    "_lo": "low",
    "_hi": "high",
    "_std": "deviation",
    "_paper": "paper",
    "_diff": "difference",
    "_seeds": "seeds",
}  # of a figure's key in tables as files


@dataclass(frozen=True)
class Column:
    """One figure of every row: its key, what stands above it, and what it is of a run's scores.

    Attributes:
        source: the score's name, as depth+radar/image; {others} stands for the sensors of the
            row's cell without the target.
        target: the sensor that it is of; a cell without it has no such figure.
        over: the score of a unimodal VAE; the figure is then the gain over it, in percent of it.
        relative: False makes a gain a difference.
        pooled: a gain over seeds is that of the mean scores, not the mean of the seeds' gains.
        form: how the figure is written.
        printed: whether it stands in the table for people.
    """

    key: str
    heading: str
    source: str
    over: str | None = None
    target: str = ""
    relative: bool = True
    pooled: bool = False
    form: str = "{:.2f}"
    printed: bool = True

    @property
    def signed(self) -> str:
        """How a difference of two of its figures is written."""
        return self.form if "+" in self.form else self.form.replace(":", ":+z")

    def source_in(self, sensors: Sequence[str]) -> str | None:
        """The score's name where a cell has these sensors; None if it has no such figure."""
        if self.target and self.target not in sensors:
            return None
        return self.source.format(others=others(sensors, self.target))

    def compute(self, score: Values, alone: Values | None) -> Values:
        """The figure [1 + R]; a gain over a score of zero or less is undefined (nan)."""
        if alone is None:
            return score
        gain: Values = score - alone
        if not self.relative:
            return gain
        undefined = np.full_like(gain, np.nan)
        return np.divide(100 * gain, alone, out=undefined, where=alone > 0)


@dataclass(frozen=True)
class Figure:
    """The mean over the seeds that have a figure; None is what is not defined.

    Attributes:
        low, high: its 95 % interval over resamples of what is scored.
        deviation: over seeds, with two of them or more.
        paper: the paper's.
        seeds: how many have a figure of their own.
        resamples: [1 + R], the mean itself, then on each resample.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    deviation: float | None = None
    paper: float | None = None
    seeds: int = 1
    resamples: Values = field(default_factory=lambda: np.empty(0))

    @property
    def difference(self) -> float | None:
        """How far it lies above the paper's."""
        return None if self.value is None or self.paper is None else self.value - self.paper

    @classmethod
    def over_seeds(cls, whole: Values, each: Sequence[Values], paper: float | None) -> Figure:
        """Of its mean [1 + R] over the seeds, and of what it is at each."""
        there = [float(values[0]) for values in each if np.isfinite(values[0])]
        deviation = statistics.stdev(there) if len(there) > 1 else None
        value = known(whole[0])
        low, high = bounds(whole) if value is not None else (None, None)
        return cls(value, low, high, deviation, paper, len(there), whole)


@dataclass(frozen=True)
class Row:
    """A cell's figures by the key of their column, of those columns that it has.

    Attributes:
        sensors: what the cell fuses.
        seeds: trainings of the cell.
        cost: what COSTS names, the mean over seeds.
        behind: key -> the difference to the best row's figure, `best`, and its interval.
    """

    cell: str
    fusion: str
    objective: str
    figures: Mapping[str, Figure]
    sensors: tuple[str, ...] = ()
    seeds: int = 1
    cost: Mapping[str, float] = field(default_factory=dict)
    behind: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def flat(self) -> dict[str, Any]:
        """As one mapping, for tables as files: a figure's parts are KEY, KEY_lo and so on."""
        figures = {
            key + suffix: getattr(figure, part)
            for key, figure in self.figures.items()
            for suffix, part in SUFFIXES.items()
        }
        names = {name: getattr(self, name) for name in ("cell", "fusion", "objective", "seeds")}
        names["sensors"] = "+".join(self.sensors)
        return {**names, **figures, **self.cost, "behind": self.behind}


def others(modalities: Sequence[str], target: str) -> str:
    """All modalities but the target, as scores name them: `depth+radar`."""
    return "+".join(m for m in modalities if m != target)


def differ(sensors: Iterable[Sequence[str]]) -> bool:
    """Whether cells differ in the sensors that they fuse."""
    return len(set(map(tuple, sensors))) > 1


def columns_of(
    letter: Mapping[str, str], alike: bool = True, form: str = "{:.2f}", pooled: bool = False
) -> tuple[Column, ...]:
    """Each modality from all others, its gain over the unimodal VAE, and that as a difference.

    Args:
        letter: of each modality; `cross_image` is headed `D+R→I` of image, depth and radar.
        alike: whether all cells fuse these; if not, `others→I` is from those that a cell has.
    """
    names = list(letter)

    def given(m: str) -> str:
        return others(list(letter.values()), letter[m]) if alike else "others"

    gains = [("synergy", True, "all→{} (%)", "{:+z.1f}"), ("gain", False, "all→{}", "{:+z.2f}")]
    return (
        *(
            Column(
                f"cross_{m}",
                f"{given(m)}→{letter[m]}",
                f"{{others}}/{m}",
                target=m,
                form=form,
            )
            for m in names
        ),
        *(
            Column(
                f"{kind}_{m}",
                heading.format(letter[m]),
                f"synergy/{m}",
                f"synergy/{m}",
                m,
                relative,
                pooled,
                shown,
                printed=relative,
            )
            for kind, relative, heading, shown in gains
            for m in names
        ),
    )


def over(targets: Sequence[str], undefined: Sequence[str]) -> str:
    """What a mean is over, in words: `over image, depth, radar`, or `of 2 of 3 sensors (...)`."""
    if not targets and not undefined:
        return "over no sensor, as none is in every cell"
    if not undefined:
        return f"over {', '.join(targets)}"
    total = len(targets) + len(undefined)
    return f"of {len(targets)} of {total} sensors ({', '.join(targets) or 'none has a figure'})"


def keys(columns: Sequence[Column]) -> list[str]:
    """The columns of the table as csv."""
    return [
        *("cell", "fusion", "objective", "sensors", "seeds"),
        *(column.key + suffix for column in columns for suffix in SUFFIXES),
        *COSTS,
    ]


def gaps_to_best(figures: Mapping[str, Values]) -> dict[str, dict[str, float | None]]:
    """How far each is behind the best, on the same resamples; one that is undefined has no gap."""
    there = {name: values for name, values in figures.items() if np.isfinite(values[0])}
    best = max(there.values(), key=lambda values: float(values[0]), default=np.empty(0))
    gaps = {name: values - best for name, values in there.items()}
    return {
        name: {"best": float(gap[0]), **dict(zip(("lo", "hi"), bounds(gap), strict=True))}
        for name, gap in gaps.items()
    }


Scores = Mapping[str, Values]


def build(
    cells: Mapping[str, tuple[str, str]],
    scores: Mapping[tuple[str, int], Scores],
    alone: Mapping[int, Scores],
    costs: Mapping[tuple[str, int], Mapping[str, float]],
    columns: Sequence[Column],
    paper: Mapping[str, Mapping[str, float]],
    sensors: Mapping[str, tuple[str, ...]],
) -> list[Row]:
    """One row per cell.

    A seed without a figure is left out of its mean. Figures of all rows are on the same resamples.

    Args:
        cells: cell name -> (fusion, objective), in the order of the rows.
        scores: (cell name, seed) -> a score's name, a column's `source` -> [1 + R].
        alone: seed -> the unimodal VAEs' scores, a column's `over` -> [1 + R].
        costs: (cell name, seed) -> what COSTS names.
        paper: cell name -> the paper's figures, if it has any, by the key of their column.
        sensors: cell name -> what it fuses.
    """
    rows = []
    for name, (fusion, objective) in cells.items():
        seeds = [seed for cell, seed in scores if cell == name]
        figures = {}
        for column in columns:
            source = column.source_in(sensors[name])
            if source is None:
                continue
            pairs = [
                (
                    scores[name, seed][source],
                    None if column.over is None else alone[seed][column.over],
                )
                for seed in seeds
            ]
            each = [column.compute(*pair) for pair in pairs]
            printed = paper.get(name, {}).get(column.key)
            whole = _pooled(column, pairs) if column.pooled else mean(each)
            figures[column.key] = Figure.over_seeds(whole, each, printed)
        cost = {key: statistics.fmean(costs[name, seed][key] for seed in seeds) for key in COSTS}
        rows.append(Row(name, fusion, objective, figures, sensors[name], len(seeds), cost))
    for column in columns:
        if column.printed:
            there = {row.cell: row.figures[column.key] for row in rows if column.key in row.figures}
            gaps = gaps_to_best({cell: figure.resamples for cell, figure in there.items()})
            for row in rows:
                if row.cell in gaps:
                    row.behind[column.key] = gaps[row.cell]
    return rows


def _pooled(column: Column, pairs: Sequence[tuple[Values, Values | None]]) -> Values:
    """The figure of the mean scores, over the seeds that have both."""
    both = [(s, a) for s, a in pairs if a is not None and np.isfinite([s[0], a[0]]).all()]
    if not both:
        return np.full_like(pairs[0][0], np.nan)
    return column.compute(mean([s for s, _ in both]), mean([a for _, a in both]))


def written(row: Row, column: Column, paper: bool = True) -> str:
    """A figure as the table shows it: `0.53 ± 0.01 [4 of 5 seeds] (0.58)`.

    ± is the deviation over seeds; with one seed, half the interval. Empty if the row has none.
    """
    if column.key not in row.figures:
        return ""
    figure, form = row.figures[column.key], column.form
    text = "–" if figure.value is None else form.format(figure.value)
    spread = figure.deviation
    if row.seeds == 1 and figure.low is not None and figure.high is not None:
        spread = (figure.high - figure.low) / 2
    if spread is not None:
        text += " ± " + form.replace("+", "").format(spread)
    if figure.seeds < row.seeds > 1:
        text += f" [{figure.seeds} of {row.seeds} seeds]"
    return f"{text} ({form.format(figure.paper)})" if paper and figure.paper is not None else text


def format_cost(cost: Mapping[str, float]) -> str:
    """What COSTS names, as the cells under COST_HEADINGS."""
    passes = f"{cost['encodes']:g} + {cost['decodes']:g}"
    return f"{passes} | {cost['parameters'] / 1e6:.1f}"


def as_markdown(
    rows: Sequence[Row], columns: Sequence[Column], legend: str, decoded: str = ""
) -> str:
    """The table for people: measured, its uncertainty, the paper's figure in brackets, the cost.

    Args:
        legend: what letters, ± and brackets mean.
        decoded: from `decoding`.
    """
    shown = [column for column in columns if column.printed]
    names = ["objective", "fusion", *(["sensors"] if differ(row.sensors for row in rows) else [])]
    lines = [
        f"| {' | '.join([*names, *(c.heading for c in shown), *COST_HEADINGS])} |",
        "|" + "---|" * len(names) + "---:|" * (len(shown) + len(COST_HEADINGS)),
    ]
    for row in rows:
        flat = row.flat()
        cells = [*(flat[name] for name in names), *(written(row, column) for column in shown)]
        lines.append(f"| {' | '.join(cells)} | {format_cost(row.cost)} |")
    table = "\n".join(lines)
    legend += f"\n\n{UNDEFINED}" if "–" in table else ""
    legend += f"\n\n{EMPTY}" if "sensors" in names else ""
    return f"{table}\n\n{legend}\n" + (f"\n{decoded}\n" if decoded else "")

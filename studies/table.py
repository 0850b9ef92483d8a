"""A study's table: a row per cell, mean over seeds, and the paper's figure in brackets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "Column",
    "Row",
    "Synergy",
    "as_markdown",
    "average",
    "build",
    "defined",
    "figure",
    "gain",
    "legend",
    "shown",
]

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One metric: its key, what stands above it, and how its figures are written."""

    key: str
    heading: str
    form: str = "{:.1f}"


class Synergy(NamedTuple):
    """One seed's score with every modality given, and that of the unimodal VAE."""

    joint: float | None
    alone: float | None


def defined(value: float | None) -> bool:
    """Whether a score file has a figure there: where nothing is defined, it has none (null)."""
    return value is not None and math.isfinite(value)


def average(values: Iterable[float | None]) -> float | None:
    """Mean over the figures that are defined; None if none is."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(there) if there else None


def shown(value: float | None, form: str) -> str:
    """A figure, or a dash where none is defined."""
    return "–" if value is None else form.format(value)


def gain(joint: float | None, alone: float | None) -> float | None:
    """Synergy gain in percent; undefined for a unimodal score of zero or less, or for none."""
    if joint is None or alone is None or not alone > 0:
        return None
    return 100 * (joint - alone) / alone


def mean_gain(seeds: Sequence[Synergy]) -> float | None:
    """The gain of the mean score over the mean unimodal score, as in the paper."""
    both = [seed for seed in seeds if defined(seed.joint) and defined(seed.alone)]
    return gain(average(s.joint for s in both), average(s.alone for s in both))


def build(
    cells: Mapping[str, tuple[str, str]],
    measured: Mapping[str, Sequence[Mapping[str, float | Synergy | None]]],
    columns: Sequence[Column],
    paper: Mapping[tuple[str, str], Mapping[str, float]],
) -> list[Row]:
    """One row per cell: of each column its figure, the deviation over seeds, the number of seeds
    that this is over (a seed whose unimodal score is no more than zero has no gain of its own, and
    one without a score has no figure), and the paper's figure.

    Args:
        cells: cell name -> (fusion, objective), in the order of the rows.
        measured: cell name -> the metrics of each seed.
        paper: (fusion, objective) -> the paper's figures.
    """
    rows = []
    for name, (fusion, objective) in cells.items():
        seeds = measured[name]
        row: Row = {"cell": name, "fusion": fusion, "objective": objective, "seeds": len(seeds)}
        for column in columns:
            plain: list[Any] = [v for m in seeds if not isinstance(v := m[column.key], Synergy)]
            pairs = [v for m in seeds if isinstance(v := m[column.key], Synergy)]
            if pairs:
                row[column.key] = mean_gain(pairs)
                plain = [gain(*pair) for pair in pairs]
            else:
                row[column.key] = average(plain)
            plain = [value for value in plain if defined(value)]
            row[f"{column.key}_std"] = statistics.stdev(plain) if len(plain) > 1 else None
            row[f"{column.key}_seeds"] = len(plain)
            row[f"{column.key}_paper"] = paper.get((fusion, objective), {}).get(column.key)
        rows.append(row)
    return rows


def figure(row: Row, column: Column, paper: bool = True) -> str:
    """One figure as the table shows it: `52.9 ± 1.2 (58.9)`.

    `+12.0 ± 3.1 [4 of 5 seeds]`: one of the seeds has no gain of its own.
    """
    value, deviation = row[column.key], row[f"{column.key}_std"]
    text = shown(value, column.form)
    if deviation is not None:
        text += " ± " + column.form.replace("+", "").format(deviation)
    if row[f"{column.key}_seeds"] < row["seeds"] > 1:
        text += f" [{row[f'{column.key}_seeds']} of {row['seeds']} seeds]"
    printed = row[f"{column.key}_paper"]
    return text if printed is None or not paper else f"{text} ({column.form.format(printed)})"


def as_markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """The table for people: measured, and the paper's figure in brackets."""
    lines = [
        "| objective | fusion | " + " | ".join(c.heading for c in columns) + " |",
        "|---|---|" + "---:|" * len(columns),
    ]
    for row in rows:
        figures = " | ".join(figure(row, column) for column in columns)
        lines.append(f"| {row['objective']} | {row['fusion']} | {figures} |")
    return "\n".join(lines) + "\n"


def legend(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """What ± and – are, for a table that has some."""
    signs = {
        " ±": "± is the deviation over seeds; which pairs are tested is the same for all.",
        "–": "–: not defined, as a gain over a score of zero or less is not.",
    }
    written = " ".join(figure(row, column) for row in rows for column in columns)
    return " ".join(said for sign, said in signs.items() if sign in written)

"""A study's table: a row per cell, mean over seeds, and the paper's figure in brackets."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Column", "Row", "as_markdown", "build", "figure", "gain"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One metric: its key, what stands above it, and how its figures are written."""

    key: str
    heading: str
    form: str = "{:.1f}"


def gain(joint: float, alone: float) -> float | None:
    """Synergy gain in percent; undefined for a unimodal score of zero or less."""
    return 100 * (joint - alone) / alone if alone > 0 else None


def build(
    cells: Mapping[str, tuple[str, str]],
    measured: Mapping[str, Sequence[Mapping[str, float | None]]],
    columns: Sequence[Column],
    paper: Mapping[tuple[str, str], Mapping[str, float]],
) -> list[Row]:
    """One row per cell.

    Args:
        cells: cell name -> (fusion, objective), in the order of the rows.
        measured: cell name -> the metrics of each seed.
        paper: (fusion, objective) -> the paper's figures.
    """
    rows = []
    for name, (fusion, objective) in cells.items():
        row: Row = {"cell": name, "fusion": fusion, "objective": objective}
        for column in columns:
            values = [m[column.key] for m in measured[name]]
            known = [v for v in values if v is not None]
            row[column.key] = statistics.fmean(known) if known else None
            row[f"{column.key}_std"] = statistics.stdev(known) if len(known) > 1 else None
            row[f"{column.key}_paper"] = paper.get((fusion, objective), {}).get(column.key)
        rows.append(row)
    return rows


def figure(row: Row, column: Column, paper: bool = True) -> str:
    """One figure as the table shows it: `52.9 ± 1.2 (58.9)`."""
    value, deviation = row[column.key], row[f"{column.key}_std"]
    text = "–" if value is None else column.form.format(value)
    if deviation is not None:
        text += " ± " + column.form.replace("+", "").format(deviation)
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

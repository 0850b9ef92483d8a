"""Table III from the score files of the cells that params.yaml asks for."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Sequence
from typing import Any

from pipeline import paper
from pipeline.stage import MODALITIES

__all__ = ["COLUMNS", "as_csv", "as_markdown", "build"]

METRICS = (*(f"cross_{m}" for m in MODALITIES), *(f"synergy_{m}" for m in MODALITIES))
COLUMNS = (
    "fusion",
    "objective",
    *(f"{metric}{suffix}" for metric in METRICS for suffix in ("", "_std", "_paper", "_diff")),
)
HEADINGS = {
    "cross_image": "D+R→I",
    "cross_depth": "I+R→D",
    "cross_radar": "I+D→R",
    "synergy_image": "all→I (%)",
    "synergy_depth": "all→D (%)",
    "synergy_radar": "all→R (%)",
}

Score = dict[str, Any]


def _measured(score: Score, unimodal: dict[str, float]) -> dict[str, float | None]:
    """The six figures of one trained model; a gain over a unimodal VAE at zero is undefined."""
    row: dict[str, float | None] = {}
    for target in MODALITIES:
        others = "+".join(m for m in MODALITIES if m != target)
        row[f"cross_{target}"] = score["subsets"][others][target]["map50"]
        joint, alone = score["synergy"][target]["map50"], unimodal[target]
        row[f"synergy_{target}"] = 100 * (joint - alone) / alone if alone > 0 else None
    return row


def _summarise(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    known = [v for v in values if v is not None]
    mean = statistics.fmean(known) if known else None
    return mean, statistics.stdev(known) if len(known) > 1 else None


def build(
    cells: dict[str, tuple[str, str]],
    scores: dict[tuple[str, int], Score],
    unimodal: dict[tuple[str, int], float],
) -> list[dict[str, Any]]:
    """One row per cell: mean and deviation over seeds, the paper's figure and the difference.

    Args:
        cells: cell name -> (fusion, objective), in the order of the rows.
        scores: (cell name, seed) -> the score file of that model.
        unimodal: (modality, seed) -> mAP@0.5 of that modality's own VAE.
    """
    rows = []
    for name, (fusion, objective) in cells.items():
        measured = [
            _measured(score, {m: unimodal[m, seed] for m in MODALITIES})
            for (cell, seed), score in scores.items()
            if cell == name
        ]
        row: dict[str, Any] = {"fusion": fusion, "objective": objective}
        for metric in METRICS:
            mean, deviation = _summarise([m[metric] for m in measured])
            printed = paper.TABLE3.get((fusion, objective), {}).get(metric)
            row[metric] = mean
            row[f"{metric}_std"] = deviation
            row[f"{metric}_paper"] = printed
            row[f"{metric}_diff"] = None if mean is None or printed is None else mean - printed
        rows.append(row)
    return rows


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """The table with every column; an unknown figure is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def _cell(row: dict[str, Any], metric: str) -> str:
    value, deviation, printed = row[metric], row[f"{metric}_std"], row[f"{metric}_paper"]
    form = "{:+.1f}" if metric.startswith("synergy") else "{:.2f}"
    text = "–" if value is None else form.format(value)
    if deviation is not None:
        text += " ± " + form.replace("+", "").format(deviation)
    return text if printed is None else f"{text} ({form.format(printed)})"


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table for people: measured, and the paper's figure in brackets."""
    lines = [
        "| objective | fusion | " + " | ".join(HEADINGS.values()) + " |",
        "|---|---|" + "---:|" * len(HEADINGS),
    ]
    for row in rows:
        figures = " | ".join(_cell(row, metric) for metric in HEADINGS)
        lines.append(f"| {row['objective']} | {row['fusion']} | {figures} |")
    return "\n".join(lines) + "\n"

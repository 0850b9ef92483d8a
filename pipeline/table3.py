"""Table III from the figures of the cells that params.yaml asks for, with intervals and costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import paper
from pipeline.bootstrap import Values, bounds
from pipeline.stage import MODALITIES

__all__ = [
    "COLUMNS",
    "COSTS",
    "COST_HEADINGS",
    "METRICS",
    "as_markdown",
    "behind",
    "build",
    "decoding",
    "spent",
]

METRICS = (*(f"cross_{m}" for m in MODALITIES), *(f"synergy_{m}" for m in MODALITIES))
GAINS = tuple(f"gain_{m}" for m in MODALITIES)  # synergy as a difference of mAP
COSTS = ("train_seconds", "encodes", "decodes", "parameters")
COLUMNS = (
    "fusion",
    "objective",
    *(
        f"{metric}{suffix}"
        for metric in METRICS
        for suffix in ("", "_lo", "_hi", "_std", "_paper", "_diff")
    ),
    *(f"{metric}{suffix}" for metric in GAINS for suffix in ("", "_lo", "_hi", "_std")),
    *COSTS,
)
COST_HEADINGS = ("train (s)", "enc + dec", "params (M)")
HEADINGS = {
    "cross_image": "D+R→I",
    "cross_depth": "I+R→D",
    "cross_radar": "I+D→R",
    "synergy_image": "all→I (%)",
    "synergy_depth": "all→D (%)",
    "synergy_radar": "all→R (%)",
}


def _measured(joint: Mapping[str, Values], alone: Mapping[str, Values]) -> dict[str, Values]:
    """The figures of one trained model; a gain over a unimodal VAE at zero is undefined (nan)."""
    row = {}
    for target in MODALITIES:
        others = "+".join(m for m in MODALITIES if m != target)
        row[f"cross_{target}"] = joint[f"{others}/{target}"]
        gain = joint[f"synergy/{target}"] - alone[target]
        undefined = np.full_like(gain, np.nan)
        known = alone[target] > 0
        row[f"synergy_{target}"] = np.divide(100 * gain, alone[target], out=undefined, where=known)
        row[f"gain_{target}"] = gain
    return row


def _summarise(known: Sequence[Values], metric: str) -> dict[str, float | None]:
    """Mean over the seeds where a figure is known, its interval, and its deviation over seeds."""
    if not known:
        return {metric: None, f"{metric}_lo": None, f"{metric}_hi": None, f"{metric}_std": None}
    mean = np.mean(known, axis=0)
    low, high = bounds(mean)
    deviation = statistics.stdev(float(v[0]) for v in known) if len(known) > 1 else None
    return {
        metric: float(mean[0]),
        f"{metric}_lo": low,
        f"{metric}_hi": high,
        f"{metric}_std": deviation,
    }


def behind(rows: Sequence[dict[str, Any]], metric: str) -> None:
    """How far each row is behind the best of the column, on the same resamples.

    Reads `figures` (metric -> [1 + R]) of the rows and adds the difference to their `behind`.
    """
    known = [row for row in rows if row[metric] is not None]
    if not known:
        return
    best = max(known, key=lambda row: row[metric])
    for row in known:
        gap = row["figures"][metric] - best["figures"][metric]
        low, high = bounds(gap)
        row["behind"][metric] = {"best": float(gap[0]), "lo": low, "hi": high}


def build(
    cells: Mapping[str, tuple[str, str]],
    joint: Mapping[tuple[str, int], Mapping[str, Values]],
    alone: Mapping[tuple[str, int], Values],
    costs: Mapping[tuple[str, int], Mapping[str, float]],
) -> list[dict[str, Any]]:
    """One row per cell: figures with intervals, the paper's, the difference, and the cost.

    Args:
        cells: cell name -> (fusion, objective), in the order of the rows.
        joint: (cell name, seed) -> `SUBSET/TARGET` and `synergy/TARGET` -> mAP@0.5 [1 + R].
        alone: (modality, seed) -> mAP@0.5 [1 + R] of that modality's own VAE.
        costs: (cell name, seed) -> what COSTS names.

    Returns:
        Rows with the keys of COLUMNS and two more: `figures` (metric -> [1 + R], mean over the
        seeds where it is known)
        and `behind` (metric -> difference to the best row of the column, with its interval).
    """
    rows = []
    for name, (fusion, objective) in cells.items():
        seeds = [seed for cell, seed in joint if cell == name]
        measured = [
            _measured(joint[name, seed], {m: alone[m, seed] for m in MODALITIES}) for seed in seeds
        ]
        row: dict[str, Any] = {"fusion": fusion, "objective": objective, "behind": {}}
        row["figures"] = {}
        for metric in (*METRICS, *GAINS):
            known = [m[metric] for m in measured if np.isfinite(m[metric][0])]
            row["figures"][metric] = np.mean(known, axis=0) if known else measured[0][metric]
            row |= _summarise(known, metric)
        for metric in METRICS:
            printed = paper.TABLE3.get((fusion, objective), {}).get(metric)
            row[f"{metric}_paper"] = printed
            both = row[metric] is not None and printed is not None
            row[f"{metric}_diff"] = row[metric] - printed if both else None
        row |= {cost: statistics.fmean(costs[name, seed][cost] for seed in seeds) for cost in COSTS}
        rows.append(row)
    for metric in METRICS:
        behind(rows, metric)
    return rows


def _cell(row: dict[str, Any], metric: str, several_seeds: bool) -> str:
    value, printed = row[metric], row[f"{metric}_paper"]
    form = "{:+z.1f}" if metric.startswith("synergy") else "{:.2f}"
    text = "–" if value is None else form.format(value)
    if several_seeds:
        spread = row[f"{metric}_std"]
    else:
        low, high = row[f"{metric}_lo"], row[f"{metric}_hi"]
        spread = None if low is None else (high - low) / 2
    if spread is not None:
        text += " ± " + form.replace("+", "").format(spread)
    return text if printed is None else f"{text} ({form.format(printed)})"


def spent(row: Mapping[str, float]) -> str:
    """What COSTS names, as the cells under COST_HEADINGS."""
    return (
        f"{row['train_seconds']:,.0f} | {row['encodes']:g} + {row['decodes']:g} "
        f"| {row['parameters'] / 1e6:.1f}"
    )


def decoding(scores: Sequence[Mapping[str, Any]]) -> str:
    """What was decoded for the figures, in one line: the rules that score files state."""
    said = scores[0]
    components = {
        "drawn": "one drawn per scene",
        "best": f"the best on {_largest(scores, 'choosing')} validation scenes",
    }
    parts = [f"Decoded: the posterior's {said['point']}; a missing sensor is {said['missing']}"]
    if mixed := [score for score in scores if score["mixture"]]:
        cross, synergy = (mixed[0][f"{kind}_component"] for kind in ("cross", "synergy"))
        parts.append(
            f"component of a mixture ({_fusions(mixed)}): {components[cross]} where a sensor is "
            f"missing, {components[synergy]} where none is"
        )
    if drawn := [score for score in scores if score["drawn_per_element"]]:
        parts.append(f"{_fusions(drawn)}: an expert drawn for every element of the latent")
    return "; ".join(parts) + "."


def _fusions(scores: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(str(score["fusion"]) for score in scores))


def _largest(scores: Sequence[Mapping[str, Any]], key: str) -> int:
    return max((score[key] for score in scores if score[key] is not None), default=0)


def as_markdown(
    rows: Sequence[dict[str, Any]],
    unimodal: Mapping[str, Mapping[str, Any]],
    scenes: int,
    seeds: int,
    decoded: str,
) -> str:
    """The table for people: measured, its uncertainty, the paper's figure in brackets, the cost.

    Args:
        rows: from `build`.
        unimodal: modality -> `mean`, the mAP@0.5 of its own VAE; `paper`, the paper's; `ceiling`,
            that of what the sensor saw.
        scenes: test scenes scored.
        seeds: trainings of a cell.
        decoded: from `decoding`.
    """
    lines = [
        "| objective | fusion | " + " | ".join([*HEADINGS.values(), *COST_HEADINGS]) + " |",
        "|---|---|" + "---:|" * (len(HEADINGS) + len(COST_HEADINGS)),
    ]
    for row in rows:
        shown = " | ".join(_cell(row, metric, seeds > 1) for metric in HEADINGS)
        lines.append(f"| {row['objective']} | {row['fusion']} | {shown} | {spent(row)} |")
    alone = ", ".join(
        f"{modality} {row['mean']:.2f}"
        + (f" ({row['paper']:.2f})" if row["paper"] is not None else "")
        for modality, row in unimodal.items()
    )
    reach = ", ".join(f"{modality} {row['ceiling']:.2f}" for modality, row in unimodal.items())
    spread = (
        f"the deviation over {seeds} seeds"
        if seeds > 1
        else f"half the 95 % interval over resamples of the {scenes:,} test scenes (one seed)"
    )
    note = (
        f"± {spread}; in brackets the paper; enc + dec: passes of one modality through an encoder "
        "and a decoder, per scene and training step; params: parameters in millions.\n\n"
        f"VAEs of one sensor alone: {alone}. The ceiling, what is found in the sensors' own "
        f"pictures of these scenes: {reach}.\n\n{decoded}"
    )
    return "\n".join(lines) + f"\n\n{note}\n"

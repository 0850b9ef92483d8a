"""Table III from the figures of the cells that params.yaml asks for, with intervals and costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.reporting import paper
from pipeline.scoring.bootstrap import Values, bounds, mean

__all__ = [
    "COSTS",
    "COST_HEADINGS",
    "UNDEFINED",
    "as_markdown",
    "behind",
    "build",
    "columns",
    "decoding",
    "headings",
    "letters",
    "others",
    "over",
    "spent",
]

COSTS = ("train_seconds", "encodes", "decodes", "parameters")
COST_HEADINGS = ("train (s)", "enc + dec", "params (M)")
UNDEFINED = (
    "–: not defined, because no test scene shows that sensor an object, or because the figure is a "
    "gain over, or a share of, a mAP of 0."
)


def letters(modalities: Sequence[str]) -> dict[str, str]:
    """A letter for each modality: the first of its name that none before it has; else its name."""
    found: dict[str, str] = {}
    for modality in modalities:
        free = [letter for letter in modality.upper() if letter not in found.values()]
        found[modality] = free[0] if free else modality
    return found


def others(modalities: Sequence[str], target: str) -> str:
    """All sensors but the target, as score files name them: `depth+radar`."""
    return "+".join(m for m in modalities if m != target)


def headings(modalities: Sequence[str]) -> dict[str, str]:
    """What stands above each metric's column: `cross_image` is `D+R→I` of image, depth, radar."""
    letter = letters(modalities)
    return {
        f"cross_{m}": f"{others(list(letter.values()), letter[m])}→{letter[m]}" for m in modalities
    } | {f"synergy_{m}": f"all→{letter[m]} (%)" for m in modalities}


def over(targets: Sequence[str], undefined: Sequence[str]) -> str:
    """What a mean is over, in words: `over image, depth, radar`, or `of 2 of 3 sensors (...)`."""
    if not undefined:
        return f"over {', '.join(targets)}"
    total = len(targets) + len(undefined)
    return f"of {len(targets)} of {total} sensors ({', '.join(targets) or 'none has a figure'})"


def _gains(modalities: Sequence[str]) -> list[str]:
    """Synergy as a difference of mAP."""
    return [f"gain_{m}" for m in modalities]


def columns(modalities: Sequence[str]) -> list[str]:
    """The columns of table3.csv."""
    suffixes = ("", "_lo", "_hi", "_std", "_paper", "_diff")
    return [
        "fusion",
        "objective",
        *(metric + suffix for metric in headings(modalities) for suffix in suffixes),
        *(metric + suffix for metric in _gains(modalities) for suffix in suffixes[:4]),
        *COSTS,
    ]


def _measured(joint: Mapping[str, Values], alone: Mapping[str, Values]) -> dict[str, Values]:
    """The figures of one trained model; a gain over a unimodal VAE at zero is undefined (nan)."""
    row = {}
    for target in alone:
        row[f"cross_{target}"] = joint[f"{others(list(alone), target)}/{target}"]
        gain = joint[f"synergy/{target}"] - alone[target]
        undefined = np.full_like(gain, np.nan)
        known = alone[target] > 0
        row[f"synergy_{target}"] = np.divide(100 * gain, alone[target], out=undefined, where=known)
        row[f"gain_{target}"] = gain
    return row


def _summarise(known: Sequence[Values], metric: str) -> dict[str, float | None]:
    """Mean over the seeds where a figure is known, its interval, its deviation, and how many."""
    count = {f"{metric}_seeds": len(known)}
    if not known:
        none = dict.fromkeys((metric, f"{metric}_lo", f"{metric}_hi", f"{metric}_std"))
        return none | count
    values = mean(known)
    low, high = bounds(values)
    deviation = statistics.stdev(float(v[0]) for v in known) if len(known) > 1 else None
    figures = {
        metric: float(values[0]),
        f"{metric}_lo": low,
        f"{metric}_hi": high,
        f"{metric}_std": deviation,
    }
    return figures | count


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
        alone: (modality, seed) -> mAP@0.5 [1 + R] of that modality's own VAE; names the run's
            modalities, in the order of the columns.
        costs: (cell name, seed) -> what COSTS names.

    Returns:
        Rows with the keys of `columns` and more: `METRIC_seeds`, over how many seeds a figure is
        (a seed that has none is left out), `figures` (metric -> [1 + R], the means over them)
        and `behind` (metric -> difference to the best row of the column, with its interval).
    """
    modalities = list(dict.fromkeys(modality for modality, _ in alone))
    metrics = list(headings(modalities))
    rows = []
    for name, (fusion, objective) in cells.items():
        seeds = [seed for cell, seed in joint if cell == name]
        measured = [
            _measured(joint[name, seed], {m: alone[m, seed] for m in modalities}) for seed in seeds
        ]
        row: dict[str, Any] = {"fusion": fusion, "objective": objective, "behind": {}}
        row["figures"] = {}
        for metric in (*metrics, *_gains(modalities)):
            row["figures"][metric] = mean([m[metric] for m in measured])
            row |= _summarise([m[metric] for m in measured if np.isfinite(m[metric][0])], metric)
        for metric in metrics:
            printed = paper.TABLE3.get((fusion, objective), {}).get(metric)
            row[f"{metric}_paper"] = printed
            both = row[metric] is not None and printed is not None
            row[f"{metric}_diff"] = row[metric] - printed if both else None
        row |= {cost: statistics.fmean(costs[name, seed][cost] for seed in seeds) for cost in COSTS}
        rows.append(row)
    for metric in metrics:
        behind(rows, metric)
    return rows


def _cell(row: dict[str, Any], metric: str, seeds: int) -> str:
    value, printed = row[metric], row[f"{metric}_paper"]
    form = "{:+z.1f}" if metric.startswith("synergy") else "{:.2f}"
    text = "–" if value is None else form.format(value)
    if seeds > 1:
        spread = row[f"{metric}_std"]
    else:
        low, high = row[f"{metric}_lo"], row[f"{metric}_hi"]
        spread = None if low is None else (high - low) / 2
    if spread is not None:
        text += " ± " + form.replace("+", "").format(spread)
    if row[f"{metric}_seeds"] < seeds > 1:
        text += f" [{row[f'{metric}_seeds']} of {seeds} seeds]"
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
        alike = ", the same for every sensor it generates" if synergy == "best" else ""
        parts.append(
            f"component of a mixture ({_fusions(mixed)}): {components[cross]} where a sensor is "
            f"missing, {components[synergy]} where none is{alike}"
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
    heads = headings(list(unimodal))
    lines = [
        "| objective | fusion | " + " | ".join([*heads.values(), *COST_HEADINGS]) + " |",
        "|---|---|" + "---:|" * (len(heads) + len(COST_HEADINGS)),
    ]
    for row in rows:
        shown = " | ".join(_cell(row, metric, seeds) for metric in heads)
        lines.append(f"| {row['objective']} | {row['fusion']} | {shown} | {spent(row)} |")
    table = "\n".join(lines)
    undefined = f"\n\n{UNDEFINED}" if "–" in table else ""
    return f"{table}\n\n{_legend(unimodal, scenes, seeds)}{undefined}\n\n{decoded}\n"


def _legend(unimodal: Mapping[str, Mapping[str, Any]], scenes: int, seeds: int) -> str:
    """What letters, ± and brackets mean, and the figures to compare with."""
    spread = (
        f"the deviation over {seeds} trainings with other seeds, on the same test scenes"
        if seeds > 1
        else f"half the 95 % interval over resamples of the {scenes:,} test scenes; what another "
        "seed or machine does to a training is not in it (one seed)"
    )
    theirs = set(unimodal) - set(paper.SENSORS)
    apart = f", which has no {' or '.join(sorted(theirs))}" if theirs else ""
    named = ", ".join(f"{letter} {name}" for name, letter in letters(list(unimodal)).items())
    alone = ", ".join(
        f"{modality} {_two(row['mean'])}" + (f" ({_two(row['paper'])})" if row["paper"] else "")
        for modality, row in unimodal.items()
    )
    reach = ", ".join(f"{modality} {_two(row['ceiling'])}" for modality, row in unimodal.items())
    return (
        f"{named}. ± {spread}; in brackets the paper{apart}; enc + dec: passes of one modality "
        "through an encoder and a decoder, per scene and training step; params: parameters in "
        f"millions.\n\nVAEs of one sensor alone: {alone}. The ceiling, what is found in the "
        f"sensors' own pictures of these scenes: {reach}."
    )


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"

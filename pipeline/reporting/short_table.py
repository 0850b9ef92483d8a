"""The README's table: what each method reaches when sensors are there, missing or faulty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.metrics import DETECTED

__all__ = ["short_table"]

HEADINGS = ("one missing", "only one there", "none missing", "one faulty")


def short_table(results: Path) -> str:
    """Markdown, a row per cell: the headline as mean over the generated sensors (and seeds).

    Args:
        results: the folder of a finished run, with `table3.json`, `faults.json` and `scores/`.
    """
    table = stage.read_json(results / "table3.json")
    faults = stage.read_json(results / "faults.json")
    metric = DETECTED[table.get("headline", "map50")]  # older tables name none
    faulty = {row["cell"]: row["faulty"] for row in faults["rows"]}
    lines = [f"| method | {' | '.join(HEADINGS)} |", f"|---|{'---:|' * len(HEADINGS)}"]
    scores = {
        row["cell"]: [
            stage.read_json(Run(row["cell"], seed).scores(results)) for seed in table["seeds"]
        ]
        for row in table["rows"]
    }
    fused = [each[0]["modalities"] for each in scores.values()]
    targets = [m for m in fused[0] if all(m in others for others in fused)]  # means compare
    for cell, each in scores.items():
        lacking = len(each[0]["modalities"]) - 1
        figures = (
            _generated(each, metric.key, lacking, targets),
            _generated(each, metric.key, 1, targets),
            _mean(score["synergy"][m][metric.key] for score in each for m in targets),
            _mean([faulty.get(cell)]),
        )
        lines.append(f"| `{cell}` | {' | '.join(figures)} |")
    sensors = ", ".join(targets)
    scenes = next(iter(scores.values()))[0]["scenes"]
    seeds = "one seed" if len(table["seeds"]) == 1 else f"{len(table['seeds'])} seeds"
    legend = (
        f"{metric.heading} of a detector on what is generated (1 is best), mean over {sensors}; "
        f"{seeds}, {scenes} test scenes, {faults['scenes']} for the last column."
    )
    return "\n".join([*lines, "", legend, ""])


def _generated(scores: Sequence[Any], key: str, sensors: int, targets: Sequence[str]) -> str:
    """The mean over each target that is generated from as many others."""
    return _mean(
        entry[key]
        for score in scores
        for given, entries in score["subsets"].items()
        for target, entry in entries.items()
        if target in targets and len(seen := given.split("+")) == sensors and target not in seen
    )


def _mean(values: Iterable[float | None]) -> str:
    """Two digits, or a dash where there is none or one is undefined."""
    known = list(values)
    return "–" if not known or None in known else f"{mean(v for v in known if v is not None):.2f}"

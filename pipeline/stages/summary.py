"""Stage `summary`: the few figures that `dvc metrics`, `dvc plots` and `dvc exp show` are for.

Score files hold every subset and metric, hundreds of numbers each; a table of those helps nobody.
"""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import csv
import io
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.reporting.table import others
from pipeline.reporting.tables import points
from pipeline.run import Run
from pipeline.running import stage
from pipeline.study import Study, asked_study

__all__ = ["main"]


def figures(score: dict[str, Any], headline: str) -> dict[str, dict[str, float]]:
    """The headline by modality: generated from all the others (`cross`), and from all (`all`)."""
    names = score["modalities"]
    cross = {
        m: score["subsets"][given][m][headline]
        for m in names
        if (given := others(names, m)) in score["subsets"]
    }
    return {"cross": cross, "all": {m: score["synergy"][m][headline] for m in names}}


def curves(study: Study, run: Run) -> dict[str, list[tuple[int, float]]]:
    """The validation curves of one training, `loss` and PART_TERM: (step, nats per scene)."""
    found = {}
    folder = run.curves(study.data)
    for file in sorted((folder / "plots/metrics").glob("validation_*.tsv")):
        found[file.stem.removeprefix("validation_")] = study.read(file, points)
    if "loss" not in found:
        stage.fail(f"{folder}: has no validation loss; `{study.again}` makes it")
    return found


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    stage.write_bytes(path, text.getvalue().encode())


def main(study: Study) -> None:
    """One small file of metrics per run that its params ask for, and three tables to plot."""
    config = study.load(study.part("params").Params)
    metrics = study.results / "metrics"
    headline = config.score.headline

    def read(file: Path) -> dict[str, dict[str, float]]:
        return figures(json.loads(file.read_text(encoding="utf-8")), headline)

    names = (*config.grid.cells, *config.vae.modalities)
    runs = [Run(name, seed) for name in names for seed in config.grid.seeds]
    found = {run: study.read(run.scores(study.results), read) for run in runs}
    logged = {run: curves(study, run) for run in runs}
    shutil.rmtree(metrics, ignore_errors=True)
    for run, table in found.items():
        stage.write_json(metrics / f"{run}.json", table)
    bars = (
        (run, f"{kind} {modality}", value)
        for run, table in found.items()
        for kind, by_modality in table.items()
        for modality, value in by_modality.items()
    )
    _write_csv(study.results / "scores.csv", ("run", "score", "headline"), bars)
    _write_csv(
        study.results / "curves.csv",
        ("run", "step", "validation_loss"),
        ((run, *point) for run in runs for point in logged[run].pop("loss")),
    )
    _write_csv(
        study.data / "terms.csv",  # long where the grid is large: DVC's to keep, not git's
        ("run", "part", "term", "step", "nats"),
        (
            (run, *name.rsplit("_", 1), *point)
            for run in runs
            for name, points in logged[run].items()
            for point in points
        ),
    )


if __name__ == "__main__":
    asked = asked_study(__doc__)
    with asked.running("summary", lambda: "the scores are kept"):
        main(asked)

"""What the pages of Tables I and II share: how scores are read, and what their sections show."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models import objectives
from pipeline.cells import GridParams
from pipeline.reporting.legend import UNDEFINED
from pipeline.reporting.page import Page
from pipeline.run import Run
from pipeline.scoring.bootstrap import Values, known, mean
from pipeline.study import Study

__all__ = ["Inputs", "page_of", "read", "shown"]

SECTIONS = {
    "table": "The table",
    "words": "Against the paper",
    "gallery": "Generated",
    "cost": "Cost",
}


@dataclass(frozen=True)
class Inputs:
    """Score files and what trainings came to, by (cell or modality, seed)."""

    study: Study
    grid: GridParams
    scores: Mapping[tuple[str, int], Any]
    resampled: Mapping[tuple[str, int], Mapping[str, Values]]
    trainings: Mapping[tuple[str, int], Any]

    @property
    def pairs(self) -> int:
        """How many test pairs are scored."""
        return int(next(iter(self.scores.values()))["scenes"])

    def alone(self, modality: str, form: str) -> str:
        """The mean score of a modality's own VAE, or a dash where none is defined."""
        found = [v for (name, _), v in self.resampled.items() if name == modality]
        return shown(known(mean([each[f"synergy/{modality}"] for each in found])[0]), form)


def read(study: Study) -> Inputs:
    """What the params ask for; one line and exit code 2 if a file is not there."""
    grid = study.section("grid", GridParams)
    runs = [Run(name, seed) for name in (*study.modalities, *grid.cells) for seed in grid.seeds]
    return Inputs(
        study,
        grid,
        {(run.cell, run.seed): study.read_json(run.scores(study.results)) for run in runs},
        {(run.cell, run.seed): study.read_arrays(run.bootstrap(study.data)) for run in runs},
        {(run.cell, run.seed): study.read_json(run.training(study.results)) for run in runs},
    )


def shown(value: float | None, form: str) -> str:
    """A figure, or a dash where none is defined."""
    return "–" if value is None else form.format(value)


def _importance_note(grid: GridParams, samples: int) -> str:
    """Where rows depart from the paper's K as they must; empty if the table has none."""
    names = sorted({cell.objective for cell in grid.cells.values()})
    single = [name for name in names if not objectives.traits(name).importance]
    if not single:
        return ""
    verb = "is" if len(single) == 1 else "are"
    return (
        f" {', '.join(single)} {verb} trained with K = 1 importance sample, where the paper has "
        f"K = {samples}: its KL terms have no place in an importance-weighted bound."
    )


def _cost(inputs: Inputs, name: str) -> dict[str, float]:
    """Parameters and steps of a model, the mean over seeds."""
    each = [cost for (of, _), cost in inputs.trainings.items() if of == name]
    keys = ("parameters", "steps")
    return {key: statistics.fmean(cost[key] for cost in each) for key in keys}


def page_of(
    inputs: Inputs,
    table: str,
    *,
    source: str,
    origin: str,
    title: str,
    lead: str,
    notice: str,
    note: str,
    beside: str,
    pictures: Mapping[str, tuple[str, bytes]],
    pictures_title: str,
    captions: Sequence[Sequence[str]] = (),
) -> Page:
    """The page of a study of two modalities.

    Args:
        table: as the paper numbers it, I or II.
        source: what the figures were made on, embedded or files; told in every file.
        origin: the same in a sentence.
        title, lead: what the study is, and what the figures are.
        notice: what a reader must not take the figures for.
        note, beside: what the columns' letters stand for, and the figures to compare with.
        pictures: file name -> what it shows, and its PNG.
        captions: lines of a table, the headings first.
    """
    grid, number = inputs.grid, {"I": "table1", "II": "table2"}[table]
    note += _importance_note(grid, inputs.study.part("paper").PAPER_SAMPLES)
    if len(grid.seeds) > 1:
        note += " ± is the deviation over seeds; which pairs are tested is the same for all."
    else:
        note += " ± is half the 95 % interval over resamples of the test pairs."
    title += f": Table {table}" + (" in small" if source == "embedded" else "")
    lead += f" {inputs.pairs:,} test pairs, {len(grid.seeds)} seed(s)."
    return Page(
        number,
        title,
        title,
        f"Table {table}, here and in the paper",
        SECTIONS,
        f"{lead} In brackets the paper's; all→: the gain over the VAE of that modality alone, in "
        f"percent of its figure. {note}",
        origin=origin,
        marks={"data": source},
        files={name: png for name, (_, png) in pictures.items()},
        context={
            "lead": lead,
            "notice": notice if source == "embedded" else "",
            "note": f"{origin} {note} {UNDEFINED}",
            "beside": [beside],
            "pictures_title": pictures_title,
            "pictures": [
                (caption, "data:image/png;base64," + base64.b64encode(png).decode())
                for caption, png in pictures.values()
            ],
            "captions": captions,
            "costs": {name: _cost(inputs, name) for name in _names(inputs)},
        },
    )


def _names(inputs: Inputs) -> Iterable[str]:
    return dict.fromkeys(name for name, _ in inputs.trainings)

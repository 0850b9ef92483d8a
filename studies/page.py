"""A study's results: table as csv, md and json, pictures, and one self-contained page."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from models import objectives
from models.params import Cell
from pipeline.reporting.findings import findings
from pipeline.reporting.table import (
    UNDEFINED,
    Row,
    as_markdown,
    build,
    keys,
    written,
)
from pipeline.reporting.tables import as_csv
from pipeline.run import Run
from pipeline.running import stage
from pipeline.study import Study

__all__ = [
    "average",
    "importance_note",
    "measured",
    "read_scores",
    "shown",
    "table_of",
    "write_page",
]


def cells(grid: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Cell name -> (fusion, objective), in the order of the params."""
    usual = {key: Cell.model_fields[key].default for key in ("fusion", "objective")}
    return {
        name: (cell.get("fusion", usual["fusion"]), cell.get("objective", usual["objective"]))
        for name, cell in grid["cells"].items()
    }


def average(values: Iterable[float | None]) -> float | None:
    """Mean over the figures that are defined; None if none is."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def shown(value: float | None, form: str) -> str:
    """A figure, or a dash where none is defined."""
    return "–" if value is None else form.format(value)


def importance_note(grid: Mapping[str, Any], samples: int) -> str:
    """Where rows depart from the paper's K as they must; empty if the table has none."""
    names = sorted({objective for _, objective in cells(grid).values()})
    single = [name for name in names if not objectives.traits(name).importance]
    if not single:
        return ""
    verb = "is" if len(single) == 1 else "are"
    return (
        f" {', '.join(single)} {verb} trained with K = 1 importance sample, where the paper has "
        f"K = {samples}: its KL terms have no place in an importance-weighted bound."
    )


def read_scores(study: Study, names: Iterable[str], seeds: Sequence[int]) -> dict[str, list[Any]]:
    """Name -> the score file of each seed; one line and exit code 2 if one is not there."""
    return {
        name: [study.read_json(Run(name, seed).scores(study.results)) for seed in seeds]
        for name in names
    }


def table_of(
    study: Study, grid: Mapping[str, Any], scores: Mapping[str, Sequence[Any]]
) -> list[Row]:
    """The study's table, from its score files."""
    paper = study.part("paper")
    return build(
        cells(grid),
        {
            (cell, seed): measured(scores[cell][place])
            for cell in grid["cells"]
            for place, seed in enumerate(grid["seeds"])
        },
        {
            seed: {
                name: value
                for m in study.modalities
                for name, value in measured(scores[m][place]).items()
            }
            for place, seed in enumerate(grid["seeds"])
        },
        {
            (cell, seed): study.read_json(Run(cell, seed).training(study.results))
            for cell in grid["cells"]
            for seed in grid["seeds"]
        },
        paper.COLUMNS,
        paper.TABLE,
    )


def measured(score: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """The figures of one trained model by the names of the table's sources, without resamples."""
    cross = {name.replace("->", "/"): value for name, value in score.get("cross", {}).items()}
    every = {f"synergy/{m}": value for m, value in score["all"].items()}
    return {
        name: np.array([np.nan if value is None else value], np.float64)
        for name, value in {"joint": score.get("joint"), **cross, **every}.items()
    }


def _costs(study: Study, names: Iterable[str], seeds: Sequence[int]) -> dict[str, dict[str, float]]:
    """Parameters, steps and seconds of each model, the mean over seeds."""
    costs = {}
    for name in names:
        each = [study.read_json(Run(name, seed).training(study.results)) for seed in seeds]
        costs[name] = {
            "parameters": each[0]["parameters"],
            "steps": each[0]["steps"],
            "train_seconds": statistics.fmean(e["train_seconds"] for e in each),
        }
    return costs


def write_page(
    study: Study,
    grid: Mapping[str, Any],
    table: str,
    rows: Sequence[Row],
    pictures: Mapping[str, tuple[str, bytes]],
    *,
    data: str,
    origin: str,
    lead: str,
    note: str,
    **words: Any,
) -> None:
    """Write table.{csv,md,json}, the pictures and report.html into the study's results.

    Args:
        table: file name of the table, as in table1.
        pictures: file name -> what it shows, and its PNG.
        data: the source that the figures were made on, embedded or files; in every file.
        origin: the same in a sentence.
        lead, note: what the figures are, and what the columns' letters stand for.
        words: what else the template needs.
    """
    names = [*study.modalities, *grid["cells"]]
    if len(grid["seeds"]) > 1:
        note += " ± is the deviation over seeds; which pairs are tested is the same for all."
    paper = study.part("paper")
    columns = [column for column in paper.COLUMNS if column.printed]
    found = findings(rows, paper.CLAIMS)
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html.j2")
    page = template.render(
        rows=rows,
        columns=columns,
        findings=found,
        figure=written,
        origin=origin,
        lead=lead,
        note=f"{note} {UNDEFINED}".strip(),
        costs=_costs(study, names, grid["seeds"]),
        pictures=[
            (caption, "data:image/png;base64," + base64.b64encode(png).decode())
            for caption, png in pictures.values()
        ],
        **words,
    )
    # Tables are copied elsewhere without the page, so each says for itself whose data it shows.
    flat = [{**row.flat(), "data": data} for row in rows]
    told = as_csv(flat, [*keys(columns), "data"])
    stage.write_bytes(study.results / f"{table}.csv", told.encode())
    legend = (
        f"{lead} In brackets the paper's; all→: the gain over the VAE of that modality alone, in "
        f"percent of its figure. {note}".strip()
    )
    stage.write_bytes(
        study.results / f"{table}.md",
        f"{origin}\n\n{as_markdown(rows, columns, legend)}".encode(),
    )
    stage.write_json(
        study.results / f"{table}.json",
        {"data": data, "rows": flat, "findings": [f._asdict() for f in found]},
    )
    for name, (_, png) in pictures.items():
        stage.write_bytes(study.results / name, png)
    stage.write_bytes(study.results / "report.html", page.encode())

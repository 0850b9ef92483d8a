"""The page of Shapes 3D: its sections and what they show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from base.files import json_bytes
from pipeline.reporting import detection_table, fault_table, figures, legend, table
from pipeline.reporting.figures import Line, Point, Style, Survival
from pipeline.reporting.findings import levels
from pipeline.reporting.page import Page
from pipeline.reporting.tables import as_csv
from pipeline.reporting.tradeoff import averaged, crossed, frontier, recipe
from pipeline.scoring.bootstrap import Values, bounds, known, mean
from pipeline.scoring.faults import FAULTS
from pipeline.scoring.metrics import DETECTED
from pipeline.scoring.mistakes import SURE
from pipeline.scoring.params import FaultParams
from studies.shapes3d import paper
from studies.shapes3d.inputs import Inputs, read
from studies.shapes3d.pictures import failures, is_map, overview, painter, sheets_of, viewer

__all__ = ["page", "read"]

SECTIONS = {
    "table": "Table III",
    "words": "Against the paper",
    "trade": "Trade-off",
    "viewer": "Viewer",
    "pictures": "Pictures",
    "subsets": "Every subset",
    "faults": "Faulty sensors",
    "failures": "Failures",
    "curves": "Learning curves",
    "cost": "Cost",
}

Row = dict[str, Any]


def _over_seeds(values: Sequence[float]) -> dict[str, float | None]:
    """Mean over the seeds that have a figure and standard deviation, None with one of them."""
    there = [value for value in values if math.isfinite(value)]
    deviation = statistics.stdev(there) if len(there) > 1 else None
    return {"mean": _average(values), "std": deviation}


def _average(values: Iterable[float | None]) -> float | None:
    """Mean over the figures that are defined; None if none is."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(there) if there else None


def _unimodal(inputs: Inputs) -> dict[str, Row]:
    """Per modality: the headline of its own VAE over seeds with its interval, and the paper's.

    With `ceiling`: that of what the sensor saw of the same scenes, the same whatever the seed.
    """
    found = {}
    for modality in inputs.modalities:
        runs = [v for (name, _), v in inputs.resampled.items() if name == modality]
        seeds = [run[f"synergy/{modality}"] for run in runs]
        low, high = bounds(mean(seeds))
        ceiling = runs[0][f"ceiling/{modality}"]
        least, most = bounds(ceiling)
        found[modality] = {
            **_over_seeds([float(values[0]) for values in seeds]),
            "lo": low,
            "hi": high,
            "paper": paper.UNIMODAL.get(modality) if inputs.headline == paper.METRIC else None,
            "ceiling": known(ceiling[0]),
            "ceiling_lo": least,
            "ceiling_hi": most,
        }
    return found


def _gains(inputs: Inputs, cells: Iterable[str]) -> list[Row]:
    """Per cell: metric -> modality -> `gain` of all sensors over the unimodal VAE, `lo`, `hi`.

    Differences of the figures besides the headline, as means over seeds.
    """

    def gain(cell: str, metric: str, modality: str) -> Row:
        name = f"synergy/{modality}/{metric}"
        each = [
            found[name] - inputs.resampled[modality, seed][name]
            for (run, seed), found in inputs.resampled.items()
            if run == cell
        ]
        values = mean(each)
        low, high = bounds(values)
        return {"gain": known(values[0]), "lo": low, "hi": high}

    others = [metric for metric in DETECTED if metric != inputs.headline]
    return [
        {
            "cell": cell,
            "metrics": {k: {m: gain(cell, k, m) for m in inputs.sensors[cell]} for k in others},
        }
        for cell in cells
    ]


def _matrix(inputs: Inputs, cell: str, part: str = "subsets") -> dict[str, dict[str, Row]]:
    """Subset of sensors -> generated modality -> every metric, mean over seeds, and `lo`, `hi`.

    A figure that is not defined is None. The interval is that of the headline; None where a part
    keeps no resamples. Modalities that were not scored are left out.
    """
    runs = [score[part] or {} for (name, _), score in inputs.scores.items() if name == cell]
    kept = [figures for (name, _), figures in inputs.resampled.items() if name == cell]
    prefix = "" if part == "subsets" else "prior-"

    def entry(subset: str, target: str) -> Row:
        row: Row = {k: _average(run[subset][target][k] for run in runs) for k in DETECTED}
        low, high = None, None
        name = f"{prefix}{subset}/{target}"
        if all(name in figures for figures in kept):
            low, high = bounds(mean([figures[name] for figures in kept]))
        return row | {"lo": low, "hi": high}

    return {
        subset: {target: entry(subset, target) for target in scored}
        for subset, scored in runs[0].items()
    }


def _cost(inputs: Inputs, cell: str) -> dict[str, float]:
    runs = [training for (name, _), training in inputs.trainings.items() if name == cell]
    keys = (*table.COSTS, "train_seconds")
    return {key: statistics.fmean(run[key] for run in runs) for key in keys}


def _agreement(inputs: Inputs, cell: str) -> Row | None:
    """Joint agreement, mean over seeds; with one seed its interval. None where it is undefined."""
    runs = [score["joint"] for (name, _), score in inputs.scores.items() if name == cell]
    there = [one for run in runs for one in (run or {}).values()]  # samples may show no object
    if not there:
        return None
    means = {name: _average(run[name] for run in there) for name in there[0] if name != "ci"}
    return means | {"ci": there[0]["ci"].get("map50") if len(there) == 1 else None}


def _likelihood(inputs: Inputs, cell: str) -> float | None:
    """log p(x) in nats, mean over seeds."""
    runs = [score["likelihood"] for (name, _), score in inputs.scores.items() if name == cell]
    return _average(run["log_likelihood"] for run in runs)


def _survival(
    merged: dict[str, dict[str, Values]],
    faults: FaultParams,
    looks: dict[str, Style],
    modalities: Sequence[str],
    measure: str,
) -> list[Row]:
    """One chart per faulty sensor, kind and generated modality: a line over severity per method.

    A line of each that has both; a modality whose figure is not defined has no chart.
    """

    def having(*sensors: str) -> dict[str, dict[str, Values]]:
        return {c: of for c, of in merged.items() if all(f"clean/{m}" in of for m in sensors)}

    return [
        {
            "sensor": sensor,
            "kind": kind,
            "target": target,
            "chart": figures.survival(
                f"{target} from all sensors, {sensor} {kind}",
                [
                    Survival(
                        cell,
                        looks[cell],
                        [float(found[f"clean/{target}"][0])]
                        + [
                            float(found[f"{sensor}/{kind}/{s}/{target}"][0])
                            for s in faults.severities
                        ],
                        float(found[f"without-{sensor}/{target}"][0]),
                    )
                    for cell, found in there.items()
                ],
                [0.0, *faults.severities],
                measure,
            ),
        }
        for sensor in modalities
        for kind in faults.kinds
        for target in modalities
        if (there := having(sensor, target))
        and all(np.isfinite(found[f"clean/{target}"][0]) for found in there.values())
    ]


def _faulty(inputs: Inputs) -> dict[str, dict[str, Values]]:
    """Cell -> the figures of its fault scores, mean over seeds."""
    cells = dict.fromkeys(cell for cell, _ in inputs.faults)
    return {
        cell: fault_table.merged([f for (name, _), f in inputs.faults.items() if name == cell])
        for cell in cells
    }


def _trade_off(
    rows: Sequence[table.Row],
    looks: dict[str, Style],
    seconds_of: Mapping[str, float],
    measure: str,
) -> list[str]:
    """The scatter of this run and, for the same cells, of the paper."""
    most = max(seconds_of.values()) or 1.0
    charts = []
    for title, part in (("This run", "value"), ("The paper", "paper")):
        points = []
        for row in rows:
            of = [getattr(row.figures.get(key), part, None) for key in paper.KEYS]
            shown = [value for value in of if value is not None]
            if len(shown) < len(of):
                continue
            cross, synergy = statistics.fmean(shown[:2]), statistics.fmean(shown[2:])
            seconds, here = seconds_of[row.cell], part == "value"
            note = f"cross {cross:.2f}, synergy {synergy:+z.1f} %"
            note += f", {seconds:.0f} s to train" if here else ""
            area = seconds / most if here else 0.1
            points.append(Point(row.cell, looks[row.cell], cross, synergy, area, note))
        charts.append(figures.scatter(points, title, measure) if points else "")
    return charts


def _learning(inputs: Inputs, looks: dict[str, Style]) -> dict[str, str]:
    """One chart per logged term, one line per method."""
    terms = dict.fromkeys(term for curves in inputs.curves.values() for term in curves)
    charts = {}
    for term in terms:
        lines = [
            Line(cell, looks[cell], *zip(*curves[term], strict=True))
            for cell, curves in inputs.curves.items()
            if term in curves
        ]
        charts[term] = figures.curves(term, lines)
    return {term: chart for term, chart in charts.items() if chart}


def _entries(inputs: Inputs, kind: str, key: str) -> str:
    """The fusions or objectives of the scores that have this, as in "moe, mopoe"."""
    return ", ".join(dict.fromkeys(s[kind] for s in inputs.scores.values() if s[key]))


def page(inputs: Inputs, rows: Sequence[table.Row]) -> Page:
    """What the page and the files beside it hold."""
    config, cells, least = inputs.config, inputs.cells, inputs.config.report.confidence
    looks, sheets = figures.styles(cells), sheets_of(inputs)
    matrices = {cell: _matrix(inputs, cell) for cell in cells}
    alike = not table.differ(inputs.sensors.values())
    columns, letters = paper.columns(inputs.modalities, alike), paper.letters(inputs.modalities)
    any_score, faults = next(iter(inputs.scores.values())), config.score.faults
    unimodal, gains, front = _unimodal(inputs), _gains(inputs, cells), frontier(rows)
    decoded = legend.decoding(list(inputs.scores.values()))
    cheapest = recipe(rows, paper.ENDS)
    costs, faulty = {cell: _cost(inputs, cell) for cell in cells}, _faulty(inputs)
    headline, measure = inputs.headline, DETECTED[inputs.headline].heading
    seconds = {cell: cost["train_seconds"] for cell, cost in costs.items()}
    steady = {cell: {key: cost[key] for key in table.COSTS} for cell, cost in costs.items()}
    survived = fault_table.summarise(cells, faulty, faults, steady, headline)
    each = [
        row
        | detection_table.beside(
            faulty[row["cell"]], "{sensor}/{kind}/{severity}".format(**row), row["target"]
        )
        for row in fault_table.conditions(cells, faulty, faults, steady, headline)
    ]
    told = detection_table.summarise(cells, faulty, faults)
    tables = fault_table.as_markdown(survived, faults, decoded, headline)
    return Page(
        "table3",
        "Table III: which multimodal VAE to trust when sensors are missing",
        "Which multimodal VAE to trust when sensors are missing",
        "Table III, here and in the paper",
        SECTIONS,
        legend.legend_of(
            unimodal, any_score["scenes"], len(config.grid.seeds), paper.SENSORS, letters
        ),
        decoded,
        remarks=[*levels(rows, columns), *filter(None, [cheapest])],
        told={
            "headline": headline,
            "unimodal": unimodal,
            "gains": gains,
            "recipe": cheapest,
            "frontier": front,
            "detectors": {
                m: {split: told[split] for split in ("validation", "test")}
                for m, told in inputs.detectors.items()
            },
        },
        files={
            "faults.csv": as_csv(each, max(map(list, each), key=len)).encode(),
            "faults.md": "\n".join(
                filter(None, [tables, detection_table.as_markdown(told, headline)])
            ).encode(),
            "faults.json": json_bytes({**faults.model_dump(), "rows": survived, "detection": told}),
            "overview.png": overview(inputs, least),
        },
        context={
            "config": config,
            "inputs": inputs,
            "maps": [m for m in inputs.modalities if is_map(m)],
            "any_score": any_score,
            "cells": cells,
            "letters": letters,
            "cross": inputs.cross,
            "crossed_targets": dict.fromkeys(m for of in inputs.cross.values() for m in of),
            "averaged": averaged(rows),
            "frontier": front,
            "crossed": crossed(rows),
            "unimodal": unimodal,
            "gains": gains,
            "matrices": matrices,
            "as_prior": {c: _matrix(inputs, c, "subsets_missing_as_prior") for c in cells},
            "entries": {
                "dropped": _entries(inputs, "objective", "subsets_missing_as_prior"),
                "mixed": _entries(inputs, "fusion", "mixture"),
                "drawn": _entries(inputs, "fusion", "drawn_per_element"),
            },
            "metrics": DETECTED,
            "headline": headline,
            "measure": measure,
            "faulty": survived,
            "told": [row for row in told if row["kind"] == detection_table.ALL],
            "told_rates": detection_table.RATES,
            "targets": table.over(survived[0]["targets"], survived[0]["undefined"]),
            "undefined": legend.UNDEFINED,
            "fault_kinds": {k: (FAULTS[k].__doc__ or "").strip() for k in faults.kinds},
            "survival": _survival(faulty, faults, looks, inputs.modalities, measure),
            "agreement": {cell: _agreement(inputs, cell) for cell in cells},
            "likelihood": {cell: _likelihood(inputs, cell) for cell in cells},
            "costs": costs,
            "swatches": {cell: figures.swatch(style) for cell, style in looks.items()},
            "trade_off": _trade_off(rows, looks, seconds, measure),
            "learning": _learning(inputs, looks),
            "sheets": sheets,
            "boxes": painter(inputs, sheets, least),
            "box_colours": figures.BOX_COLOURS,
            "failures": failures(inputs),
            "sure": SURE,
            "viewer": viewer(inputs, matrices, sheets, least),
        },
    )

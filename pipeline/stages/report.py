"""Stage `report`: Table III beside the paper's, as csv, md, json, a picture and report.html.

The cells come from params.yaml alone; a score file that no cell asks for is not read.
"""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import csv
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from base.files import as_json
from pipeline import params
from pipeline.params import Params
from pipeline.reporting import fault_table, figures, table
from pipeline.reporting.figures import Line, Overview, Point, Sprite, Style, Survival
from pipeline.reporting.findings import averaged, crossed, findings, frontier, levels, recipe
from pipeline.reporting.tables import as_csv
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.bootstrap import Values, bounds, known, mean
from pipeline.scoring.faults import FAULTS
from pipeline.scoring.mistakes import SURE
from pipeline.scoring.params import FaultParams
from pipeline.study import ROOT
from scenegen.dataset import MODALITIES, open_dataset

__all__ = ["main"]

DATA, RESULTS = stage.DATA, stage.RESULTS
CROSS = {m: table.others(MODALITIES, m) for m in ("image", "depth")}  # Fig. 4's: all others
LETTERS = table.letters(MODALITIES)
COLUMNS = table.columns_of(LETTERS)
SHOWN = {  # metrics of the subset matrix
    "map50": "mAP@0.5",
    "map50_95": "mAP@0.5:0.95",
    "ssim": "SSIM",
    "mse": "MSE",
}

Row = dict[str, Any]
Boxes = NDArray[np.floating]


@dataclass(frozen=True)
class Worst:
    """The scored scene in which one method made most mistakes at one modality."""

    scene: int
    pictures: dict[str, NDArray[np.uint8]]  # truth and generated, [1, H, W, C] each
    truth: Boxes  # [n, 5]
    found: Boxes  # the surest; `false` counts all
    missed: int
    false: int


@dataclass(frozen=True)
class Inputs:
    """Everything the report is made from; runs of several seeds are read whole, pictures once."""

    scores: dict[tuple[str, int], Any]  # (cell, seed)
    unimodal: dict[tuple[str, int], Any]  # (modality, seed)
    detectors: dict[str, Any]
    resampled: dict[tuple[str, int], dict[str, Values]]  # (cell or modality, seed)
    faults: dict[tuple[str, int], dict[str, Values]]  # (cell, seed)
    samples: dict[str, dict[str, NDArray[Any]]]  # of the first seed
    curves: dict[str, dict[str, list[tuple[float, float]]]]  # of the first seed
    scenes: NDArray[np.int64]  # scene numbers of the pictures
    classes: tuple[str, ...]
    pictures: dict[str, NDArray[np.uint8]]  # what each sensor saw of those scenes
    truth: dict[str, list[Boxes]]  # boxes [n, 5] of those scenes
    worst: dict[tuple[str, str], Worst]  # (cell, cross-generated modality), of the first seed


# --- reading -----------------------------------------------------------------------------------


def _require(config: Params) -> None:
    """One line and exit code 2 if an input that the params ask for is not there."""
    seeds = config.grid.seeds
    runs = [Run(cell, seed) for cell in config.grid.cells for seed in seeds]
    alone = [Run(modality, seed) for modality in MODALITIES for seed in seeds]
    first = [run for run in runs if run.seed == seeds[0]]
    wanted = [
        *(run.scores(RESULTS) for run in runs + alone),
        *(RESULTS / f"detectors/{modality}.json" for modality in MODALITIES),
        *(run.bootstrap(DATA) for run in runs + alone),
        *(run.faults(DATA) for run in runs),
        *(run.samples(DATA) for run in first),
        *(run.curves(DATA) for run in first),
    ]
    missing = [path for path in wanted if not path.exists()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        stage.fail(f"{missing[0]}: no such file{more}; `dvc repro` makes what params.yaml asks for")


def _cells(config: Params) -> dict[str, tuple[str, str]]:
    """Cell name -> (fusion, objective), in the order of params.yaml."""
    return {name: (cell.fusion, cell.objective) for name, cell in config.grid.cells.items()}


def _curves(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Every curve under a DVCLive folder: name -> (step, value) rows."""
    curves = {}
    root = folder / "plots/metrics"
    for path in sorted(root.rglob("*.tsv")):
        if rows := stage.read(path, _points):
            curves[str(path.relative_to(root).with_suffix(""))] = rows
    return curves


def _points(path: Path) -> list[tuple[float, float]]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [(float(row["step"]), float(row[path.stem])) for row in rows]


def _paired(
    file: Callable[[Run, Path], Path], names: Sequence[str], seeds: Sequence[int]
) -> dict[tuple[str, int], dict[str, Values]]:
    """Figures [1 + R] of several runs, which must be of the same resamples."""
    found = {
        (name, seed): stage.read_arrays(file(Run(name, seed), DATA))
        for name in names
        for seed in seeds
    }
    sizes = {key: {len(values) for values in arrays.values()} for key, arrays in found.items()}
    wanted = next(iter(sizes.values()))
    for (name, seed), size in sizes.items():
        if size != wanted or len(size) != 1:
            path = file(Run(name, seed), DATA)
            stage.fail(f"{path}: other resamples than its peers; `dvc repro`")
    return found


def _faults(config: Params) -> dict[tuple[str, int], dict[str, Values]]:
    """Figures of every cell and seed under the faults that the params ask for."""
    found, faults = (
        _paired(Run.faults, list(config.grid.cells), config.grid.seeds),
        config.score.faults,
    )
    wanted = {
        f"{sensor}/{kind}/{severity}/{target}"
        for sensor in MODALITIES
        for kind in faults.kinds
        for severity in faults.severities
        for target in MODALITIES
    }
    for (cell, seed), figures_of in found.items():
        if lacking := sorted(wanted - figures_of.keys()):
            stage.fail(f"{Run(cell, seed).faults(DATA)}: has no {lacking[0]}; `dvc repro`")
    return found


def _read(config: Params) -> Inputs:
    """Read what the params ask for; pictures are those of the first seed."""
    _require(config)
    grid, first = config.grid, config.grid.seeds[0]
    kept = {c: stage.read_arrays(Run(c, first).samples(DATA)) for c in grid.cells}
    samples = {
        cell: {name: array[: config.report.examples] for name, array in arrays.items()}
        for cell, arrays in kept.items()
    }
    scenes = next(iter(samples.values()))["scenes"]
    for cell, arrays in samples.items():
        if not np.array_equal(arrays["scenes"], scenes):
            path = Run(cell, first).samples(DATA)
            stage.fail(f"{path}: other scenes than its peers; `dvc repro`")
    try:
        dataset = open_dataset(stage.DATASET, verify=False)
    except (OSError, ValueError) as error:
        stage.fail(str(error))
    at = np.searchsorted(dataset.scenes("test"), scenes)
    seen = {m: dataset.array(m, "test") for m in MODALITIES}
    truth = {
        m: [np.column_stack(b).astype(np.float32) for b in dataset.boxes(m, "test")]
        for m in MODALITIES
    }

    def worst(cell: str, target: str) -> Worst:
        of = f"{CROSS[target]}/{target}"
        number = samples[cell][f"{of}/worst-scene"][0]
        place = int(np.searchsorted(dataset.scenes("test"), number))
        return Worst(
            int(number),
            {"truth": seen[target][[place]], "generated": samples[cell][f"{of}/worst"]},
            truth[target][place],
            _sure(samples[cell][f"{of}/worst-boxes"][0], SURE),
            *map(int, samples[cell][f"{of}/worst-mistakes"][0]),
        )

    return Inputs(
        scores={
            (cell, seed): stage.read_json(Run(cell, seed).scores(RESULTS))
            for cell in grid.cells
            for seed in grid.seeds
        },
        unimodal={
            (modality, seed): stage.read_json(Run(modality, seed).scores(RESULTS))
            for modality in MODALITIES
            for seed in grid.seeds
        },
        detectors={m: stage.read_json(RESULTS / f"detectors/{m}.json") for m in MODALITIES},
        resampled=_paired(Run.bootstrap, [*grid.cells, *MODALITIES], grid.seeds),
        faults=_faults(config),
        samples=samples,
        curves={cell: _curves(Run(cell, first).curves(DATA)) for cell in grid.cells},
        scenes=scenes,
        classes=tuple(dataset.classes),
        pictures={m: seen[m][at] for m in MODALITIES},
        truth={m: [truth[m][i] for i in at] for m in MODALITIES},
        worst={(cell, target): worst(cell, target) for cell in grid.cells for target in CROSS},
    )


def _found(inputs: Inputs, cell: str, name: str, scene: int, least: float) -> Boxes:
    """Detections [K, 5] of class-labelled boxes whose score is at least `least`."""
    return _sure(inputs.samples[cell][f"{name}/boxes"][scene], least)


def _sure(boxes: Boxes, least: float) -> Boxes:
    """Boxes [K, 5] and class of detections [n, 6] whose score is at least `least`."""
    return boxes[boxes[:, 4] >= least][:, [0, 1, 2, 3, 5]]  # NaN padding compares false


# --- parts of the page -------------------------------------------------------------------------


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
    """Per modality: mAP@0.5 of its own VAE over seeds with its interval, and the paper's.

    With `ceiling`: that of what the sensor saw of the same scenes, the same whatever the seed.
    """
    found = {}
    for modality in MODALITIES:
        runs = [v for (name, _), v in inputs.resampled.items() if name == modality]
        seeds = [run[f"synergy/{modality}"] for run in runs]
        low, high = bounds(mean(seeds))
        ceiling = runs[0][f"ceiling/{modality}"]
        least, most = bounds(ceiling)
        found[modality] = {
            **_over_seeds([float(values[0]) for values in seeds]),
            "lo": low,
            "hi": high,
            "paper": ROOT.part("paper").UNIMODAL.get(modality),
            "ceiling": known(ceiling[0]),
            "ceiling_lo": least,
            "ceiling_hi": most,
        }
    return found


def _gains(inputs: Inputs, cells: Iterable[str]) -> list[Row]:
    """Per cell: metric -> modality -> `gain` of all sensors over the unimodal VAE, `lo`, `hi`.

    Differences of the figures besides mAP@0.5, as means over seeds.
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

    others = [metric for metric in SHOWN if metric != "map50"]
    return [
        {"cell": cell, "metrics": {k: {m: gain(cell, k, m) for m in MODALITIES} for k in others}}
        for cell in cells
    ]


def _matrix(inputs: Inputs, cell: str, part: str = "subsets") -> dict[str, dict[str, Row]]:
    """Subset of sensors -> generated modality -> every metric, mean over seeds, and `lo`, `hi`.

    A figure that is not defined is None. The interval is that of mAP@0.5; None where a part keeps
    no resamples. Modalities that were not scored are left out.
    """
    runs = [score[part] or {} for (name, _), score in inputs.scores.items() if name == cell]
    kept = [figures for (name, _), figures in inputs.resampled.items() if name == cell]
    prefix = "" if part == "subsets" else "prior-"

    def entry(subset: str, target: str) -> Row:
        row: Row = {k: _average(run[subset][target][k] for run in runs) for k in SHOWN}
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
    runs = [score["cost"] for (name, _), score in inputs.scores.items() if name == cell]
    return {key: statistics.fmean(run[key] for run in runs) for key in runs[0]}


def _agreement(inputs: Inputs, cell: str) -> Row | None:
    """Joint agreement, mean over seeds; with one seed its interval. None where it is undefined."""
    runs = [score["joint"] for (name, _), score in inputs.scores.items() if name == cell]
    there = [run["image-depth"] for run in runs if run]  # some models' samples show no object
    if not there:
        return None
    names = ("map50", "map50_95", "map50_chance", "objects")
    means = {name: _average(run[name] for run in there) for name in names}
    return means | {"ci": there[0]["ci"].get("map50") if len(there) == 1 else None}


def _survival(
    merged: dict[str, dict[str, Values]], faults: FaultParams, looks: dict[str, Style]
) -> list[Row]:
    """One chart per faulty sensor, kind and generated modality: mAP over severity, per method.

    A modality whose mAP is not defined has no chart.
    """
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
                    for cell, found in merged.items()
                ],
                [0.0, *faults.severities],
            ),
        }
        for sensor in MODALITIES
        for kind in faults.kinds
        for target in MODALITIES
        if all(np.isfinite(found[f"clean/{target}"][0]) for found in merged.values())
    ]


def _faulty(inputs: Inputs) -> dict[str, dict[str, Values]]:
    """Cell -> the figures of its fault scores, mean over seeds."""
    cells = dict.fromkeys(cell for cell, _ in inputs.faults)
    return {
        cell: fault_table.merged([f for (name, _), f in inputs.faults.items() if name == cell])
        for cell in cells
    }


def _trade_off(rows: Sequence[table.Row], looks: dict[str, Style]) -> list[str]:
    """The scatter of this run and, for the same cells, of the paper."""
    most = max(row.cost["train_seconds"] for row in rows) or 1.0
    charts = []
    for title, part in (("This run", "value"), ("The paper", "paper")):
        points = []
        for row in rows:
            shown = [getattr(row.figures[key], part) for key in ROOT.part("paper").COLUMNS]
            if any(value is None for value in shown):
                continue
            cross, synergy = statistics.fmean(shown[:2]), statistics.fmean(shown[2:])
            seconds, here = row.cost["train_seconds"], part == "value"
            note = f"cross {cross:.2f}, synergy {synergy:+z.1f} %"
            note += f", {seconds:.0f} s to train" if here else ""
            area = seconds / most if here else 0.1
            points.append(Point(row.cell, looks[row.cell], cross, synergy, area, note))
        charts.append(figures.scatter(points, title) if points else "")
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


def _sheets(inputs: Inputs) -> dict[str, Sprite]:
    """One sprite per method and generated modality, one per sensor for what it saw, the worst."""
    sheets = {
        f"truth-{modality}": Sprite.of(f"truth-{modality}", {"truth": pictures})
        for modality, pictures in inputs.pictures.items()
    }
    for (cell, target), worst in inputs.worst.items():
        name = f"worst-{cell}-{target}"
        sheets[name] = Sprite.of(name, worst.pictures)
    for cell, arrays in inputs.samples.items():
        for target in MODALITIES:
            rows = {
                name.split("/")[0]: array
                for name, array in arrays.items()
                if name.endswith(f"/{target}")
            }
            if rows:
                sheets[f"{cell}-{target}"] = Sprite.of(f"{cell}-{target}", rows)
    return sheets


def _failures(inputs: Inputs) -> list[Row]:
    """Per method and cross-generated modality: of all scored scenes that with most mistakes."""
    return [
        {
            "cell": cell,
            "target": target,
            "subset": subset,
            "scene": worst.scene,
            "missed": worst.missed,
            "objects": len(worst.truth),
            "false": worst.false,
        }
        for (cell, target), worst in inputs.worst.items()
        for subset in [CROSS[target]]
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _viewer(
    inputs: Inputs,
    matrices: dict[str, dict[str, dict[str, Row]]],
    sheets: dict[str, Sprite],
    least: float,
) -> Row:
    """What the page's script needs to draw any picture: rows of the sprites, boxes, scores."""

    def plain(boxes: Boxes) -> list[list[float]]:
        return [[*(round(float(v), 1) for v in box[:4]), int(box[4])] for box in boxes]

    methods = {
        cell: {
            "map": {
                subset: {target: _rounded(values["map50"]) for target, values in row.items()}
                for subset, row in matrices[cell].items()
            },
            "rows": {t: sheets[f"{cell}-{t}"].rows for t in MODALITIES if f"{cell}-{t}" in sheets},
            "boxes": {
                name.removesuffix("/boxes"): [
                    plain(_found(inputs, cell, name.removesuffix("/boxes"), scene, least))
                    for scene in range(len(inputs.scenes))
                ]
                for name in inputs.samples[cell]
                if name.endswith("/boxes")
            },
        }
        for cell in inputs.samples
    }
    return {
        "modalities": MODALITIES,
        "camera": figures.CAMERA,
        "scenes": inputs.scenes.tolist(),
        "sizes": {m: inputs.pictures[m].shape[1:3] for m in MODALITIES},
        "truth": {m: [plain(boxes) for boxes in inputs.truth[m]] for m in MODALITIES},
        "methods": methods,
    }


def _painter(
    inputs: Inputs, sheets: dict[str, Sprite], least: float
) -> Callable[[str, str, str, int], str]:
    """Draws the boxes over a picture: (cell or truth, row of the sprite, target, scene) -> SVG."""

    def of(cell: str, row: str, target: str, scene: int) -> Boxes:
        if cell == "truth":
            return inputs.truth[target][scene]
        if cell.startswith("worst-"):
            worst = inputs.worst[cell.removeprefix("worst-"), target]
            return worst.truth if row == "truth" else worst.found
        return _found(inputs, cell, f"{row}/{target}", scene, least)

    def boxes(cell: str, row: str, target: str, scene: int) -> str:
        found = of(cell, row, target, scene)
        sheet = sheets[f"{cell}-{target}"]
        return figures.overlay(found, (sheet.height, sheet.width), target == "radar")

    return boxes


def _page(
    config: Params,
    inputs: Inputs,
    rows: Sequence[table.Row],
    unimodal: dict[str, Row],
    gains: list[Row],
    faulty: dict[str, dict[str, Values]],
    survived: list[Row],
    cheapest: tuple[str | None, list[Row]],
) -> str:
    """report.html: everything inlined. `cheapest`: the recipe and the frontier."""
    cells, least = _cells(config), config.report.confidence
    looks, sheets, paper = figures.styles(cells), _sheets(inputs), ROOT.part("paper")
    matrices = {cell: _matrix(inputs, cell) for cell in cells}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_function"] = as_json
    return environment.get_template("report.html.j2").render(
        config=config,
        inputs=inputs,
        near=config.scenes.options("radar").reach[0],
        any_score=next(iter(inputs.scores.values())),
        rows=[row.flat() for row in rows],
        cells=cells,
        aliases=paper.ALIASES,
        letters=LETTERS,
        headings={c.key: c.heading for c in COLUMNS if c.printed},
        paper_columns=paper.COLUMNS,
        modalities=MODALITIES,
        cross=CROSS,
        claims=findings(rows, paper.claims(COLUMNS)),
        levels=[
            *levels(rows, [c for c in COLUMNS if c.key in paper.COLUMNS]),
            *filter(None, cheapest[:1]),
        ],
        averaged=averaged(rows),
        frontier=cheapest[1],
        crossed=crossed(rows),
        unimodal=unimodal,
        gains=gains,
        matrices=matrices,
        as_prior={cell: _matrix(inputs, cell, "subsets_missing_as_prior") for cell in cells},
        entries={
            "dropped": _entries(inputs, "objective", "subsets_missing_as_prior"),
            "mixed": _entries(inputs, "fusion", "mixture"),
            "drawn": _entries(inputs, "fusion", "drawn_per_element"),
        },
        shown=SHOWN,
        faulty=survived,
        targets=table.over(survived[0]["targets"], survived[0]["undefined"]),
        undefined=table.UNDEFINED,
        fault_kinds={k: (FAULTS[k].__doc__ or "").strip() for k in config.score.faults.kinds},
        survival=_survival(faulty, config.score.faults, looks),
        agreement={cell: _agreement(inputs, cell) for cell in cells},
        costs={cell: _cost(inputs, cell) for cell in cells},
        swatches={cell: figures.swatch(style) for cell, style in looks.items()},
        trade_off=_trade_off(rows, looks),
        learning=_learning(inputs, looks),
        sheets=sheets,
        boxes=_painter(inputs, sheets, least),
        box_colours=figures.BOX_COLOURS,
        failures=_failures(inputs),
        sure=SURE,
        viewer=_viewer(inputs, matrices, sheets, least),
    )


def _entries(inputs: Inputs, kind: str, key: str) -> str:
    """The fusions or objectives of the scores that have this, as in "moe, mopoe"."""
    return ", ".join(dict.fromkeys(s[kind] for s in inputs.scores.values() if s[key]))


def _overview(inputs: Inputs, least: float) -> bytes:
    """The paper's Fig. 3 above its Fig. 4, with the run's own pictures."""
    methods = list(inputs.samples)
    shown = range(min(len(inputs.scenes), max(1, (len(methods) + 1) // 3)))
    top = [
        Overview(
            inputs.pictures[target][scene],
            inputs.truth[target][scene],
            heading=target,
            side="the sensors" if (scene, target) == (0, "image") else "",
            camera=target == "radar",
        )
        for scene in shown
        for target in MODALITIES
    ]
    lines = [top]
    for scene in range(min(len(inputs.scenes), 2)):
        for target, subset in CROSS.items():
            side = "+".join(LETTERS[m] for m in subset.split("+")) + f"→{LETTERS[target]}"
            heading = "truth" if len(lines) == 1 else ""
            line = [
                Overview(inputs.pictures[target][scene], inputs.truth[target][scene], heading, side)
            ]
            for cell in methods:
                found = _found(inputs, cell, f"{subset}/{target}", scene, least)
                picture = inputs.samples[cell][f"{subset}/{target}"][scene]
                line.append(Overview(picture, found, cell if len(lines) == 1 else ""))
            lines.append(line)
    return figures.overview(lines, inputs.classes)


def main() -> None:
    """Read params and results, write both tables, the page and the picture."""
    config, paper = params.load(), ROOT.part("paper")
    inputs = _read(config)
    cells, faults = _cells(config), config.score.faults
    rows = table.build(
        cells,
        {key: found for key, found in inputs.resampled.items() if key[0] in cells},
        {
            seed: {f"synergy/{m}": inputs.resampled[m, seed][f"synergy/{m}"] for m in MODALITIES}
            for seed in config.grid.seeds
        },
        {key: score["cost"] for key, score in inputs.scores.items()},
        COLUMNS,
        paper.TABLE,
    )
    scenes = next(iter(inputs.scores.values()))["scenes"]
    unimodal, gains = _unimodal(inputs), _gains(inputs, cells)
    decoded = table.decoding(list(inputs.scores.values()))
    legend = table.legend_of(unimodal, scenes, len(config.grid.seeds), paper.SENSORS)
    told = table.as_markdown(rows, COLUMNS, legend, decoded)
    written = [row.flat() for row in rows]
    stage.write_bytes(RESULTS / "table3.csv", as_csv(written, table.keys(COLUMNS)).encode())
    stage.write_bytes(RESULTS / "table3.md", told.encode())
    cheapest = recipe(rows, paper.ENDS), frontier(rows)
    stage.write_json(
        RESULTS / "table3.json",
        {
            "seeds": config.grid.seeds,
            "rows": written,
            "unimodal": unimodal,
            "gains": gains,
            "recipe": cheapest[0],
            "frontier": cheapest[1],
            "detectors": inputs.detectors,
        },
    )
    costs = {cell: _cost(inputs, cell) for cell in cells}
    faulty = _faulty(inputs)
    survived = fault_table.summarise(cells, faulty, faults, costs)
    each = fault_table.conditions(cells, faulty, faults, costs)
    stage.write_bytes(RESULTS / "faults.csv", as_csv(each).encode())
    text = fault_table.as_markdown(survived, faults, decoded)
    stage.write_bytes(RESULTS / "faults.md", text.encode())
    stage.write_json(RESULTS / "faults.json", {**faults.model_dump(), "rows": survived})
    stage.write_bytes(
        RESULTS / "report.html",
        _page(config, inputs, rows, unimodal, gains, faulty, survived, cheapest).encode(),
    )
    stage.write_bytes(RESULTS / "overview.png", _overview(inputs, config.report.confidence))
    claims = findings(rows, paper.claims(COLUMNS))
    wrong = [claim for claim, verdict, _ in claims if verdict == "disagrees"]
    print(told + "".join(f"not as in the paper: {text}\n" for text in wrong))
    print(f"To look at: {RESULTS / 'report.html'}")


if __name__ == "__main__":
    with stage.running("report", lambda: "all that it shows is kept"):
        main()

"""Everything that the page is made from: scores, resamples, pictures, curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import params
from pipeline.params import Params
from pipeline.reporting.table import others
from pipeline.reporting.tables import points
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.bootstrap import Values
from pipeline.scoring.mistakes import SURE
from pipeline.study import ROOT
from scenegen.dataset import open_dataset

__all__ = ["Boxes", "Inputs", "Worst", "found", "read"]

CROSSED = ("image", "depth")  # what Fig. 4 generates from all other sensors

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

    config: Params
    modalities: tuple[str, ...]
    sensors: dict[str, tuple[str, ...]]  # cell -> what it fuses
    cross: dict[str, dict[str, str]]  # cell -> what Fig. 4 generates -> all its other sensors
    scores: dict[tuple[str, int], Any]  # (cell, seed)
    trainings: dict[tuple[str, int], Any]  # (cell, seed)
    unimodal: dict[tuple[str, int], Any]  # (modality, seed)
    detectors: dict[str, Any]
    resampled: dict[tuple[str, int], dict[str, Values]]  # (cell or modality, seed)
    faults: dict[tuple[str, int], dict[str, Values]]  # (cell, seed)
    samples: dict[str, dict[str, NDArray[Any]]]  # of the first seed
    curves: dict[str, dict[str, list[tuple[int, float]]]]  # of the first seed
    scenes: NDArray[np.int64]  # scene numbers of the pictures
    classes: tuple[str, ...]
    pictures: dict[str, NDArray[np.uint8]]  # what each sensor saw of those scenes
    truth: dict[str, list[Boxes]]  # boxes [n, 5] of those scenes
    worst: dict[tuple[str, str], Worst]  # (cell, cross-generated modality), of the first seed

    @property
    def headline(self) -> str:
        """The metric that decides."""
        return self.config.score.headline

    @property
    def cells(self) -> dict[str, tuple[str, str]]:
        """Cell name -> (fusion, objective), in the order of params.yaml."""
        return {name: (c.fusion, c.objective) for name, c in self.config.grid.cells.items()}


def _require(config: Params) -> None:
    """One line and exit code 2 if an input that the params ask for is not there."""
    seeds = config.grid.seeds
    runs = [Run(cell, seed) for cell in config.grid.cells for seed in seeds]
    alone = [Run(modality, seed) for modality in config.vae.modalities for seed in seeds]
    first = [run for run in runs if run.seed == seeds[0]]
    wanted = [
        *(run.scores(ROOT.results) for run in runs + alone),
        *(file(run, ROOT.results) for file in (Run.training, Run.times) for run in runs),
        *(ROOT.results / f"detectors/{modality}.json" for modality in config.vae.modalities),
        *(run.bootstrap(ROOT.data) for run in runs + alone),
        *(run.faults(ROOT.data) for run in runs),
        *(run.samples(ROOT.data) for run in first),
        *(run.curves(ROOT.data) for run in first),
    ]
    missing = [path for path in wanted if not path.exists()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        stage.fail(f"{missing[0]}: no such file{more}; `dvc repro` makes it")


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every curve under a DVCLive folder: name -> (step, value) rows."""
    curves = {}
    root = folder / "plots/metrics"
    for path in sorted(root.rglob("*.tsv")):
        if rows := stage.read(path, points):
            curves[str(path.relative_to(root).with_suffix(""))] = rows
    return curves


def _paired(
    file: Callable[[Run, Path], Path], names: Sequence[str], seeds: Sequence[int]
) -> dict[tuple[str, int], dict[str, Values]]:
    """Figures [1 + R] of several runs, which must be of the same resamples."""
    found = {
        (name, seed): stage.read_arrays(file(Run(name, seed), ROOT.data))
        for name in names
        for seed in seeds
    }
    sizes = {key: {len(values) for values in arrays.values()} for key, arrays in found.items()}
    wanted = next(iter(sizes.values()))
    for (name, seed), size in sizes.items():
        if size != wanted or len(size) != 1:
            path = file(Run(name, seed), ROOT.data)
            stage.fail(f"{path}: other resamples than its peers; `dvc repro`")
    return found


def _told(
    file: Callable[[Run, Path], Path], names: Sequence[str], seeds: Sequence[int]
) -> dict[tuple[str, int], Any]:
    """What a results file holds, by (cell or modality, seed)."""
    runs = [Run(name, seed) for name in names for seed in seeds]
    return {(run.cell, run.seed): stage.read_json(file(run, ROOT.results)) for run in runs}


def _faults(config: Params) -> dict[tuple[str, int], dict[str, Values]]:
    """Figures of every cell and seed under the faults that the params ask for."""
    found, faults = (
        _paired(Run.faults, list(config.grid.cells), config.grid.seeds),
        config.score.faults,
    )
    for (cell, seed), figures_of in found.items():
        sensors = config.grid.cells[cell].fuses(config.vae.modalities)
        wanted = {
            f"{sensor}/{kind}/{severity}/{target}"
            for sensor in sensors
            for kind in faults.kinds
            for severity in faults.severities
            for target in sensors
        }
        if lacking := sorted(wanted - figures_of.keys()):
            stage.fail(f"{Run(cell, seed).faults(ROOT.data)}: has no {lacking[0]}; `dvc repro`")
    return found


def _samples(cells: Sequence[str], seed: int, most: int) -> dict[str, dict[str, NDArray[Any]]]:
    """The first `most` of what is shown of every cell, which must be of the same scenes."""
    found = {}
    for cell in cells:
        path = Run(cell, seed).samples(ROOT.data)
        found[cell] = {name: x[:most] for name, x in stage.read_arrays(path).items()}
        if not np.array_equal(found[cell]["scenes"], found[cells[0]]["scenes"]):
            stage.fail(f"{path}: other scenes than its peers; `dvc repro`")
    return found


def read() -> Inputs:
    """Read what the params ask for; pictures are those of the first seed."""
    config = params.load()
    _require(config)
    names = tuple(config.vae.modalities)
    sensors = {name: cell.fuses(names) for name, cell in config.grid.cells.items()}
    cross = {
        cell: {m: others(fused, m) for m in fused if m in CROSSED}
        for cell, fused in sensors.items()
    }
    grid, first = config.grid, config.grid.seeds[0]
    samples = _samples(list(grid.cells), first, config.report.examples)
    scenes = next(iter(samples.values()))["scenes"]
    try:
        dataset = open_dataset(stage.DATASET, verify=False)
    except (OSError, ValueError) as error:
        stage.fail(str(error))
    at = np.searchsorted(dataset.scenes("test"), scenes)
    seen = {m: dataset.array(m, "test") for m in names}
    truth = {
        m: [np.column_stack(b).astype(np.float32) for b in dataset.boxes(m, "test")] for m in names
    }

    def worst(cell: str, target: str) -> Worst:
        of = f"{cross[cell][target]}/{target}"
        number = samples[cell][f"{of}/worst-scene"][0]
        place = int(np.searchsorted(dataset.scenes("test"), number))
        return Worst(
            int(number),
            {"truth": seen[target][[place]], "generated": samples[cell][f"{of}/worst"]},
            truth[target][place],
            _sure(samples[cell][f"{of}/worst-boxes"][0], SURE),
            *map(int, samples[cell][f"{of}/worst-mistakes"][0]),
        )

    times = _told(Run.times, list(grid.cells), grid.seeds)
    return Inputs(
        config=config,
        modalities=names,
        sensors=sensors,
        cross=cross,
        scores=_told(Run.scores, list(grid.cells), grid.seeds),
        trainings={
            run: training | times[run]
            for run, training in _told(Run.training, list(grid.cells), grid.seeds).items()
        },
        unimodal=_told(Run.scores, names, grid.seeds),
        detectors={m: stage.read_json(ROOT.results / f"detectors/{m}.json") for m in names},
        resampled=_paired(Run.bootstrap, [*grid.cells, *names], grid.seeds),
        faults=_faults(config),
        samples=samples,
        curves={cell: _curves(Run(cell, first).curves(ROOT.data)) for cell in grid.cells},
        scenes=scenes,
        classes=tuple(dataset.classes),
        pictures={m: seen[m][at] for m in names},
        truth={m: [truth[m][i] for i in at] for m in names},
        worst={(cell, target): worst(cell, target) for cell in cross for target in cross[cell]},
    )


def found(inputs: Inputs, cell: str, name: str, scene: int, least: float) -> Boxes:
    """Detections [K, 5] of class-labelled boxes whose score is at least `least`."""
    return _sure(inputs.samples[cell][f"{name}/boxes"][scene], least)


def _sure(boxes: Boxes, least: float) -> Boxes:
    """Boxes [K, 5] and class of detections [n, 6] whose score is at least `least`."""
    return boxes[boxes[:, 4] >= least][:, [0, 1, 2, 3, 5]]  # NaN padding compares false

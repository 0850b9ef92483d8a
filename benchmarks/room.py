"""How much room scenes leave for fusing: each sensor's VAE alone beside fused ones, on validation.

    python -m benchmarks.room FOLDER [FOLDER ...] --plan PLAN.json --out results.jsonl

FOLDERs are finished datasets (`python -m scenegen render`). The plan is a list of models, as
`Wanted` says: `[{"name": "ecg", "cell": {"objective": "ecg"}, "training": {"steps": 3000}}]`.
Every model is trained on every folder, beside a detector of each sensor, all at the same time.
One that fails ends the others.

Prints and appends a JSON line a detector (mAP on the validation scenes' own pictures), and two a
model: how far the validation bound improved over the last fifth of the steps, its least value and
seconds; then mAP@0.5 of each sensor from every subset. Likelihoods and detectors are those of
params.yaml; `--epochs` is the detectors'.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from base.params import Section
from base.process import end_with
from pipeline.running.params import valid

if TYPE_CHECKING:
    from models.params import VAEParams

__all__ = ["main"]

Line = dict[str, Any]


class Wanted(Section):
    """A model of the plan; what is left out is that of params.yaml."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$", description="of its lines and files")
    sensors: list[str] = Field(default=[], description="of vae.modalities; all if left out")
    cell: Line = Field(default={}, description="as in grid.cells; poe + none if left out")
    training: Line = Field(default={}, description="what differs from vae.training")
    network: Line = Field(default={}, description="what differs from vae.network")
    folders: list[str] = Field(default=[], description="names of those it is trained on; all")

    def params(self) -> VAEParams:
        """The `vae:` section of this model; one line and exit code 2 for what it cannot be."""
        from models.params import Cell, VAEParams, check_cell
        from pipeline.running import stage

        section = stage.section("vae", VAEParams).model_dump()
        known = section["modalities"]
        if unknown := sorted({*self.sensors} - {*known}):
            stage.fail(f"{self.name}: sensors: {unknown[0]} is not one of {', '.join(known)}")
        section["modalities"] = {m: known[m] for m in self.sensors or known}
        section["training"] |= self.training
        section["network"] |= self.network
        params = valid(VAEParams, section, Path(self.name))
        try:
            check_cell(params, valid(Cell, self.cell, Path(self.name)))
        except ValueError as error:
            stage.fail(f"{self.name}: {error}")
        return params


def tell(out: Path, line: Line) -> None:
    """Append a line, whole, beside those of other processes."""
    text = json.dumps(line) + "\n"
    with out.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(text)
    print(text, end="", flush=True)


def detector_file(folder: Path, sensor: str, options: argparse.Namespace) -> Path:
    """Where the detector of a sensor of these scenes lies."""
    file: Path = options.scratch / f"detector-{folder.name}-{sensor}.safetensors"
    return file


def detector(folder: Path, sensor: str, options: argparse.Namespace) -> None:
    """Train the detector of one sensor and tell its mAP on validation."""
    from detector import training
    from detector.params import Detectors
    from pipeline.running import stage
    from scenegen.dataset import open_dataset

    params = stage.section("detector", Detectors).of(sensor)
    dataset = open_dataset(folder)
    weights = detector_file(folder, sensor, options)
    told = training.train(
        dataset.array(sensor, "train"),
        dataset.boxes(sensor, "train"),
        dataset.array(sensor, "validation"),
        dataset.boxes(sensor, "validation"),
        dataset.classes,
        params.model_copy(update={"epochs": options.epochs}),
        weights,
        scratch=weights.with_suffix(""),
        seed=0,
        progress=False,
    )
    tell(options.out, {"scenes": folder.name, "detector": sensor, **told})


def model(folder: Path, wanted: Wanted, options: argparse.Namespace) -> None:
    """Train one model, wait for the detectors, and tell what they find in what it generates."""
    from models.params import Cell
    from models.training import train
    from models.vae import MultimodalVAE
    from pipeline.running import stage
    from scenegen.dataset import open_dataset

    params, cell = wanted.params(), Cell.model_validate(wanted.cell)
    dataset = open_dataset(folder)
    out = options.scratch / f"{folder.name}-{wanted.name}.safetensors"
    told = train(
        params,
        cell,
        {m: dataset.array(m, "train") for m in params.modalities},
        {m: dataset.array(m, "validation") for m in params.modalities},
        seed=0,
        out=out,
        checkpoints=out.with_suffix(""),
        progress=False,
    )
    losses = [row["validation_loss"] for row in told["history"]]
    before = losses[math.ceil(0.8 * len(losses)) - 1]
    about = {"scenes": folder.name, "model": wanted.name, "cell": cell.model_dump(mode="json")}
    converged = {
        "training": wanted.training,
        "network": wanted.network,
        "last_fifth": (before - losses[-1]) / abs(losses[-1]),
        "validation_loss": losses[-1],
        "least_validation_loss": min(losses),
        "loss": told["loss"],
        "steps_per_s": params.training.steps / told["seconds"],
        "seconds": told["seconds"],
    }
    tell(options.out, about | converged)
    figures = score(MultimodalVAE.load(out, stage.device()), folder, options)
    tell(options.out, about | {"map50": figures})


def score(vae: Any, folder: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """mAP@0.5 on validation: subset -> sensor -> figure, of the detectors of this run."""
    from detector import trained
    from pipeline.running import stage
    from pipeline.scoring.bootstrap import copies
    from pipeline.scoring.decoding import decode
    from pipeline.scoring.scores import Judge, scenes_of, subsets
    from scenegen.dataset import open_dataset

    dataset = open_dataset(folder)
    files = {m: detector_file(folder, m, options) for m in vae.modalities}
    while not all(file.exists() for file in files.values()):  # still being trained
        time.sleep(1)
    judges = {m: trained.load(file, stage.device()) for m, file in files.items()}
    scenes = scenes_of(dataset, "validation", tuple(vae.modalities))
    one = copies(len(scenes.numbers), 0, 0)
    judge = Judge(judges, scenes, len(dataset.classes), one)
    return {
        "+".join(given): {
            m: float(judge.compared(m, x, judge.detect(m, x)).precision[0, 0])
            for m, x in decode(vae, scenes, given, seed=0).items()
        }
        for given in subsets(vae.modalities)
    }


def main() -> None:
    """Start every detector and model at once, and wait for them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--plan", type=Path, required=True, help="JSON file of the models")
    parser.add_argument("--out", type=Path, default=Path("room.jsonl"), help="(%(default)s)")
    parser.add_argument("--scratch", type=Path, default=Path(".cache/room"), help="(%(default)s)")
    parser.add_argument("--epochs", type=float, default=10, help="of detectors (%(default)s)")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    folders: list[Path] = options.folders
    if options.job:
        end_with(os.getppid())
        if "detector" in options.job:
            detector(folders[0], options.job["detector"], options)
        else:
            model(folders[0], Wanted(**options.job), options)
        return
    plan = [
        valid(Wanted, each, options.plan)
        for each in json.loads(options.plan.read_text(encoding="utf-8"))
    ]
    sensors = {m for wanted in plan for m in wanted.params().modalities}
    jobs: list[tuple[Path, Line]] = [(f, {"detector": m}) for f in folders for m in sorted(sensors)]
    jobs += [
        (f, w.model_dump()) for w in plan for f in folders if f.name in (w.folders or [f.name])
    ]
    rest = [a for a in sys.argv[1:] if a not in {str(f) for f in folders}]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.room", str(f), *rest, "--job", json.dumps(job)]
        )
        for f, job in jobs
    ]
    while any(process.poll() is None for process in running):
        if any(process.poll() for process in running):
            break
        time.sleep(1)
    for process in running:
        process.terminate()
    if failed := sum(process.wait() != 0 for process in running):
        raise SystemExit(f"{failed} of {len(running)} failed or were ended by that")


if __name__ == "__main__":
    main()

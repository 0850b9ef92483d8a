"""How much room scenes leave for fusing: each sensor's VAE alone beside fused ones, on validation.

    python -m benchmarks.room FOLDER [FOLDER ...] --plan PLAN.json --out results.jsonl

FOLDERs are finished datasets (`python -m scenegen render`). The plan is a list of models, each
`{"name", "sensors", "cell", "training", "network"}`; all but `name` may be left out: the sensors
of params.yaml, poe + none, its `vae.training` and `vae.network`. Every model is trained on every
folder that its `folders` name (all, if left out), after a detector of each sensor, all at the same
time.

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
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

Line = dict[str, Any]


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
    params = params.model_copy(update={"epochs": options.epochs})
    dataset = open_dataset(folder)
    parts = (dataset.array(sensor, "train"), dataset.boxes(sensor, "train"))
    held_out = (dataset.array(sensor, "validation"), dataset.boxes(sensor, "validation"))
    weights = detector_file(folder, sensor, options)
    told = training.train(
        *parts,
        *held_out,
        dataset.classes,
        params,
        weights,
        scratch=weights.with_suffix(""),
        seed=0,
        progress=False,
    )
    tell(options.out, {"scenes": folder.name, "detector": sensor, **told})


def model(folder: Path, wanted: Line, options: argparse.Namespace) -> None:
    """Train one model, wait for the detectors, and tell what they find in what it generates."""
    from models.params import Cell, VAEParams
    from models.training import train
    from models.vae import MultimodalVAE
    from pipeline.running import stage
    from scenegen.dataset import open_dataset

    params = stage.section("vae", VAEParams)
    sensors = wanted.get("sensors", list(params.modalities))
    settings = params.training.model_copy(update=wanted.get("training", {}))
    params = params.model_copy(
        update={
            "modalities": {m: params.modalities[m] for m in sensors},
            "training": settings,
            "network": params.network.model_copy(update=wanted.get("network", {})),
        }
    )
    cell, dataset = Cell.model_validate(wanted.get("cell", {})), open_dataset(folder)
    seen = {m: dataset.array(m, "train") for m in sensors}
    held_out = {m: dataset.array(m, "validation") for m in sensors}
    name = f"{folder.name}-{wanted['name']}"
    out = options.scratch / f"{name}.safetensors"
    told = train(
        params,
        cell,
        seen,
        held_out,
        seed=0,
        out=out,
        checkpoints=options.scratch / f"{name}-checkpoints",
        progress=False,
    )
    losses = [row["validation_loss"] for row in told["history"]]
    before = losses[math.ceil(0.8 * len(losses)) - 1]
    about = {"scenes": folder.name, "model": wanted["name"], "cell": cell.model_dump(mode="json")}
    run = {key: wanted.get(key, {}) for key in ("training", "network")}
    converged = {
        "last_fifth": (before - losses[-1]) / abs(losses[-1]),
        "validation_loss": losses[-1],
        "least_validation_loss": min(losses),
        "loss": told["loss"],
        "steps_per_s": settings.steps / told["seconds"],
        "seconds": told["seconds"],
    }
    tell(options.out, about | run | converged)
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
    if options.job:
        folder = options.folders[0]
        if "detector" in options.job:
            detector(folder, options.job["detector"], options)
        else:
            model(folder, options.job, options)
        return

    from models.params import VAEParams
    from pipeline.running import stage

    plan = json.loads(options.plan.read_text(encoding="utf-8"))
    sensors = stage.section("vae", VAEParams).modalities
    jobs = [(f, {"detector": s}) for f in options.folders for s in sensors]
    jobs += [(f, m) for m in plan for f in options.folders if f.name in m.get("folders", [f.name])]
    rest = [a for a in sys.argv[1:] if a not in {str(f) for f in options.folders}]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.room", str(f), *rest, "--job", json.dumps(job)]
        )
        for f, job in jobs
    ]
    failed = [process for process in running if process.wait()]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(running)} failed")


if __name__ == "__main__":
    main()

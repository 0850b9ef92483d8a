"""Designs of encoders and decoders at equal processor time: mAP against seconds of training.

    python -m benchmarks.networks [--seconds 300] [--points 6] [--kinds residual cnn mixer]

Trains the VAE of one sensor with each kind of network on the rendered scenes, one thread, and
prints a JSON line a point, scored on the validation split: `kind`, `seconds` (of the processor,
so that other work does not count), `step`, `map50` and `map50_95` of the detector on what the VAE
reconstructs, and `psnr` in dB. Likelihoods, latent, width, batch and schedule are those of
params.yaml, over the whole budget of time in place of its steps. The scenes and the detector are
those of a finished `dvc repro`. Models stay in `--out`, in a folder named by these options, so that
a broken run goes on with the kinds that are left; after another change (of params.yaml or the
scenes) name another `--out`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from detector import trained
from models.mixture import Draws
from models.params import Cell, VAEParams
from models.training import batch_rows, rate
from models.vae import MultimodalVAE
from pipeline.running import stage
from pipeline.scoring.bootstrap import copies
from pipeline.scoring.decoding import decode
from pipeline.scoring.scores import Judge, scenes_of
from scenegen.dataset import Dataset, open_dataset

__all__ = ["fit", "main"]


def fit(kind: str, dataset: Dataset, options: argparse.Namespace) -> None:
    """Train one kind for `options.seconds` and save it at `options.points` equal distances."""
    for stale in options.out.glob(f"{kind}-*.safetensors"):  # of a run that was broken off
        stale.unlink()
    name = options.modality
    data = torch.from_numpy(dataset.array(name, "train"))
    params = _params(kind, options)
    settings = params.training
    torch.manual_seed(0)
    model = MultimodalVAE(params, Cell(), {name: tuple(data.shape[1:])}).train()
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    noise = torch.Generator().manual_seed(0)
    step, point, spent = 0, 0, 0.0
    while point < options.points:
        began = time.process_time()
        for group in optimiser.param_groups:
            share = rate(step, min(1.0, spent / options.seconds), settings)
            group["lr"] = settings.learning_rate * share
        rows = batch_rows(step, len(data), settings.batch, 0, "cpu")
        bound = model.bound({name: model.prepared(name, data[rows])}, Draws(noise))
        optimiser.zero_grad(set_to_none=True)
        (-bound.value.mean()).backward()
        optimiser.step()
        step += 1
        spent += time.process_time() - began
        if spent >= options.seconds * (point + 1) / options.points:
            point += 1
            model.save(options.out / f"{kind}-{point}-{step}.safetensors")


def _params(kind: str, options: argparse.Namespace) -> VAEParams:
    """The `vae:` section for one modality, kind of network and thread."""
    whole = stage.section("vae", VAEParams)
    training = {"precision": options.precision, "threads": 1, "learning_rate": options.rate}
    return whole.model_copy(
        update={
            "modalities": {options.modality: whole.modalities[options.modality]},
            "network": whole.network.model_copy(update={"kind": kind}),
            "training": whole.training.model_copy(update=training),
        }
    )


def score(kind: str, judge: Judge, options: argparse.Namespace) -> None:
    """Print a line for each point that was saved."""
    name = options.modality
    for path in sorted(options.out.glob(f"{kind}-*.safetensors"), key=_point):
        model = MultimodalVAE.load(path)
        made = decode(model, judge.scenes, [name], seed=0)[name]
        scores = judge.score(name, made, judge.detect(name, made))
        error = np.square((made.astype(np.float32) - judge.scenes.seen[name]) / 255)
        line = {
            "kind": kind,
            "seconds": round(options.seconds * _point(path) / options.points, 1),
            "step": int(path.stem.split("-")[2]),
            "map50": round(float(scores["map50"][0]), 4),
            "map50_95": round(float(scores["map50_95"][0]), 4),
            "psnr": round(float((-10 * np.log10(error.mean((1, 2, 3)))).mean()), 2),
        }
        print(json.dumps(line), flush=True)


def _point(path: Path) -> int:
    return int(path.stem.split("-")[1])


def main() -> None:
    """Train every kind that is not in `--out` yet, then score all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    kinds = ["residual", "cnn", "mixer"]
    parser.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, help="networks")
    parser.add_argument(
        "--seconds", type=float, default=300, help="processor time of a training, s"
    )
    parser.add_argument("--points", type=int, default=6, help="points of each curve")
    # residual collapses at the 0.002 of params.yaml
    parser.add_argument("--rate", type=float, default=1e-3, help="Adam's peak learning rate")
    parser.add_argument(
        "--modality", default="image", choices=["image", "depth", "radar"], help="sensor"
    )
    parser.add_argument(
        "--precision", default="bfloat16", choices=["float32", "bfloat16"], help="arithmetic"
    )
    parser.add_argument("--data", type=Path, default=Path("data/shapes3d"), help="dataset")
    parser.add_argument("--detectors", type=Path, default=Path("data/detectors"), help="folder")
    parser.add_argument("--out", type=Path, default=Path("runs/networks"), help="for models")
    options = parser.parse_args()
    weights = options.detectors / f"{options.modality}.safetensors"
    if not weights.is_file():
        sys.exit(f"{weights} is not there: run `dvc repro` first, or name a folder by --detectors")
    options.out /= (
        f"{options.modality}-{options.seconds:g}s-{options.points}-{options.rate:g}-"
        f"{options.precision}"
    )
    torch.set_num_threads(1)
    dataset = open_dataset(options.data)
    scenes = scenes_of(dataset, "validation", [options.modality])
    drawn = copies(len(scenes.numbers), 0, 0)  # the scenes themselves, no resamples
    judge = Judge({options.modality: trained.load(weights)}, scenes, len(dataset.classes), drawn)
    for kind in options.kinds:
        if len(list(options.out.glob(f"{kind}-*.safetensors"))) < options.points:
            fit(kind, dataset, options)
        score(kind, judge, options)


if __name__ == "__main__":
    main()

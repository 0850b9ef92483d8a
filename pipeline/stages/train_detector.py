"""Stage `train_detector`: one detector per sensor, the yardstick of every score."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import argparse
import shutil
from pathlib import Path

from detector import trained, training
from detector.metrics import mean_average_precision
from detector.params import Detectors
from pipeline.running import stage
from pipeline.scoring.scenes import rendered
from pipeline.study import ROOT

__all__ = ["main"]

SEED = 0  # one yardstick for every model and seed of the grid


def checkpoints(modality: str) -> Path:
    """The folder of a detector's checkpoint."""
    return stage.CHECKPOINTS / f"detector-{modality}"


def main(modality: str) -> None:
    """Train on the training split; report mAP on clean validation and test scenes."""
    params, device = stage.section("detector", Detectors).of(modality), stage.device()
    dataset = rendered()
    weights = Path(f"data/detectors/{modality}.safetensors")
    told = training.train(
        dataset.array(modality, "train"),
        dataset.boxes(modality, "train"),
        dataset.array(modality, "validation"),
        dataset.boxes(modality, "validation"),
        dataset.classes,
        params,
        weights,
        scratch=checkpoints(modality),
        seed=SEED,
        device=device,
        keep=True,
    )
    test = mean_average_precision(
        trained.load(weights, device).detect(dataset.array(modality, "test")),
        dataset.boxes(modality, "test"),
        len(dataset.classes),
    )
    stage.write_json(
        Path(f"results/detectors/{modality}.json"),
        {"validation": {name: told[name] for name in test}, "test": test},
    )
    took = {"train_seconds": round(told["train_seconds"], 1)}
    stage.write_json(Path(f"results/times/detectors/{modality}.json"), took)
    shutil.rmtree(checkpoints(modality), ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modality", choices=ROOT.modalities, help="whose detector")
    asked = parser.parse_args().modality
    with stage.running(
        f"train_detector@{asked}",
        lambda: stage.checkpoint_kept(
            checkpoints(asked), f"one after each epoch and every {training.SAVE_EVERY:.0f} s"
        ),
    ):
        main(asked)

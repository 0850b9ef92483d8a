"""Stages `train_vae` and `train_unimodal`: one model on the training pairs."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

from pipeline.run import Run
from studies.cub import CUB
from studies.cub.data import load
from studies.training import train_run, training

__all__ = ["main"]


def main(run: Run) -> None:
    """Train the model of `run`, as poe-ecg-0 or text-0."""
    _, splits = load()
    train_run(CUB, run, splits["train"].seen())


if __name__ == "__main__":
    asked = CUB.asked_run(__doc__)
    with training(CUB, asked):
        main(asked)

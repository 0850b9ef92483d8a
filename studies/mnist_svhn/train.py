"""Stages `train_vae` and `train_unimodal`: one model on the training pairs."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

from pipeline.run import Run
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.pairs import load
from studies.training import train_run, training

__all__ = ["main"]


def main(run: Run) -> None:
    """Train the model of `run`, as poe-ecg-0 or svhn-0."""
    train_run(MNIST_SVHN, run, load("train").seen())


if __name__ == "__main__":
    asked = MNIST_SVHN.asked_run(__doc__)
    with training(MNIST_SVHN, asked):
        main(asked)

"""Stages `train_vae` and `train_unimodal`: one model on the training pairs."""

from __future__ import annotations

import sys

from studies.mnist_svhn.pairs import load
from studies.study import MNIST_SVHN
from studies.training import train_run, training

__all__ = ["main"]


def main(run: str) -> None:
    """Train the model named `run`, as in poe-ecg-0 or svhn-0."""
    train_run(MNIST_SVHN, run, load("train").seen())


if __name__ == "__main__":
    asked = sys.argv[1]
    with training(MNIST_SVHN, asked):
        main(asked)

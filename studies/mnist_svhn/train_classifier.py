"""Stage `train_classifier`: the judge of one modality, and how often it is right on clean data."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import argparse
from pathlib import Path

import torch
from safetensors.torch import save

from pipeline.running import stage
from pipeline.study import device
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.classifier import classify, fit
from studies.mnist_svhn.loader import load
from studies.mnist_svhn.params import ClassifierParams

__all__ = ["main", "path"]


def path(modality: str) -> Path:
    """The weights of a modality's classifier."""
    return MNIST_SVHN.data / f"classifiers/{modality}.safetensors"


def main(modality: str) -> None:
    """Train on every training picture of the modality, paired or not."""
    torch.set_num_threads(1)
    params = MNIST_SVHN.section("classifier", ClassifierParams)
    train, test = load("train"), load("test")
    digits = modality == "mnist"
    pictures, labels = (
        (train.digits, train.digit_labels) if digits else (train.streets, train.street_labels)
    )
    model = fit(pictures, labels, params, device())
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    stage.write_bytes(path(modality), save(weights))
    pictures, labels = (
        (test.digits, test.digit_labels) if digits else (test.streets, test.street_labels)
    )
    accuracy = 100 * float((classify(model, pictures) == labels).mean())
    stage.write_json(
        MNIST_SVHN.results / f"classifiers/{modality}.json",
        {"accuracy": round(accuracy, 2), "pictures": len(labels)},
    )
    print(f"{modality}: {accuracy:.1f} % of {len(labels):,} test pictures are told right")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modality", choices=MNIST_SVHN.modalities)
    asked = parser.parse_args().modality
    with MNIST_SVHN.running(
        f"train_classifier@{asked}", lambda: "the pairs are kept, this training begins anew"
    ):
        main(asked)

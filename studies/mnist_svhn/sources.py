"""Digits and street numbers: torchvision's MNIST and SVHN, or what is embedded here."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from base.progress import Progress
from studies.mnist_svhn.params import EmbeddedParams
from studies.mnist_svhn.streetnumbers import street_numbers
from studies.rawfiles import RawFile, RawFileError, provide

__all__ = ["MNIST_FILES", "SVHN_FILES", "Labelled", "embedded", "from_files", "pair"]

DIGITS_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
STREET_URL = "http://ufldl.stanford.edu/housenumbers/"


def _digits_file(name: str, size: int, md5: str) -> RawFile:
    return RawFile(f"MNIST/raw/{name}.gz", size, f"md5:{md5}", (f"{DIGITS_URL}{name}.gz",))


def _street_file(name: str, size: int, md5: str) -> RawFile:
    return RawFile(name, size, f"md5:{md5}", (f"{STREET_URL}{name}",))


MNIST_FILES = (
    _digits_file("train-images-idx3-ubyte", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    _digits_file("train-labels-idx1-ubyte", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
    _digits_file("t10k-images-idx3-ubyte", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
    _digits_file("t10k-labels-idx1-ubyte", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
)
SVHN_FILES = (
    _street_file("train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
    _street_file("test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
)


@dataclass(frozen=True)
class Labelled:
    """Pictures uint8 [N, H, W] or [N, H, W, 3] and their classes uint8 [N], 0 to 9."""

    pictures: NDArray[np.uint8]
    labels: NDArray[np.uint8]


Splits = dict[str, Labelled]  # "train" and "test"


def embedded(params: EmbeddedParams) -> tuple[Splits, Splits]:
    """scikit-learn's 1,797 handwritten digits (8x8) and drawn street numbers.

    The last 360 digits are the test split: they come from other writers than the first.
    """
    stored = load_digits()
    pictures = np.rint(stored.images * (255 / 16)).astype(np.uint8)
    labels = stored.target.astype(np.uint8)
    digits = {
        "train": Labelled(pictures[:-360], labels[:-360]),
        "test": Labelled(pictures[-360:], labels[-360:]),
    }
    streets = {
        split: Labelled(*street_numbers(count, params.side, params.seed, place))
        for place, (split, count) in enumerate((("train", params.train), ("test", params.test)))
    }
    return digits, streets


def from_files(
    folder: Path,
    download: bool,
    mnist: Sequence[RawFile] = MNIST_FILES,
    svhn: Sequence[RawFile] = SVHN_FILES,
) -> tuple[Splits, Splits]:
    """MNIST from its gzipped IDX files and SVHN (cropped digits) from its .mat files.

    Raises:
        RawFileError: names each file that is missing, truncated or wrong.
    """
    provide([*mnist, *svhn], folder, download)
    bar = Progress(2, "data sets, read")
    digits = _mnist(folder, mnist)
    bar.reach(1)
    streets = _svhn(folder, svhn)
    bar.reach(2)
    bar.close()
    return digits, streets


def _mnist(folder: Path, files: Sequence[RawFile]) -> Splits:
    """torchvision reads unpacked files; they are unpacked anew, from what was just checked."""
    from torchvision.datasets import MNIST  # seconds that the embedded study does without

    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "MNIST/raw"
        raw.mkdir(parents=True)
        for file in files:
            packed = folder / file.path
            with gzip.open(packed) as source, (raw / packed.stem).open("wb") as out:
                shutil.copyfileobj(source, out)
        sets = {split: MNIST(scratch, train=split == "train") for split in ("train", "test")}
    return {
        split: _checked(f"MNIST {split}", Labelled(np.asarray(s.data), s.targets.numpy()))
        for split, s in sets.items()
    }


def _svhn(folder: Path, files: Sequence[RawFile]) -> Splits:
    from torchvision.datasets import SVHN

    class Checked(SVHN):
        """torchvision's loader, which compares with the checksums asked for here."""

        split_list = {  # noqa: RUF012
            split: [file.urls[0] if file.urls else "", file.path, file.checksum.split(":")[1]]
            for split, file in zip(("train", "test"), files, strict=True)
        }

    splits = {}
    for split in ("train", "test"):
        stored = Checked(str(folder), split=split)
        pictures = np.ascontiguousarray(stored.data.transpose(0, 2, 3, 1))
        splits[split] = _checked(f"SVHN {split}", Labelled(pictures, stored.labels))
    return splits


def _checked(name: str, data: Labelled) -> Labelled:
    """The data with labels as bytes; refused if labels and pictures do not fit together."""
    labels = np.asarray(data.labels)
    if len(labels) != len(data.pictures) or labels.min() < 0 or labels.max() > 9:
        raise RawFileError(
            f"{name}: {len(data.pictures)} pictures and {len(labels)} labels from {labels.min()} "
            f"to {labels.max()}; a label from 0 to 9 is expected for each picture"
        )
    return Labelled(data.pictures, labels.astype(np.uint8))


def pair(
    digits: NDArray[np.uint8], streets: NDArray[np.uint8], repeats: int, seed: int
) -> NDArray[np.int64]:
    """Pairs aligned on the digits: rows (digit, street number) of one class [N repeats, 2].

    Each digit is paired with `repeats` street numbers drawn at random from its class.

    Args:
        digits, streets: labels.

    Raises:
        ValueError: a class of digits has no street number.
    """
    draws = np.random.default_rng(seed)
    items = np.tile(np.arange(len(digits)), repeats)
    chosen = np.empty(len(items), np.int64)
    for label in np.unique(digits):
        pool = np.flatnonzero(streets == label)
        if not len(pool):
            raise ValueError(f"no street number shows a {label}, which the digits do")
        rows = digits[items] == label
        chosen[rows] = draws.choice(pool, int(rows.sum()))
    return np.stack([items, chosen], 1)

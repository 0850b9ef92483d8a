"""How much of an object's class the radar tells: a bound for the radar detector.

    python -m benchmarks.radar

The class of each validation object, its true box given, by the nearest of all training objects:
the 24x24 cells around the box's centre, once alone and once with the box's size. Prints one JSON
line: `objects`, `accuracy`, `accuracy_with_size`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scenegen.dataset import Dataset, open_dataset

SIDE = 24  # cells
SIZE_WEIGHT = 50.0  # of a cell of box size against one step of brightness, 0 to 255


def objects(dataset: Dataset, split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What surrounds each object: cells, then its box's width and height [N, SIDE^2 + 2]; class."""
    seen, classes = [], []
    half = SIDE // 2
    for picture, (boxes, labels) in zip(
        dataset.array("radar", split), dataset.boxes("radar", split), strict=True
    ):
        padded = np.pad(picture[..., 0], half)
        for box, label in zip(boxes, labels, strict=True):
            x, y = ((box[:2] + box[2:]) / 2).astype(int)
            cells = padded[y : y + SIDE, x : x + SIDE].ravel()
            seen.append(np.append(cells, SIZE_WEIGHT * (box[2:] - box[:2])))
            classes.append(label)
    return np.array(seen, np.float32), np.array(classes)


def accuracy(
    known: NDArray[np.float32],
    names: NDArray[np.int64],
    asked: NDArray[np.float32],
    truth: NDArray[np.int64],
) -> float:
    """The share whose nearest known neighbour has the true class."""
    distance = (known**2).sum(1) - 2 * asked @ known.T
    return float((names[distance.argmin(1)] == truth).mean())


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/shapes3d"),
        help="dataset's folder (default: %(default)s)",
    )
    dataset = open_dataset(parser.parse_args().data)
    (known, names), (asked, truth) = objects(dataset, "train"), objects(dataset, "validation")
    found = {
        "objects": len(truth),
        "accuracy": accuracy(known[:, :-2], names, asked[:, :-2], truth),
        "accuracy_with_size": accuracy(known, names, asked, truth),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

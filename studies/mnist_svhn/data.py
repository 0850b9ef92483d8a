"""Stage `data`: digits, street numbers, and which go together."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.running import stage
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.loader import FILE, Pairs
from studies.mnist_svhn.params import DataParams
from studies.mnist_svhn.sources import embedded, from_files, pair
from studies.rawfiles import RawFileError

__all__ = ["main"]


def main() -> None:
    """Read or draw the pictures, pair them, and store both."""
    params = MNIST_SVHN.section("data", DataParams)
    try:
        if params.source == "embedded":
            digits, streets = embedded(params.embedded)
        else:
            digits, streets = from_files(Path(params.folder), params.download)
    except RawFileError as error:
        stage.fail(str(error))
    arrays: dict[str, NDArray[Any]] = {}
    for split, repeats, seed in (("train", params.repeats, 0), ("test", 1, 1)):
        d, s = digits[split], streets[split]
        pairs = pair(d.labels, s.labels, repeats, 2 * params.seed + seed)
        one = Pairs(d.pictures, d.labels, s.pictures, s.labels, pairs)
        arrays |= {f"{split}_{name}": value for name, value in vars(one).items()}
        print(f"{split}: {len(pairs):,} pairs of {len(d.labels):,} digits", flush=True)
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    stage.write_bytes(FILE, packed.getvalue())


if __name__ == "__main__":
    with MNIST_SVHN.running("data", lambda: "downloaded files are kept, drawing begins anew"):
        main()

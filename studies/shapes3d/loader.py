"""The rendered scenes, as the models take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.scenes import rendered

__all__ = ["training"]


def training(
    names: Sequence[str],
) -> tuple[Mapping[str, NDArray[np.uint8]], Mapping[str, NDArray[np.uint8]]]:
    """What each of these sensors saw of the scenes that models are trained on, and of those that
    they are validated on."""
    dataset = rendered()
    return (
        {m: dataset.array(m, "train") for m in names},
        {m: dataset.array(m, "validation") for m in names},
    )

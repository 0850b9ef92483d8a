"""The rendered scenes, as the models take them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.scoring.scenes import rendered
from pipeline.study import ROOT

__all__ = ["training"]


def training() -> tuple[Mapping[str, NDArray[np.uint8]], Mapping[str, NDArray[np.uint8]]]:
    """What each sensor saw of the scenes that models are trained on, and of those they are
    validated on."""
    dataset = rendered()
    return (
        {m: dataset.array(m, "train") for m in ROOT.modalities},
        {m: dataset.array(m, "validation") for m in ROOT.modalities},
    )

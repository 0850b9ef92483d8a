"""A depth camera: planar distance between the limits of `depth`.

Left out: noise, gaps at edges, and surfaces that reflect badly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from base.params import Section
from scenegen.frame import Frame
from scenegen.sensors import Traits

TRAITS = Traits(letter="D", stored=False)


def observe(frame: Frame, options: Section, draws: np.random.Generator) -> NDArray[np.uint8]:
    """0 at the near limit, 255 at the far limit: [H, W, 1]."""
    return to_uint8(frame.depth)[..., None]


def to_uint8(stored: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """16 bits to 8, rounded."""
    return ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)

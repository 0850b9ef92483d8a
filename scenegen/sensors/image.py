"""A colour camera: the rendered picture, sRGB, with the sun's shadows.

At night it amplifies, and shows its noise (`scenegen/night.py`).

Left out: lens distortion, noise by day, blur and exposure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from base.params import Section
from scenegen.frame import Frame
from scenegen.sensors import Traits

TRAITS = Traits(letter="I", channels=3, stored=False)


def observe(frame: Frame, options: Section, draws: np.random.Generator) -> NDArray[np.uint8]:
    """The picture as it is stored: [H, W, 3]."""
    return frame.image

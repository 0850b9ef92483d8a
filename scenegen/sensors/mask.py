"""A perfect segmentation: the class of the object that Blender says each pixel shows.

Class number c of n is shown as 255 (c + 1) / n, floor and backdrop as 0.

Left out: mistakes, soft edges, and which of two objects of a class a pixel shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from base.params import Section
from scenegen.frame import Frame
from scenegen.params import CLASSES
from scenegen.sensors import Traits

TRAITS = Traits(letter="M")


def observe(frame: Frame, options: Section, draws: np.random.Generator) -> NDArray[np.uint8]:
    """Classes as levels of grey: [H, W, 1]."""
    classes = [0, *(1 + CLASSES.index(thing.kind) for thing in frame.objects)]
    levels = np.rint(255.0 * np.array(classes) / len(CLASSES)).astype(np.uint8)
    return levels[frame.index][..., None]

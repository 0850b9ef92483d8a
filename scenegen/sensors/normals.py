"""Surface normals in the camera's frame (x right, y down, z ahead), told from depth.

Inverse depth w is linear across a plane: w = a x + b y + c, where (x, y, 1) is a pixel's ray. So
the normal that faces the camera is -(a, b, c) / |(a, b, c)|: exact for planes, and to second order
for what is curved. Each component n is shown as 127.5 (1 + n); 128 in all three is "not measured".

Left out: noise. Depth is that of the meshes, whose facets turn the normal of a curved face by up to
4 degrees. Where two faces meet, a pixel shows their mean; one between two jumps of depth
faces the camera.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from base.params import Section
from scenegen.camera import measured, slopes
from scenegen.frame import Frame
from scenegen.sensors import Traits

TRAITS = Traits(letter="N", channels=3, mirrors=False)
STEEPEST = 8.0  # a surface steeper than 1:8 to the line of sight counts as a jump


def observe(frame: Frame, options: Section, draws: np.random.Generator) -> NDArray[np.uint8]:
    """Unit normals as colours: [H, W, 3]."""
    return np.rint(127.5 * (1.0 + normals(frame))).astype(np.uint8)


def normals(frame: Frame) -> NDArray[np.float64]:
    """Unit normals towards the camera, 0 where nothing was measured: [H, W, 3]."""
    k, depth = frame.k, frame.params.depth
    seen = measured(frame.metres, depth)
    w = 1.0 / np.where(seen, frame.metres, depth.far)
    limit = STEEPEST * w / k[0, 0]
    a, b = (slopes(w, limit, seen, axis).mean(axis=0) * k[0, 0] for axis in (1, 0))
    height, width = w.shape
    x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
    plane = np.stack([a, b, w - a * x[None, :] - b * y[:, None]], axis=-1)
    length = np.sqrt((plane**2).sum(axis=-1, keepdims=True))
    return np.where(seen[..., None], -plane / length, 0.0)

"""Boxes from the depth map: which object each pixel shows, told from where its point lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from scenegen.camera import back_project, half_step, measured
from scenegen.geometry import signed_distance, within_reach
from scenegen.params import DepthParams
from scenegen.scene import ObjectSpec

__all__ = ["label_depth", "tight_box"]

# Depth is exact at pixel centres but for the meshes' facets and the 16 bits.
FACETS = 0.01  # metres at scale 1; the deepest facet lies 6 mm inside its solid
Array = NDArray[np.float64]


def label_depth(
    metres: Array, objects: Sequence[ObjectSpec], k: Array, pose: Array, depth: DepthParams
) -> NDArray[np.uint8]:
    """Object shown by each pixel of a depth map [H, W] in metres: 0 none, else 1 + its place.

    A pixel shows the object on whose surface its back-projected point lies, as exactly as depth
    is known; where two surfaces touch (also an object and the floor) the nearer one has it. Where
    nothing was measured (at the near or the far limit) there is none.
    """
    rows, columns = np.nonzero(measured(metres, depth))
    points = back_project(columns + 0.5, rows + 0.5, metres[rows, columns], k, pose)
    best = np.abs(points[:, 2])
    label = np.zeros(len(points), np.uint8)
    blur = half_step(k, depth)
    for place, thing in enumerate(objects, start=1):
        margin = FACETS * thing.scale + blur
        near = np.flatnonzero(within_reach(thing, points, margin))
        distance = np.abs(signed_distance(thing, points[near]))
        nearer = distance < np.minimum(best[near], margin)
        label[near[nearer]], best[near[nearer]] = place, distance[nearer]
    labels = np.zeros(metres.shape, np.uint8)
    labels[rows, columns] = label
    return labels


def tight_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 around the set pixels of a non-empty mask; x1 and y1 are exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)

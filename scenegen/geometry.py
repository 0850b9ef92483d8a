"""The four shapes as exact solids: signed distance, footprint, height.

Shapes stand upright on the floor and turn about the vertical only. At scale 1 (metres):

| class    | solid                                                         |
|----------|---------------------------------------------------------------|
| cube     | edge 1.6                                                      |
| cylinder | radius 0.8, height 1.9                                        |
| sphere   | radius 1                                                      |
| capsule  | radius 0.65, height 2.6 (a cylinder of 1.3 between two caps)  |
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenegen.scene import ObjectSpec

__all__ = [
    "CAPSULE_HALF",
    "CAPSULE_RADIUS",
    "CUBE_HALF",
    "CYLINDER_HALF",
    "CYLINDER_RADIUS",
    "centre_height",
    "footprint",
    "signed_distance",
]

CUBE_HALF = 0.8
CYLINDER_RADIUS, CYLINDER_HALF = 0.8, 0.95
CAPSULE_RADIUS, CAPSULE_HALF = 0.65, 0.65  # half of the straight part

_CENTRE_HEIGHT = {
    "cube": CUBE_HALF,
    "cylinder": CYLINDER_HALF,
    "sphere": 1.0,
    "capsule": CAPSULE_HALF + CAPSULE_RADIUS,
}


def centre_height(kind: str) -> float:
    """Height of the centre of a shape of scale 1 that stands on the floor, metres."""
    return _CENTRE_HEIGHT[kind]


def signed_distance(spec: ObjectSpec, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of world points [n, 3] to the surface of an object, metres, negative inside: [n]."""
    centre = np.array([spec.x, spec.y, spec.scale * centre_height(spec.kind)])
    local = (points - centre) / spec.scale
    radial = np.hypot(local[:, 0], local[:, 1])
    if spec.kind == "sphere":
        distance = np.hypot(radial, local[:, 2]) - 1.0
    elif spec.kind == "capsule":
        above = np.maximum(np.abs(local[:, 2]) - CAPSULE_HALF, 0.0)
        distance = np.hypot(radial, above) - CAPSULE_RADIUS
    elif spec.kind == "cylinder":
        excess = np.stack([radial - CYLINDER_RADIUS, np.abs(local[:, 2]) - CYLINDER_HALF])
        distance = _box_distance(excess)
    else:
        cos, sin = np.cos(np.radians(spec.yaw)), np.sin(np.radians(spec.yaw))
        x = cos * local[:, 0] + sin * local[:, 1]
        y = -sin * local[:, 0] + cos * local[:, 1]
        distance = _box_distance(np.abs(np.stack([x, y, local[:, 2]])) - CUBE_HALF)
    return distance * spec.scale


def _box_distance(excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance to a product of intervals, from how far a point exceeds each: [axes, n] -> [n]."""
    outside = np.sqrt((np.maximum(excess, 0.0) ** 2).sum(axis=0))
    return outside + np.minimum(excess.max(axis=0), 0.0)


def footprint(spec: ObjectSpec, steps: int = 64) -> NDArray[np.float64]:
    """Outline of an object seen from above, world metres: [corners, 2]."""
    if spec.kind == "cube":
        angles = np.radians(spec.yaw + np.array([45.0, 135.0, 225.0, 315.0]))
        radius = CUBE_HALF * np.sqrt(2.0)
    else:
        angles = np.linspace(0.0, 2.0 * np.pi, steps, endpoint=False)
        radius = {"cylinder": CYLINDER_RADIUS, "sphere": 1.0, "capsule": CAPSULE_RADIUS}[spec.kind]
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius * spec.scale
    return ring + np.array([spec.x, spec.y])

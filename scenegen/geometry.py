"""The shapes as exact solids: signed distance, footprint, height.

Shapes stand upright on the floor and turn about the vertical only. At scale 1 (metres):

| class    | solid                                                         |
|----------|---------------------------------------------------------------|
| cube     | edge 1.6                                                      |
| cylinder | radius 0.8, height 1.9                                        |
| sphere   | radius 1                                                      |
| capsule  | radius 0.65, height 2.6 (a cylinder of 1.3 between two caps)  |
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from scenegen.scene import ObjectSpec

__all__ = [
    "CAPSULE_HALF",
    "CAPSULE_RADIUS",
    "CUBE_HALF",
    "CYLINDERS",
    "cast",
    "centre_height",
    "circle",
    "entry_distance",
    "footprint",
    "signed_distance",
    "within_reach",
]

Array = NDArray[np.float64]

CUBE_HALF = 0.8
CYLINDERS = {"cylinder": (0.8, 0.95)}  # class: radius, half height; one more line, one more class
CAPSULE_RADIUS, CAPSULE_HALF = 0.65, 0.65  # half of the straight part

_CENTRE_HEIGHT = {
    "cube": CUBE_HALF,
    **{kind: half for kind, (_, half) in CYLINDERS.items()},
    "sphere": 1.0,
    "capsule": CAPSULE_HALF + CAPSULE_RADIUS,
}
_RADIUS = {  # seen from above
    "cube": CUBE_HALF * 2.0**0.5,
    **{kind: radius for kind, (radius, _) in CYLINDERS.items()},
    "sphere": 1.0,
    "capsule": CAPSULE_RADIUS,
}


def centre_height(kind: str) -> float:
    """Height of the centre of a shape of scale 1 that stands on the floor, metres."""
    return _CENTRE_HEIGHT[kind]


def circle(angles: Iterable[float]) -> Array:
    """Points at angles in radians on the unit circle: [n, 2].

    Not with np.cos and np.sin, whose last bit differs between CPUs with and without AVX512.
    """
    return np.array([(math.cos(angle), math.sin(angle)) for angle in angles])


def signed_distance(spec: ObjectSpec, points: Array) -> Array:
    """Distance of world points [n, 3] to the surface of an object, metres, negative inside: [n]."""
    centre = np.array([spec.x, spec.y, spec.scale * centre_height(spec.kind)])
    local = (points - centre) / spec.scale
    radial = np.hypot(local[:, 0], local[:, 1])
    if spec.kind == "sphere":
        distance = np.hypot(radial, local[:, 2]) - 1.0
    elif spec.kind == "capsule":
        above = np.maximum(np.abs(local[:, 2]) - CAPSULE_HALF, 0.0)
        distance = np.hypot(radial, above) - CAPSULE_RADIUS
    elif spec.kind in CYLINDERS:
        radius, half = CYLINDERS[spec.kind]
        distance = _box_distance(np.stack([radial - radius, np.abs(local[:, 2]) - half]))
    else:
        cos, sin = circle([math.radians(spec.yaw)])[0]
        x = cos * local[:, 0] + sin * local[:, 1]
        y = -sin * local[:, 0] + cos * local[:, 1]
        distance = _box_distance(np.abs(np.stack([x, y, local[:, 2]])) - CUBE_HALF)
    return distance * spec.scale


def within_reach(spec: ObjectSpec, points: Array, margin: float) -> NDArray[np.bool_]:
    """Points [n, 3] that the square around an object on the floor holds, plus a margin in metres.

    Cheap, and true wherever `signed_distance` is below the margin: [n].
    """
    reach = spec.scale * _RADIUS[spec.kind] + margin
    x, y = np.abs(points[:, 0] - spec.x), np.abs(points[:, 1] - spec.y)
    return (x < reach) & (y < reach)


def _box_distance(excess: Array) -> Array:
    """Distance to a product of intervals, from how far a point exceeds each: [axes, n] -> [n]."""
    outside = np.sqrt((np.maximum(excess, 0.0) ** 2).sum(axis=0))
    return outside + np.minimum(excess.max(axis=0), 0.0)


def footprint(spec: ObjectSpec, steps: int = 64) -> Array:
    """Outline of an object seen from above, world metres: [corners, 2]."""
    if spec.kind == "cube":
        angles = np.radians(spec.yaw + np.array([45.0, 135.0, 225.0, 315.0]))
    else:
        angles = np.linspace(0.0, 2.0 * np.pi, steps, endpoint=False)
    ring = circle(angles) * _RADIUS[spec.kind] * spec.scale
    return ring + np.array([spec.x, spec.y])


def entry_distance(spec: ObjectSpec, origin: Array, directions: Array) -> Array:
    """How far along each ray origin [3] + t directions [n, 3] an object starts; inf if missed: [n].

    Each solid is convex: an intersection of slabs and a cylinder, or a hull of two spheres.
    """
    centre = np.array([spec.x, spec.y, spec.scale * centre_height(spec.kind)])
    o = _turned(spec, (origin - centre) / spec.scale)
    d = _turned(spec, directions / spec.scale)
    if spec.kind == "cube":
        return _meet([_slab(o, d, axis, CUBE_HALF) for axis in range(3)])
    if spec.kind in CYLINDERS:
        radius, half = CYLINDERS[spec.kind]
        return _meet([_tube(o, d, radius), _slab(o, d, 2, half)])
    if spec.kind == "sphere":
        return _meet([_ball(o, d, 0.0, 1.0)])
    parts = [
        _meet([_tube(o, d, CAPSULE_RADIUS), _slab(o, d, 2, CAPSULE_HALF)]),
        _meet([_ball(o, d, CAPSULE_HALF, CAPSULE_RADIUS)]),
        _meet([_ball(o, d, -CAPSULE_HALF, CAPSULE_RADIUS)]),
    ]
    return np.minimum.reduce(parts)


def cast(
    objects: Sequence[ObjectSpec], backdrop: float, origin: Array, directions: Array
) -> tuple[Array, NDArray[np.uint8]]:
    """What rays origin [3] + t directions [n, 3] meet first: t [n], and 1 + the object's place.

    Floor and backdrop (metres from the middle) have place 0, as has what meets nothing, at inf.
    """
    _, y, z = directions.T
    entries = [entry_distance(thing, origin, directions) for thing in objects]
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = np.where(z < 0, -origin[2] / z, np.inf)
        wall = np.where(y > 0, (backdrop - origin[1]) / y, np.inf)
    distances = np.stack([np.minimum(floor, wall), *entries])
    place = np.argmin(distances, axis=0)
    return distances.min(axis=0), place.astype(np.uint8)


def _turned(spec: ObjectSpec, vectors: Array) -> Array:
    """World vectors [..., 3] along the object's own axes, without BLAS (see `camera.rotated`)."""
    cos, sin = circle([math.radians(spec.yaw)])[0]
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.stack([cos * x + sin * y, cos * y - sin * x, z], axis=-1)


def _meet(spans: list[tuple[Array, Array]]) -> Array:
    """Where rays are inside all spans (entry, exit) at once, and in front of the camera."""
    entry = np.maximum.reduce([a for a, _ in spans])
    leave = np.minimum.reduce([b for _, b in spans])
    return np.where((entry <= leave) & (entry > 0), entry, np.inf)


def _slab(o: Array, d: Array, axis: int, half: float) -> tuple[Array, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = (-half - o[axis]) / d[:, axis], (half - o[axis]) / d[:, axis]
    return np.fmin(low, high), np.fmax(low, high)


def _tube(o: Array, d: Array, radius: float) -> tuple[Array, Array]:
    return _quadratic(
        (d[:, :2] ** 2).sum(1), d[:, 0] * o[0] + d[:, 1] * o[1], (o[:2] ** 2).sum() - radius**2
    )


def _ball(o: Array, d: Array, height: float, radius: float) -> tuple[Array, Array]:
    o = o - np.array([0.0, 0.0, height])
    along = d[:, 0] * o[0] + d[:, 1] * o[1] + d[:, 2] * o[2]
    return _quadratic((d**2).sum(1), along, (o**2).sum() - radius**2)


def _quadratic(a: Array, half_b: Array, c: float) -> tuple[Array, Array]:
    """Roots of a t^2 + 2 half_b t + c; an empty span (inf, -inf) where there are none."""
    root = half_b**2 - a * c
    real = root >= 0
    root = np.sqrt(np.maximum(root, 0.0))
    entry, leave = (-half_b - root) / a, (-half_b + root) / a
    return np.where(real, entry, np.inf), np.where(real, leave, -np.inf)

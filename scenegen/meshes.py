"""The meshes that Blender renders: the solids of `geometry.py`, as vertices and faces."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scenegen.geometry import CAPSULE_HALF, CAPSULE_RADIUS, CUBE_HALF, CYLINDERS, circle

__all__ = ["SOLIDS", "Mesh", "plane"]

_RINGS, _SEGMENTS = 32, 64  # a sphere of 1 m deviates from its mesh by under 6 mm
_PLANE = 2000.0  # metres; larger than any view

Mesh = tuple[NDArray[np.float64], list[tuple[int, ...]], bool]  # vertices, faces, smooth


def plane() -> Mesh:
    """An endless square on the ground."""
    half = _PLANE / 2.0
    corners = np.array([[-half, -half, 0], [half, -half, 0], [half, half, 0], [-half, half, 0]])
    return corners, [(0, 1, 2, 3)], False


def _cube() -> Mesh:
    signs = [(x, y, z) for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]
    faces = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (1, 3, 7, 5), (3, 2, 6, 7), (2, 0, 4, 6)]
    return CUBE_HALF * np.array(signs, float), [tuple(f) for f in faces], False


def _lathe(radius: NDArray[np.float64], height: NDArray[np.float64], smooth: bool) -> Mesh:
    """Turn a profile, given from bottom to top, about the vertical; the ends are closed."""
    ring = circle(np.linspace(0.0, 2.0 * np.pi, _SEGMENTS, endpoint=False))
    vertices = np.concatenate(
        [np.c_[r * ring, np.full(_SEGMENTS, z)] for r, z in zip(radius, height, strict=True)]
    )
    around = [(i, (i + 1) % _SEGMENTS) for i in range(_SEGMENTS)]
    starts = range(0, _SEGMENTS * (len(radius) - 1), _SEGMENTS)
    faces: list[tuple[int, ...]] = [
        (s + i, s + j, s + j + _SEGMENTS, s + i + _SEGMENTS) for s in starts for i, j in around
    ]
    last = _SEGMENTS * (len(radius) - 1)
    faces.append(tuple(reversed(range(_SEGMENTS))))
    faces.append(tuple(range(last, last + _SEGMENTS)))
    return vertices, faces, smooth


def _cylinder(radius: float, half: float) -> Mesh:
    return _lathe(np.full(2, radius), np.array([-half, half]), smooth=False)


def _rounded(radius: float, half: float) -> Mesh:
    """A capsule; a sphere where the straight part has no length."""
    arc = np.linspace(-np.pi / 2.0, np.pi / 2.0, _RINGS)[1:-1]
    lift = np.where(arc < 0, -half, half)
    out, up = circle(arc).T
    return _lathe(radius * out, radius * up + lift, smooth=True)


SOLIDS: dict[str, Callable[[], Mesh]] = {
    "cube": _cube,
    **{kind: functools.partial(_cylinder, *size) for kind, size in CYLINDERS.items()},
    "sphere": lambda: _rounded(1.0, 0.0),
    "capsule": lambda: _rounded(CAPSULE_RADIUS, CAPSULE_HALF),
}

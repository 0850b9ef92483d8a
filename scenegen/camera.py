"""Pinhole geometry in OpenCV's camera frame: x right, y down, z forward; pixel centres at .5."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scenegen.params import DepthParams
from scenegen.scene import CameraSpec

__all__ = [
    "DEPTH_STEPS",
    "back_project",
    "camera_to_world",
    "half_step",
    "intrinsics",
    "measured",
    "project",
    "rotated",
]

DEPTH_STEPS = 65535  # of the 16 bits that store depth
Array = NDArray[np.float64]


def intrinsics(camera: CameraSpec, width: int, height: int) -> Array:
    """K [3, 3] in pixels: square pixels, the principal point in the middle of the picture."""
    # Not np.tan, whose last bit differs between CPUs with and without AVX512.
    focal = width / 2.0 / math.tan(math.radians(camera.field_of_view) / 2.0)
    return np.array([[focal, 0.0, width / 2.0], [0.0, focal, height / 2.0], [0.0, 0.0, 1.0]])


def camera_to_world(camera: CameraSpec) -> Array:
    """Homogeneous transform [4, 4] from the camera's frame to the world's, metres."""
    location = np.array(camera.location)
    forward = np.array(camera.target) - location
    forward /= np.sqrt((forward**2).sum())
    right = np.array([forward[1], -forward[0], 0.0])  # forward x up
    right /= np.sqrt((right**2).sum())
    (fx, fy, fz), (rx, ry, _) = forward, right
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 2] = right, forward
    pose[:3, 1] = -fz * ry, fz * rx, fx * ry - fy * rx  # forward x right
    pose[:3, 3] = location
    return pose


def measured(metres: Array, depth: DepthParams) -> NDArray[np.bool_]:
    """Where the depth sensor measured: what lies on a limit is as near, as far, or beyond."""
    return (metres > depth.near) & (metres < depth.far)


def half_step(k: Array, depth: DepthParams) -> float:
    """How far half a step of stored depth moves a point, at most: along a corner's ray, metres."""
    corner = math.hypot(k[0, 2] / k[0, 0], k[1, 2] / k[1, 1], 1.0)
    return (depth.far - depth.near) / DEPTH_STEPS / 2.0 * corner


def back_project(u: Array, v: Array, depth: Array, k: Array, pose: Array) -> Array:
    """World points [n, 3] of pixels (u right, v down; [n]) at planar depths [n] in metres."""
    x = (u - k[0, 2]) / k[0, 0] * depth
    y = (v - k[1, 2]) / k[1, 1] * depth
    return np.stack([rotated(row, x, y, depth) + row[3] for row in pose[:3]], axis=1)


def rotated(row: Array, x: Array, y: Array, z: Array | float) -> Array:
    """row[0] x + row[1] y + row[2] z, written out: a BLAS product may differ between machines."""
    return row[0] * x + row[1] * y + row[2] * z


def project(points: Array, k: Array, pose: Array) -> tuple[Array, Array]:
    """Pixels [n, 2] and planar depths [n] of world points [n, 3] in front of the camera."""
    x, y, z = (points - pose[:3, 3]).T
    right, down, ahead = (rotated(axis, x, y, z) for axis in pose[:3, :3].T)
    u = right / ahead * k[0, 0] + k[0, 2]
    return np.stack([u, down / ahead * k[1, 1] + k[1, 2]], axis=1), ahead

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
    "depth_metres",
    "floor_axes",
    "half_step",
    "intrinsics",
    "measured",
    "project",
    "quantise_depth",
    "rotated",
    "slopes",
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


def quantise_depth(metres: NDArray[np.float32], depth: DepthParams) -> NDArray[np.uint16]:
    """Metres to 16 bits over [near, far]; what is not in between sits on a limit, unmeasured."""
    share = (metres.astype(np.float64) - depth.near) / (depth.far - depth.near)
    return np.rint(np.clip(share, 0.0, 1.0) * DEPTH_STEPS).astype(np.uint16)


def depth_metres(stored: NDArray[np.uint16], depth: DepthParams) -> NDArray[np.float64]:
    """The inverse of `quantise_depth`, up to half a step."""
    return depth.near + stored / DEPTH_STEPS * (depth.far - depth.near)


def floor_axes(pose: Array) -> tuple[Array, Array]:
    """Unit vectors [2] on the floor to the camera's right and ahead of it, from its pose [4, 4]."""
    ahead = pose[:2, 2] / np.hypot(pose[0, 2], pose[1, 2])
    return np.array([ahead[1], -ahead[0]]), ahead


def slopes(inverse: Array, limit: Array, seen: NDArray[np.bool_], axis: int) -> Array:
    """Slopes of inverse depth per pixel before and after each pixel along an axis: [2, H, W].

    A side that ends in a jump, or where nothing was measured, continues the slope of the other
    side; with both so, 0.
    """
    step = np.diff(inverse, axis=axis)
    both = seen & np.roll(seen, 1, axis=axis)
    smooth = (np.abs(step) < np.delete(limit, 0, axis=axis)) & np.delete(both, 0, axis=axis)
    step = np.where(smooth, step, 0.0)
    slopes, known = np.zeros((2, *inverse.shape)), np.zeros((2, *inverse.shape), bool)
    for values, found in [(slopes, step), (known, smooth)]:
        values[0].swapaxes(0, axis)[1:] = found.swapaxes(0, axis)
        values[1].swapaxes(0, axis)[:-1] = found.swapaxes(0, axis)
    return np.where(known, slopes, slopes[::-1])

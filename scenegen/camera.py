"""Pinhole geometry in OpenCV's camera frame: x right, y down, z forward; pixel centres at .5."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenegen.scene import CameraSpec

__all__ = ["back_project", "camera_to_world", "intrinsics", "project"]

Array = NDArray[np.float64]


def intrinsics(camera: CameraSpec, width: int, height: int) -> Array:
    """K [3, 3] in pixels: square pixels, the principal point in the middle of the picture."""
    focal = width / 2.0 / np.tan(np.radians(camera.field_of_view) / 2.0)
    return np.array([[focal, 0.0, width / 2.0], [0.0, focal, height / 2.0], [0.0, 0.0, 1.0]])


def camera_to_world(camera: CameraSpec) -> Array:
    """Homogeneous transform [4, 4] from the camera's frame to the world's, metres."""
    location = np.array(camera.location)
    forward = np.array(camera.target) - location
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = location
    return pose


def back_project(u: Array, v: Array, depth: Array, k: Array, pose: Array) -> Array:
    """World points [n, 3] of pixels (u right, v down; [n]) at planar depths [n] in metres."""
    x = (u - k[0, 2]) / k[0, 0] * depth
    y = (v - k[1, 2]) / k[1, 1] * depth
    return np.stack([x, y, depth], axis=1) @ pose[:3, :3].T + pose[:3, 3]


def project(points: Array, k: Array, pose: Array) -> tuple[Array, Array]:
    """Pixels [n, 2] and planar depths [n] of world points [n, 3] in front of the camera."""
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    pixels = local[:, :2] / local[:, 2:] * k[[0, 1], [0, 1]] + k[:2, 2]
    return pixels, local[:, 2]

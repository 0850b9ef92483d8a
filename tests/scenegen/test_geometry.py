"""Solids and cameras against each other: two descriptions that share no code must agree."""

from __future__ import annotations

import numpy as np
import pytest

from scenegen.camera import back_project, camera_to_world, intrinsics, project
from scenegen.geometry import entry_distance, footprint, signed_distance
from scenegen.params import CLASSES, WIDEST_RADIUS
from scenegen.scene import CameraSpec, ObjectSpec
from scenegen.sensors.radar import Options as RadarOptions
from scenegen.sensors.radar import to_radar_pixels

CAMERA = CameraSpec((1.0, -7.0, 4.0), (0.0, 0.0, 0.9), 46.0)


def _object(kind: str) -> ObjectSpec:
    return ObjectSpec(kind, 0.4, -0.3, 1.3, 25.0, (0.1, 0.9, 0.7))


@pytest.mark.parametrize("kind", CLASSES)
def test_rays_end_on_the_surface(kind: str) -> None:
    spec, rng = _object(kind), np.random.default_rng(1)
    origin = np.array(CAMERA.location)
    targets = np.array([spec.x, spec.y, 1.2]) + rng.uniform(-2.5, 2.5, (4000, 3))
    directions = targets - origin
    entry = entry_distance(spec, origin, directions)
    hit = np.isfinite(entry)
    assert 0.05 < hit.mean() < 0.95
    points = origin + entry[hit, None] * directions[hit]
    np.testing.assert_allclose(signed_distance(spec, points), 0.0, atol=1e-9)
    closest = min(
        signed_distance(spec, origin + t * directions[~hit]).min() for t in np.linspace(0, 2, 400)
    )
    assert closest > -0.02


@pytest.mark.parametrize("kind", CLASSES)
def test_objects_stand_on_the_floor_within_their_footprint(kind: str) -> None:
    spec, rng = _object(kind), np.random.default_rng(2)
    points = np.array([spec.x, spec.y, 1.0]) + rng.uniform(-3, 3, (200_000, 3))
    inside = points[signed_distance(spec, points) < 0]
    assert 0 < inside[:, 2].min() < 0.15
    outline = footprint(spec)
    np.testing.assert_allclose(inside[:, :2].max(0), outline.max(0), atol=0.15)
    assert (inside[:, :2].max(0) <= outline.max(0) + 0.01).all()
    reach = np.hypot(*(outline - [spec.x, spec.y]).T)
    np.testing.assert_allclose(reach, WIDEST_RADIUS[kind] * spec.scale)


def test_projection_undoes_back_projection() -> None:
    rng = np.random.default_rng(3)
    k, pose = intrinsics(CAMERA, 64, 48), camera_to_world(CAMERA)
    u, v, depth = rng.uniform(0, 64, 50), rng.uniform(0, 48, 50), rng.uniform(1, 20, 50)
    pixels, again = project(back_project(u, v, depth, k, pose), k, pose)
    np.testing.assert_allclose(pixels, np.stack([u, v], axis=1))
    np.testing.assert_allclose(again, depth)


def test_the_camera_looks_at_its_target_with_the_sky_up() -> None:
    k, pose = intrinsics(CAMERA, 64, 48), camera_to_world(CAMERA)
    pixel, _ = project(np.array([CAMERA.target]), k, pose)
    np.testing.assert_allclose(pixel, [[32.0, 24.0]])
    higher, _ = project(np.array([[0.0, 0.0, 1.9]]), k, pose)
    assert higher[0, 1] < 24.0
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)


def test_the_radar_camera_is_at_the_middle_of_the_bottom_edge() -> None:
    pose, radar = camera_to_world(CAMERA), RadarOptions(reach=(0.0, 8.0))
    at_camera = to_radar_pixels(np.array([CAMERA.location[:2]]), pose, radar)
    np.testing.assert_allclose(at_camera, [[32.0, 64.0]])
    ahead = to_radar_pixels(np.array([CAMERA.target[:2]]), pose, radar)
    np.testing.assert_allclose(ahead, [[32.0, 64.0 - 8.0 * np.hypot(1.0, 7.0)]])

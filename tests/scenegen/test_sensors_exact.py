"""Normals, mask, lidar and thermal camera against other descriptions of the same scenes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scenegen import sensors
from scenegen.camera import DEPTH_STEPS, project
from scenegen.frame import Frame
from scenegen.geometry import entry_distance, signed_distance
from scenegen.params import CLASSES, SceneParams
from scenegen.scene import CameraSpec, LightSpec, ObjectSpec, SceneSpec, sample_scene
from scenegen.sensors import lidar, thermal
from scenegen.worker import render_specs

Array = NDArray[np.float64]
COUNT = 12


def scenes(name: str, **options: Any) -> SceneParams:
    """Seen by one sensor with these options; depth and index need one sample."""
    sections = {name: options} if options else {}
    return SceneParams.model_validate({"sensors": [name], "image": {"samples": 1}, **sections})


def rendered(name: str, **options: Any) -> tuple[SceneParams, NDArray[np.void]]:
    """The first scenes as one sensor sees them."""
    params = scenes(name, **options)
    return params, render_specs(params, [sample_scene(params, k) for k in range(COUNT)])


def _gradient(thing: ObjectSpec, points: Array) -> Array:
    """Outward unit normals of an exact solid at points on its surface: [n, 3]."""
    steps = 1e-5 * np.eye(3)
    slope = [
        signed_distance(thing, points + step) - signed_distance(thing, points - step)
        for step in steps
    ]
    return np.stack(slope, axis=1) / np.linalg.norm(slope, axis=0)[:, None]


def _exact_normals(frame: Frame, place: int) -> Array:
    """Of one object in the camera's frame, where pixels' rays meet it: [H, W, 3]."""
    height, width = frame.index.shape
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(u - 32) / frame.k[0, 0], (v - 32) / frame.k[1, 1], np.ones_like(u)], -1)
    towards = rays.reshape(-1, 3) @ frame.pose[:3, :3].T
    entry = entry_distance(frame.objects[place], frame.pose[:3, 3], towards)
    hit = np.isfinite(entry)
    normals = np.full((height * width, 3), np.nan)
    points = frame.pose[:3, 3] + entry[hit, None] * towards[hit]
    normals[hit] = _gradient(frame.objects[place], points) @ frame.pose[:3, :3]
    return normals.reshape(height, width, 3)


def _inside(exact: Array, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask whose four neighbours are of it, on the same face: within 30 degrees."""
    kept = mask.copy()
    for step, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        same = (exact * np.roll(exact, step, axis)).sum(-1) > np.cos(np.radians(30))
        kept &= same & np.roll(mask, step, axis)
    return kept


def test_normals_are_those_of_the_exact_solids() -> None:
    """8 bits are up to 0.4 degrees. The meshes' facets on curved faces are 5.8 degrees wide."""
    params, records = rendered("normals")
    angles: dict[str, list[Array]] = {kind: [] for kind in CLASSES}
    for record in records:
        frame = Frame(record, params)
        shown = record["normals"] / 127.5 - 1.0
        shown /= np.linalg.norm(shown, axis=-1, keepdims=True)
        for place, thing in enumerate(frame.objects):
            exact = _exact_normals(frame, place)
            kept = _inside(exact, frame.index == place + 1)
            cosine = np.clip((shown[kept] * exact[kept]).sum(-1), -1.0, 1.0)
            angles[thing.kind].append(np.degrees(np.arccos(cosine)))
    for kind, found in angles.items():
        of = np.concatenate(found)
        assert len(of) > 100
        assert np.median(of) < 1.0, kind
        assert np.percentile(of, 95) < (1.0 if kind == "cube" else 4.5), kind


def test_normals_of_floor_and_of_nothing() -> None:
    """Up in the world is up and towards a camera that looks down; beyond the far limit is grey."""
    params, (record, *_) = rendered("normals")
    frame, shown = Frame(record, params), record["normals"]
    floor = frame.pose[2, :3]  # the world's z axis in the camera's frame
    bottom = shown[-2, 1:-1][frame.index[-2, 1:-1] == 0]
    assert np.abs(bottom - 127.5 * (1 + floor)).max() <= 1.0
    assert floor[1] < 0
    assert floor[2] < 0
    assert (shown[frame.depth == DEPTH_STEPS] == 128).all()


def test_the_mask_is_the_class_of_the_object_index() -> None:
    _, records = rendered("mask")
    seen = set()
    for record in records:
        for place in range(record["n_objects"]):
            levels = set(record["mask"][record["index"] == place + 1].tolist())
            assert len(levels) == 1
            seen.add((CLASSES[record["label"][place]], levels.pop()))
        assert not record["mask"][record["index"] == 0].any()
    assert seen == {("cube", 64), ("cylinder", 128), ("sphere", 191), ("capsule", 255)}


def _marched(frame: Frame, rays: Array, wall: float) -> Array:
    """Ranges along rays [n, 3] by steps of the distance to the nearest surface (sphere tracing)."""
    along = np.zeros(len(rays))
    for _ in range(400):
        points = frame.pose[:3, 3] + along[:, None] * rays
        distances = [signed_distance(thing, points) for thing in frame.objects]
        along += np.minimum.reduce([*distances, points[:, 2], wall - points[:, 1]])
    return along


@pytest.mark.parametrize(("reach", "covered"), [([4.0, 12.0], 0.6), ([2.0, 20.0], 1.0)])
def test_the_lidar_measures_the_distance_to_the_exact_solids(
    reach: list[float], covered: float
) -> None:
    """Nothing but half of one of 254 steps lies between. The wall is beyond 13 m."""
    params, records = rendered("lidar", noise=0.0, dropout=0.0, reach=reach)
    options = params.options("lidar")
    for record in records[:4]:
        frame = Frame(record, params)
        rays = lidar.directions(frame.pose, options)
        exact = _marched(frame, rays.reshape(-1, 3), params.backdrop.distance).reshape(64, 64)
        level = record["lidar"].astype(float)
        measured = options.reach[0] + level / 254 * (options.reach[1] - options.reach[0])
        seen = (exact > options.reach[0]) & (exact < options.reach[1])
        assert np.abs(measured - exact)[seen].max() < (reach[1] - reach[0]) / 254 / 2 + 1e-4
        assert (level[~seen] == 255).all()
        assert seen.mean() == pytest.approx(covered, abs=0.2)


def test_the_lidar_looks_where_the_camera_does() -> None:
    """What a ray meets is what Blender shows at the pixel that its point falls into."""
    params, records = rendered("lidar")
    options, agree = params.options("lidar"), []
    for record in records:
        frame = Frame(record, params)
        distance, place = lidar.returns(frame, options)
        hit = place > 0
        points = distance[hit][:, None] * lidar.directions(frame.pose, options)[hit]
        pixels, ahead = project(points + frame.pose[:3, 3], frame.k, frame.pose)
        column, row = np.clip(pixels.astype(int), 0, 63).T
        agree.append(frame.index[row, column] == place[hit])
        same = np.abs(frame.metres[row, column] - ahead) < 0.2
        assert same.mean() > 0.9
    assert np.concatenate(agree).mean() > 0.95
    first = lidar.directions(Frame(records[0], params).pose, options)
    assert np.degrees(np.arcsin(first[[0, -1], 0, 2])) == pytest.approx([-8.0, -45.0])
    step = np.degrees(np.arccos(first[0, 0, :2] @ first[0, 1, :2] / (first[0, 0, :2] ** 2).sum()))
    assert step == pytest.approx(0.75)


def test_the_lidars_errors_are_as_large_as_asked_for() -> None:
    exact, noisy = (
        rendered("lidar", noise=noise, dropout=lost, reach=[2.0, 20.0])[1]["lidar"].astype(float)
        for noise, lost in ((0.0, 0.0), (0.5, 0.2))
    )
    there = exact < 255
    assert (noisy[there] == 255).mean() == pytest.approx(0.2, abs=0.01)
    assert (noisy[~there] == 255).all()
    error = (noisy - exact)[there & (noisy < 255) & (exact > 30) & (exact < 225)] * 18.0 / 254
    assert error.std() == pytest.approx(0.5, abs=0.01)
    assert error.mean() == pytest.approx(0.0, abs=0.01)


def test_lidar_boxes_hold_the_rays_that_meet_an_object() -> None:
    params, records = rendered("lidar", min_returns=20)
    for record in records:
        _, place = lidar.returns(Frame(record, params), params.options("lidar"))
        for number in range(record["n_objects"]):
            rows, columns = np.nonzero(place == number + 1)
            assert record["has_lidar_box"][number] == (len(rows) >= 20)
            if len(rows) >= 20:
                edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                assert record["lidar_box"][number].tolist() == list(edges)


def _recoloured(spec: SceneSpec) -> SceneSpec:
    """The same scene in other colours and another light."""
    objects = tuple(replace(o, hsv=(1.0 - o.hsv[0], 0.2, 0.4)) for o in spec.objects)
    light = LightSpec((0.6, 0.0, 0.8), 5.0, 0.1)
    return replace(spec, objects=objects, floor_hsv=(0.9, 0.9, 0.3), light=light)


@pytest.mark.parametrize("name", ["depth", "radar", "normals", "mask", "lidar", "thermal"])
def test_only_the_picture_knows_colour_and_light(name: str) -> None:
    params = scenes(name)
    spec = sample_scene(params, 3)
    one, other = render_specs(params, [spec, _recoloured(spec)])
    assert one["image"].tobytes() != other["image"].tobytes()
    sensor = sensors.get(name)
    np.testing.assert_array_equal(sensor.picture(one, params), sensor.picture(other, params))


def test_temperatures_are_of_the_object_and_of_the_scene() -> None:
    """Without blur and noise a picture has one level for each object, and one for the rest."""
    _, records = rendered("thermal", blur=0.0, noise=0.0)
    degrees: dict[int, list[float]] = {0: [], 1: []}
    for record in records:
        for place in range(record["n_objects"] + 1):
            levels = np.unique(record["thermal"][record["index"] == place])
            assert len(levels) == 1
            degrees[min(place, 1)].append(5.0 + 60.0 * levels[0] / 255)
    assert len(set(degrees[1])) >= 0.9 * len(degrees[1]) > COUNT  # two may share a level
    assert 10.0 - 0.2 <= min(degrees[0]) < max(degrees[0]) <= 20.0 + 0.2
    assert 25.0 - 0.2 <= min(degrees[1]) < 35 < 50 < max(degrees[1]) <= 60.0 + 0.2


def test_thermal_noise_is_as_large_as_asked_for() -> None:
    clean, noisy = (
        rendered("thermal", noise=noise, shown=[-20.0, 90.0])[1]["thermal"].astype(float)
        for noise in (0.0, 2.0)
    )
    error = (noisy - clean) * 110.0 / 255
    assert error.std() == pytest.approx(2.0, abs=0.03)
    assert error.mean() == pytest.approx(0.0, abs=0.03)


def test_the_blur_is_a_gaussian() -> None:
    """Of a point: its sum, its middle and its variance; of an even picture: the same."""
    point = np.zeros((41, 31))
    point[20, 15] = 1.0
    spread = thermal.blurred(point, 1.5)
    rows, columns = np.indices(point.shape)
    assert spread.sum() == pytest.approx(1.0)
    assert [(spread * rows).sum(), (spread * columns).sum()] == pytest.approx([20.0, 15.0])
    for at, middle in ((rows, 20), (columns, 15)):
        assert (spread * (at - middle) ** 2).sum() == pytest.approx(1.5**2, rel=0.05)
    np.testing.assert_allclose(thermal.blurred(np.full((9, 7), 3.0), 2.0), 3.0)
    np.testing.assert_array_equal(thermal.blurred(point, 0.0), point)


def test_the_second_camera_sees_what_the_first_would_from_there() -> None:
    """A quarter turn by hand: from (0, -7.5) to (7.5, 0), to the east."""
    params = scenes("side", azimuth=90.0)
    things = (
        ObjectSpec("cube", 0.0, -1.0, 1.1, 20.0, (0.6, 0.9, 0.7)),
        ObjectSpec("sphere", 0.0, 1.6, 0.9, 0.0, (0.1, 0.9, 0.7)),
    )
    camera = CameraSpec((0.0, -7.5, 4.8), (0.0, 0.0, 0.9), 46.0)
    light = LightSpec((0.0, -0.6, 0.8), 2.0, 0.4)
    spec = SceneSpec(0, things, (0.1, 0.2, 0.9), (0.5, 0.3, 0.8), 6.0, camera, light)
    first, there = render_specs(
        params, [spec, replace(spec, camera=replace(camera, location=(7.5, 0.0, 4.8)))]
    )
    np.testing.assert_array_equal(first["side"], there["image"])
    for own, frames in (("has_side_box", "has_box"), ("side_box", "box"), ("index", "index")):
        same = np.array_equal(first[own], there[frames])
        assert same == (own != "index")
    (x0, _, x1, _), (u0, _, u1, _) = first["side_box"]
    assert x1 < u0  # from the east, south is left of north, and nothing hides the sphere
    assert x0 > 0
    assert u1 < 64


WRONG = [
    ("side", {"azimuth": 150.0}, "side.azimuth: 150.0 .* allowed here: -136.2 to 136.2"),
    ("side", {"azimuth": -140.0}, "side.azimuth: -140.0 puts the second camera behind"),
    ("lidar", {"elevation": [-8.0, -8.0]}, "elevation: .* is empty"),
    ("lidar", {"resolution": 6.0}, "resolution: 6.0 degrees for 64 columns is more than a turn"),
    ("lidar", {"dropout": 1.0}, "less than 1"),
    ("thermal", {"shown": [20.0, 20.0]}, "shown: .* is empty"),
    ("thermal", {"blur": -1.0}, "greater than or equal to 0"),
]


@pytest.mark.parametrize(("name", "options", "said"), WRONG)
def test_options_that_cannot_be_are_refused(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        scenes(name, **options)


def test_a_camera_that_turns_takes_the_lidar_with_it() -> None:
    """From the west, what was on the right is ahead: the same scene turned is the same picture."""
    params = scenes("lidar", noise=0.0, dropout=0.0, reach=[2.0, 9.0])
    thing = ObjectSpec("sphere", 0.8, 0.3, 1.1, 0.0, (0.6, 0.9, 0.7))
    light = LightSpec((0.0, -0.6, 0.8), 2.0, 0.4)
    south = CameraSpec((0.0, -7.5, 4.8), (0.0, 0.0, 0.9), 46.0)
    spec = SceneSpec(0, (thing,), (0.1, 0.2, 0.9), (0.5, 0.3, 0.8), 6.0, south, light)
    west = replace(south, location=(-7.5, 0.0, 4.8))
    turned = replace(spec, objects=(replace(thing, x=0.3, y=-0.8),), camera=west)
    one, other = render_specs(params, [spec, turned])
    np.testing.assert_array_equal(one["lidar"] == 255, other["lidar"] == 255)
    assert np.abs(one["lidar"].astype(int) - other["lidar"]).max() <= 1
    np.testing.assert_array_equal(one["lidar_box"], other["lidar_box"])
    x0, _, x1, _ = one["lidar_box"][0]
    right = np.degrees(np.arctan2(0.8, 7.8)) / 0.75  # columns; the sphere stands to the right
    assert (x0 + x1) / 2 == pytest.approx(32 + right, abs=0.6)

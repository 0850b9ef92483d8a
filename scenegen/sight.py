"""Whether the sensors would show any object at all, told from sampled scenes before Blender runs.

Rays through the exact solids give the depth that Blender would; the record's own code then says
what each sensor shows of it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenegen import sensors
from scenegen.camera import camera_to_world, floor_axes, intrinsics, measured
from scenegen.frame import Passes
from scenegen.geometry import cast
from scenegen.layout import record_dtype
from scenegen.params import SceneParams
from scenegen.records import fill_record
from scenegen.scene import SceneSpec, sample_scene
from scenegen.sensors import SAMPLED, Seen

__all__ = ["blind_sensor"]

PIXELS = 96 * 96  # larger pictures and grids are looked at in about as many
Array = NDArray[np.float64]


def blind_sensor(params: SceneParams) -> str | None:
    """One line about a sensor that shows no object in any sampled scene; None where all do.

    The line begins with the keys that decide. A sensor shows an object where the object has a box.
    """
    coarse, seen = _coarse(params), _Seen(params)
    sees = [sensors.get(name) for name in params.sensors]
    own = {sensor.box_fields[0]: sensor for sensor in sees if sensor.own_boxes}
    blind = ["has_box", *own]
    for number in range(SAMPLED):  # mostly the first already shows something
        spec = sample_scene(coarse, number)
        record = np.zeros(1, record_dtype(coarse))[0]
        fill_record(record, spec, functools.partial(_cast, coarse), coarse)
        blind = [field for field in blind if not record[field].any()]
        if not blind:
            return None
        seen.add(record, _cast(coarse, spec))
    first = own.get(blind[0])
    return first.why_blind(seen.points(), params) if first else seen.why_no_box()


def _coarse(params: SceneParams) -> SceneParams:
    """The same view and grid in no more than about PIXELS pixels and cells."""
    image = _smaller(params.image)
    grids = {name: _smaller(options) for name, options in (params.model_extra or {}).items()}
    share = image.width * image.height / (params.image.width * params.image.height)
    least = {"min_pixels": max(math.floor(params.boxes.min_pixels * share), 1)}
    boxes = params.boxes.model_copy(update=least)
    return params.model_copy(update={"image": image, "boxes": boxes, **grids})


def _smaller(grid: Any) -> Any:
    """A section with a width and a height, with fewer pixels; any other as it is."""
    if not {"width", "height"} <= set(type(grid).model_fields):
        return grid
    step = math.ceil(math.sqrt(grid.width * grid.height / PIXELS))
    sides = {"width": max(grid.width // step, 1), "height": max(grid.height // step, 1)}
    return grid.model_copy(update=sides)


def _cast(params: SceneParams, spec: SceneSpec) -> Passes:
    """A black picture, planar depth in metres (inf where nothing is), and which object it is of."""
    width, height = params.image.width, params.image.height
    k, pose = intrinsics(spec.camera, width, height), camera_to_world(spec.camera)
    x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
    x, y = (side.ravel() for side in np.meshgrid(x, y))
    rays = np.stack([x, y, np.ones_like(x)], axis=1) @ pose[:3, :3].T
    depth, place = cast(spec.objects, spec.backdrop_distance, pose[:3, 3], rays)
    black = np.zeros((height, width, 3), np.float32)
    return Passes(
        black, depth.astype(np.float32).reshape(height, width), place.reshape(height, width)
    )


class _Seen:
    """The objects' points in all scenes looked at, and what they say about a blind sensor."""

    def __init__(self, params: SceneParams) -> None:
        self._params = params
        self._parts: list[Array] = []
        self._most = 0

    def add(self, record: np.void, passes: Passes) -> None:
        """Take in one scene: its record, and what that was made of."""
        depth, hit = passes.depth, passes.ids > 0
        k, pose = record["intrinsics"], record["camera_to_world"]
        rows, columns = np.nonzero(hit)
        z = depth[hit].astype(float)
        x, y = (columns + 0.5 - k[0, 2]) / k[0, 0] * z, (rows + 0.5 - k[1, 2]) / k[1, 1] * z
        offset = np.stack([x, y, z], axis=1) @ pose[:3, :3].T
        right, ahead = (offset[:, :2] @ axis for axis in floor_axes(pose))
        self._parts.append(np.stack([z, offset[:, 2] + pose[2, 3], ahead, np.abs(right)]))
        zoom = self._params.image.width * self._params.image.height / depth.size
        self._most = max(self._most, round(int(record["visible"].max()) * zoom))

    def why_no_box(self) -> str:
        """Why the camera and the depth sensor show no object."""
        depth, boxes = self._params.depth, self._params.boxes
        metres = np.concatenate(self._parts, axis=1)[0]
        said = f"shows no object in {SAMPLED} sampled scenes"
        if not len(metres):
            return (
                f"camera.field_of_view, camera.look_height: the camera {said}; look to where "
                "objects.area_x and objects.area_y put them"
            )
        if not measured(metres, depth).any():
            return (
                f"depth.near, depth.far: from {depth.near:g} to {depth.far:g} m the depth sensor "
                f"{said}; they lie {_span(metres)} m away"
            )
        return (
            f"boxes.min_pixels: with {boxes.min_pixels} the camera {said} (the largest has "
            f"{self._most} pixels); less of it, or more of objects.scale or image.width"
        )

    def points(self) -> Seen:
        """All that the depth sensor has measured of objects."""
        points = np.concatenate(self._parts, axis=1)
        return Seen(*points[1:, measured(points[0], self._params.depth)])


def _span(metres: Array) -> str:
    return f"{metres.min():.1f} to {metres.max():.1f}"

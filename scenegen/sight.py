"""Whether the sensors would show any object at all, told from sampled scenes before Blender runs.

Rays through the exact solids give the depth that Blender would; the record's own code then says
what each sensor shows of it.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from scenegen.camera import camera_to_world, intrinsics, measured
from scenegen.geometry import entry_distance
from scenegen.layout import record_dtype
from scenegen.params import ImageParams, RadarParams, SceneParams
from scenegen.radar import radar_axes
from scenegen.records import fill_record
from scenegen.scene import SceneSpec, sample_scene

__all__ = ["blind_sensor"]

SCENES = 50  # looked at before a sensor counts as blind; mostly the first already shows something
PIXELS = 96 * 96  # larger pictures and radar grids are looked at in about as many
Array = NDArray[np.float64]
Grid = TypeVar("Grid", ImageParams, RadarParams)


def blind_sensor(params: SceneParams) -> str | None:
    """One line about a sensor that shows no object in any sampled scene; None where all do.

    The line begins with the keys that decide. A sensor shows an object where the object has a box.
    """
    coarse, seen = _coarse(params), _Seen(params)
    boxes = radar_boxes = False
    for number in range(SCENES):
        spec = sample_scene(coarse, number)
        depth, hit = _cast(coarse, spec)
        record = np.zeros(1, record_dtype(coarse))[0]
        fill_record(record, spec, np.zeros((*depth.shape, 3), np.float32), depth, hit, coarse)
        boxes |= bool(record["has_box"].any())
        radar_boxes |= bool(record["has_radar_box"].any())
        if boxes and radar_boxes:
            return None
        seen.add(record, depth, hit > 0)
    return seen.why_no_radar_box() if boxes else seen.why_no_box()


def _coarse(params: SceneParams) -> SceneParams:
    """The same view and grid in no more than about PIXELS pixels and cells."""
    image, radar = _smaller(params.image), _smaller(params.radar)
    share = image.width * image.height / (params.image.width * params.image.height)
    least = {"min_pixels": max(math.floor(params.boxes.min_pixels * share), 1)}
    boxes = params.boxes.model_copy(update=least)
    return params.model_copy(update={"image": image, "radar": radar, "boxes": boxes})


def _smaller(grid: Grid) -> Grid:
    step = math.ceil(math.sqrt(grid.width * grid.height / PIXELS))
    sides = {"width": max(grid.width // step, 1), "height": max(grid.height // step, 1)}
    return grid.model_copy(update=sides)


def _cast(params: SceneParams, spec: SceneSpec) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Planar depth [H, W] in metres (inf where nothing is), and 1 where it is an object's."""
    width, height = params.image.width, params.image.height
    k, pose = intrinsics(spec.camera, width, height), camera_to_world(spec.camera)
    x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
    x, y = (side.ravel() for side in np.meshgrid(x, y))
    rays = np.stack([x, y, np.ones_like(x)], axis=1) @ pose[:3, :3].T
    things = [entry_distance(thing, pose[:3, 3], rays) for thing in spec.objects]
    nearest = np.minimum.reduce([np.full(len(rays), np.inf), *things])
    with np.errstate(divide="ignore"):
        floor = np.where(rays[:, 2] < 0, -pose[2, 3] / rays[:, 2], np.inf)
        wall = (spec.backdrop_distance - pose[1, 3]) / rays[:, 1]
    behind = np.minimum(floor, np.where(rays[:, 1] > 0, wall, np.inf))
    depth = np.minimum(nearest, behind).astype(np.float32).reshape(height, width)
    return depth, (nearest < behind).astype(np.uint8).reshape(height, width)


class _Seen:
    """The objects' points in all scenes looked at, and what they say about a blind sensor."""

    def __init__(self, params: SceneParams) -> None:
        self._params = params
        self._parts: list[Array] = []
        self._most = 0

    def add(self, record: np.void, depth: NDArray[np.float32], hit: NDArray[np.bool_]) -> None:
        """Take in one scene: its record, and the depth [H, W] that hits an object or not."""
        k, pose = record["intrinsics"], record["camera_to_world"]
        rows, columns = np.nonzero(hit)
        z = depth[hit].astype(float)
        x, y = (columns + 0.5 - k[0, 2]) / k[0, 0] * z, (rows + 0.5 - k[1, 2]) / k[1, 1] * z
        offset = np.stack([x, y, z], axis=1) @ pose[:3, :3].T
        right, ahead = (offset[:, :2] @ axis for axis in radar_axes(pose))
        self._parts.append(np.stack([z, offset[:, 2] + pose[2, 3], ahead, np.abs(right)]))
        zoom = self._params.image.width * self._params.image.height / depth.size
        self._most = max(self._most, round(int(record["visible"].max()) * zoom))

    def why_no_box(self) -> str:
        """Why the camera and the depth sensor show no object."""
        depth, boxes = self._params.depth, self._params.boxes
        metres = np.concatenate(self._parts, axis=1)[0]
        said = f"shows no object in {SCENES} sampled scenes"
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

    def why_no_radar_box(self) -> str:
        """Why the radar shows no object."""
        radar, points = self._params.radar, np.concatenate(self._parts, axis=1)
        _, up, ahead, aside = points[:, measured(points[0], self._params.depth)]
        said = f"the radar shows no object in {SCENES} sampled scenes"
        near, far = radar.reach
        if up.max() <= radar.ground:
            return f"radar.ground: above {radar.ground:g} m {said}; they end at {up.max():.2g} m"
        if not ((ahead > near) & (ahead < far)).any():
            return (
                f"radar.reach: from {near:g} to {far:g} m {said}; they lie {_span(ahead)} m ahead"
            )
        if aside.min() >= radar.span / 2:
            return f"radar.span: in {radar.span:g} m {said}; they lie {_span(aside)} m to a side"
        return (
            f"radar.reach, radar.span, radar.ground, radar.full_echo: {said}; a larger grid, less "
            "ground or a smaller full_echo shows more"
        )


def _span(metres: Array) -> str:
    return f"{metres.min():.1f} to {metres.max():.1f}"

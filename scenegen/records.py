"""One scene as one numpy record: the only format on disk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scenegen.boxes import label_depth, radar_box, shows, tight_box
from scenegen.camera import DEPTH_STEPS, camera_to_world, intrinsics
from scenegen.params import CLASSES, DepthParams, SceneParams
from scenegen.radar import Points, radar_picture, radar_points
from scenegen.scene import SceneSpec

__all__ = ["depth_metres", "fill_record", "quantise_depth"]

_LEVELS = 8191
_linear = np.arange(_LEVELS + 1) / _LEVELS
_SRGB = np.rint(
    255.0 * np.where(_linear <= 0.0031308, 12.92 * _linear, 1.055 * _linear ** (1 / 2.4) - 0.055)
).astype(np.uint8)


def quantise_depth(metres: NDArray[np.float32], depth: DepthParams) -> NDArray[np.uint16]:
    """Metres to 16 bits over [near, far]; what is not in between sits on a limit, unmeasured."""
    share = (metres.astype(np.float64) - depth.near) / (depth.far - depth.near)
    return np.rint(np.clip(share, 0.0, 1.0) * DEPTH_STEPS).astype(np.uint16)


def depth_metres(stored: NDArray[np.uint16], depth: DepthParams) -> NDArray[np.float64]:
    """The inverse of `quantise_depth`, up to half a step."""
    return depth.near + stored / DEPTH_STEPS * (depth.far - depth.near)


def _to_srgb(linear: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels = np.clip(linear, 0.0, 1.0) * np.float32(_LEVELS) + np.float32(0.5)
    return _SRGB[levels.astype(np.uint16)]


def fill_record(
    record: np.void,
    spec: SceneSpec,
    rgb: NDArray[np.float32],
    depth: NDArray[np.float32],
    index: NDArray[np.uint8],
    params: SceneParams,
) -> None:
    """Turn one render of `spec` into its record, in place.

    Args:
        record: one zeroed element of an array of `record_dtype(params)`
        rgb: linear light [H, W, 3]
        depth: planar metres [H, W]
        index: object shown by each pixel [H, W]
    """
    k = intrinsics(spec.camera, params.image.width, params.image.height)
    pose = camera_to_world(spec.camera)
    stored = quantise_depth(depth, params.depth)
    # Everything below works on what is stored, so that a reader can reproduce it.
    metres = np.where(stored < DEPTH_STEPS, depth_metres(stored, params.depth), params.depth.far)
    record["scene"], record["n_objects"] = spec.number, len(spec.objects)
    record["image"], record["depth"], record["index"] = _to_srgb(rgb), stored, index
    points = radar_points(metres, k, pose, params.radar, params.depth)
    record["radar"] = radar_picture(points, params.radar)
    record["intrinsics"], record["camera_to_world"] = k, pose
    record["floor_hsv"], record["backdrop_hsv"] = spec.floor_hsv, spec.backdrop_hsv
    record["light"] = (*spec.light.towards, spec.light.sun, spec.light.ambient)
    record["label"] = -1
    labels = label_depth(metres, spec, k, pose, params.depth)
    for place in range(len(spec.objects)):
        _fill_object(record, spec, place, labels == place + 1, points, params)


def _fill_object(
    record: np.void,
    spec: SceneSpec,
    place: int,
    mask: NDArray[np.bool_],
    points: Points,
    params: SceneParams,
) -> None:
    thing = spec.objects[place]
    record["label"][place] = CLASSES.index(thing.kind)
    record["position"][place] = thing.x, thing.y
    record["scale"][place], record["yaw"][place] = thing.scale, thing.yaw
    record["hsv"][place] = thing.hsv
    visible = int(mask.sum())
    record["visible"][place] = visible
    if visible < params.boxes.min_pixels:
        return
    x0, y0, x1, y1 = tight_box(mask)
    height, width = mask.shape
    record["has_box"][place], record["box"][place] = True, (x0, y0, x1, y1)
    record["truncated"][place] = x0 == 0 or y0 == 0 or x1 == width or y1 == height
    footprint = radar_box(spec, place, record["camera_to_world"], params.radar)
    if footprint is not None and shows(points.of(mask), footprint, params.radar):
        record["has_radar_box"][place], record["radar_box"][place] = True, footprint

"""One scene as one numpy record: the only format on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from scenegen import sensors
from scenegen.boxes import tight_box
from scenegen.camera import camera_to_world, intrinsics, quantise_depth
from scenegen.frame import Frame, Passes
from scenegen.night import exposed
from scenegen.params import CLASSES, SceneParams
from scenegen.scene import SceneSpec

__all__ = ["fill_record"]

_LEVELS = 8191
_linear = np.arange(_LEVELS + 1) / _LEVELS
_SRGB = np.rint(
    255.0 * np.where(_linear <= 0.0031308, 12.92 * _linear, 1.055 * _linear ** (1 / 2.4) - 0.055)
).astype(np.uint8)


def _to_srgb(linear: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels = np.clip(linear, 0.0, 1.0) * np.float32(_LEVELS) + np.float32(0.5)
    return _SRGB[levels.astype(np.uint16)]


def fill_record(
    record: np.void, spec: SceneSpec, render: Callable[[SceneSpec], Passes], params: SceneParams
) -> None:
    """Render `spec` into its record, in place: the frame, its boxes, what each sensor shows.

    Args:
        record: one zeroed element of an array of `record_dtype(params)`
        render: what Blender makes of a scene; called again for a sensor with a view of its own.
    """
    frame = _fill_frame(record, spec, render(spec), params)
    for name in params.sensors:
        sensor = sensors.get(name)
        if camera := sensor.camera(spec, params):
            aside = np.zeros(1, record.dtype)[0]
            other = replace(spec, camera=camera)
            sensor.fill(record, _fill_frame(aside, other, render(other), params, name))
        else:
            sensor.fill(record, frame)


def _fill_frame(
    record: np.void, spec: SceneSpec, passes: Passes, params: SceneParams, view: str = ""
) -> Frame:
    """What is known of a scene, its passes and boxes: all that a sensor sees.

    Args:
        view: the sensor that has it alone; "" is the view of all others.
    """
    _fill_facts(record, spec, params)
    linear, left = passes.rgb, spec.light.left
    if left is not None:
        linear = exposed(linear, left, params, spec.number, view)
    record["image"], record["index"] = _to_srgb(linear), passes.ids
    record["depth"] = quantise_depth(passes.depth, params.depth)
    # Everything below works on what is stored, so that a reader can reproduce it.
    frame = Frame(record, params)
    for place in range(len(spec.objects)):
        _fill_box(record, place, frame.labels == place + 1, params)
    return frame


def _fill_facts(record: np.void, spec: SceneSpec, params: SceneParams) -> None:
    """What is known of a scene before it is rendered."""
    record["scene"], record["n_objects"] = spec.number, len(spec.objects)
    record["intrinsics"] = intrinsics(spec.camera, params.image.width, params.image.height)
    record["camera_to_world"] = camera_to_world(spec.camera)
    record["floor_hsv"], record["backdrop_hsv"] = spec.floor_hsv, spec.backdrop_hsv
    left = 1.0 if spec.light.left is None else spec.light.left
    record["light"] = (*spec.light.towards, left * spec.light.sun, left * spec.light.ambient)
    record["label"] = -1
    for place, thing in enumerate(spec.objects):
        record["label"][place] = CLASSES.index(thing.kind)
        record["position"][place] = thing.x, thing.y
        record["scale"][place], record["yaw"][place] = thing.scale, thing.yaw
        record["hsv"][place] = thing.hsv


def _fill_box(record: np.void, place: int, mask: NDArray[np.bool_], params: SceneParams) -> None:
    """The box around an object's pixels, `mask` [H, W], where they are enough."""
    visible = int(mask.sum())
    record["visible"][place] = visible
    if visible < params.boxes.min_pixels:
        return
    x0, y0, x1, y1 = tight_box(mask)
    height, width = mask.shape
    record["has_box"][place], record["box"][place] = True, (x0, y0, x1, y1)
    record["truncated"][place] = x0 == 0 or y0 == 0 or x1 == width or y1 == height

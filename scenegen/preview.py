"""A contact sheet of scenes: what every sensor sees, and boxes, to tune params by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from base.files import write_bytes
from scenegen import sensors
from scenegen.params import CLASSES, SceneParams
from scenegen.scene import SceneSpec, sample_scene
from scenegen.sensors import Sensor
from scenegen.worker import render_specs

__all__ = ["CLASS_COLOURS", "contact_sheet", "encode_png", "panel", "preview"]

CLASS_COLOURS = (  # by label, RGB
    (255, 80, 80),
    (70, 220, 90),
    (90, 150, 255),
    (255, 200, 0),
    (255, 110, 255),
    (0, 230, 230),
)
CAMERA_COLOUR = (255, 0, 0)
Picture = NDArray[np.uint8]


def preview(
    params: SceneParams, scenes: Sequence[int | SceneSpec], path: Path, side: int = 192
) -> None:
    """Render the scenes and write their contact sheet to a PNG file.

    Args:
        scenes: numbers of scenes to sample, or scenes as they are
        side: width of one picture on the sheet, pixels
    """
    specs = [k if isinstance(k, SceneSpec) else sample_scene(params, k) for k in scenes]
    prepared = _prepared_for(specs, params)
    sheet = contact_sheet(render_specs(prepared, specs), prepared, side)
    write_bytes(path, encode_png(sheet))


def _prepared_for(specs: list[SceneSpec], params: SceneParams) -> SceneParams:
    """The params, but with room for all that is in these scenes, which they need not allow."""
    objects = params.objects
    kinds = {*objects.classes, *(thing.kind for spec in specs for thing in spec.objects)}
    most = max([objects.count[1], *(len(spec.objects) for spec in specs)])
    update = {"classes": tuple(c for c in CLASSES if c in kinds), "count": (1, most)}
    return params.model_copy(update={"objects": objects.model_copy(update=update)})


def contact_sheet(
    records: NDArray[np.void], params: SceneParams, side: int = 192, columns: int = 2
) -> Picture:
    """Panels of the given records in a grid, RGB uint8."""
    panels = [panel(record, params, side) for record in records]
    panels += [np.zeros_like(panels[0])] * (-len(panels) % columns)
    rows = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    return np.vstack(rows)


def panel(record: np.void, params: SceneParams, side: int = 192) -> Picture:
    """One scene: what each sensor shows, side by side with the boxes, RGB uint8.

    On a bird's-eye map the red square denotes the camera, as in the paper's figure 3.
    """
    seen_by = [sensors.get(name) for name in params.sensors]
    tiles = [_tile(sensor, record, params, side) for sensor in seen_by]
    cv2.putText(tiles[0], str(record["scene"]), (4, side - 6), 0, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    height = max(t.shape[0] for t in tiles)
    tiles = [np.pad(t, ((height - t.shape[0], 1), (0, 1), (0, 0))) for t in tiles]
    middle = side // 2
    for tile, sensor in zip(tiles, seen_by, strict=True):
        if sensor.traits.plane == "map":
            cv2.rectangle(tile, (middle - 4, height - 8), (middle + 4, height), CAMERA_COLOUR, -1)
    return np.hstack(tiles)


def _tile(sensor: Sensor, record: np.void, params: SceneParams, side: int) -> Picture:
    picture, (has, box) = sensor.picture(record, params), sensor.box_fields
    picture = np.repeat(picture, 3 // picture.shape[2], axis=2)
    height, width = picture.shape[:2]
    scale = side / width
    size = (side, round(height * scale))
    tile: Picture = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    for place in np.flatnonzero(record[has]):
        x0, y0, x1, y1 = (round(float(c) * scale) for c in record[box][place])
        label = int(record["label"][place])
        colour = CLASS_COLOURS[label % len(CLASS_COLOURS)]
        cv2.rectangle(tile, (x0, y0), (x1 - 1, y1 - 1), colour, 1)
        cv2.putText(tile, CLASSES[label], (x0, y0 - 3), 0, 0.35, colour, 1, cv2.LINE_AA)
    return tile


def encode_png(picture: Picture | NDArray[np.uint16]) -> bytes:
    """An RGB or grey picture (uint8, or uint16 if grey) as the bytes of a PNG file."""
    shown = picture[..., ::-1] if picture.ndim == 3 else picture
    done, data = cv2.imencode(".png", shown)
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as PNG")
    return bytes(data)

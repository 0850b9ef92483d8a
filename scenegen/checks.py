"""Independent checks of a dataset's boxes: the object-index pass, and projected geometry.

The boxes of a dataset come from depth. Neither check shares code with them: the first reads which
object Blender itself says each pixel shows; the second intersects the rays of the pixel centres
with the exact solids, one object at a time, and so sees through occluders.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scenegen.frame import object_of_record
from scenegen.geometry import entry_distance
from scenegen.params import SceneParams

__all__ = ["BoxCheck", "around", "check_boxes", "iou", "projected_mask"]

Array = NDArray[np.float64]


class BoxCheck(NamedTuple):
    """One object's agreement; `against_geometry` only means something where it is unoccluded."""

    scene: int
    place: int
    against_index: float
    against_geometry: float
    occluded: float  # share of its projection that something else hides
    truncated: bool


def iou(a: Array, b: Array) -> float:
    """Intersection over union of two boxes x0 y0 x1 y1."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.maximum(high - low, 0.0)))
    area = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]))
    return shared / (area - shared)


def around(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The smallest box x0 y0 x1 y1 around the set pixels of a non-empty mask."""
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def projected_mask(record: np.void, place: int) -> NDArray[np.bool_]:
    """Pixels [H, W] whose centre's ray meets the object, whatever stands before it."""
    k, pose = record["intrinsics"], record["camera_to_world"]
    height, width = record["depth"].shape
    x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(height) + 0.5 - k[1, 2]) / k[1, 1]
    rays = np.stack([*np.broadcast_arrays(x[None, :], y[:, None]), np.ones((height, width))], -1)
    directions = rays.reshape(-1, 3) @ pose[:3, :3].T
    entry = entry_distance(object_of_record(record, place), pose[:3, 3], directions)
    return np.isfinite(entry).reshape(height, width)


def check_boxes(records: NDArray[np.void], params: SceneParams) -> list[BoxCheck]:
    """Compare every stored box with both checks; an object the index pass lacks scores 0."""
    checks = []
    for record in records:
        for place in np.flatnonzero(record["has_box"]):
            seen = record["index"] == place + 1
            whole = projected_mask(record, place)
            box = record["box"][place].astype(float)
            index_box = np.array(around(seen)) if seen.any() else np.zeros(4)
            whole_box = np.array(around(whole)) if whole.any() else np.zeros(4)
            checks.append(
                BoxCheck(
                    scene=int(record["scene"]),
                    place=int(place),
                    against_index=iou(box, index_box),
                    against_geometry=iou(box, whole_box),
                    occluded=1.0 - seen.sum() / max(int(whole.sum()), 1),
                    truncated=bool(record["truncated"][place]),
                )
            )
    return checks

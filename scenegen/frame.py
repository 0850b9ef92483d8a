"""What Blender makes of a scene's view, apart from what sensors make of that."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scenegen.boxes import label_depth
from scenegen.camera import DEPTH_STEPS, depth_metres
from scenegen.params import CLASSES, SceneParams
from scenegen.scene import ObjectSpec

__all__ = ["Frame", "Passes", "object_of_record"]


class Passes(NamedTuple):
    """What one render gives; rows run from the top."""

    rgb: NDArray[np.float32]  # [H, W, 3], linear light
    depth: NDArray[np.float32]  # [H, W], planar metres at pixel centres; 1e10 where nothing is
    ids: NDArray[np.uint8]  # [H, W], 0 for floor and backdrop, else 1 + the object's place


class Frame:
    """One scene as its record holds it: passes, camera and what is in it. All that a sensor sees.

    Attributes:
        params: of the scenes.
        number: of the scene.
        image: sRGB, uint8 [H, W, 3].
        depth: planar depth as it is stored, uint16 [H, W].
        index: object that Blender says a pixel shows, 0 none, else 1 + its place: uint8 [H, W].
        k: intrinsics [3, 3] in pixels.
        pose: from the camera's frame (OpenCV's) to the world's, [4, 4].
        boxed: which places hold an object with a box in the picture, bool [N].
        box: x0, y0, x1, y1 of these, pixels: float32 [N, 4].
    """

    def __init__(self, record: np.void, params: SceneParams) -> None:
        self._record, self.params = record, params
        self.number = int(record["scene"])
        self.image: NDArray[np.uint8] = record["image"]
        self.depth: NDArray[np.uint16] = record["depth"]
        self.index: NDArray[np.uint8] = record["index"]
        self.k: NDArray[np.float64] = record["intrinsics"]
        self.pose: NDArray[np.float64] = record["camera_to_world"]
        self.boxed: NDArray[np.bool_] = record["has_box"]
        self.box: NDArray[np.float32] = record["box"]

    @cached_property
    def objects(self) -> tuple[ObjectSpec, ...]:
        """What stands on the floor, by place."""
        count = int(self._record["n_objects"])
        return tuple(object_of_record(self._record, place) for place in range(count))

    @cached_property
    def metres(self) -> NDArray[np.float64]:
        """Planar depth [H, W]; `depth.far` where nothing was measured before it."""
        limits = self.params.depth
        return np.where(self.depth < DEPTH_STEPS, depth_metres(self.depth, limits), limits.far)

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """As `index`, but told from depth, as the boxes are: [H, W]."""
        return label_depth(self.metres, self.objects, self.k, self.pose, self.params.depth)


def object_of_record(record: np.void, place: int) -> ObjectSpec:
    """The object in a place of a stored scene."""
    x, y = record["position"][place]
    return ObjectSpec(
        kind=CLASSES[record["label"][place]],
        x=float(x),
        y=float(y),
        scale=float(record["scale"][place]),
        yaw=float(record["yaw"][place]),
        hsv=tuple(record["hsv"][place].tolist()),
    )

"""How a shard lies on the disk: one scene is one numpy record."""

from __future__ import annotations

import numpy as np

from scenegen import sensors
from scenegen.params import SceneParams

__all__ = ["record_dtype"]


def record_dtype(params: SceneParams) -> np.dtype[np.void]:
    """The structured dtype of one scene; N is the most objects a scene may have.

    Beside the frame's passes and what is in the scene, each sensor has a picture that bears its
    name (unless it is a pass), and boxes of its own where these are not the picture's.

    Raises:
        ValueError: a sensor has the name of a field that every scene has.
    """
    image, n = params.image, params.objects.count[1]
    seen_by = [sensors.get(name) for name in params.sensors]
    pictures = [(s.name, "u1", s.stored_shape(params)) for s in seen_by if s.traits.stored]
    boxes = [s.box_fields for s in seen_by if s.own_boxes]
    fields = [
        ("scene", "<i8"),
        ("image", "u1", (image.height, image.width, 3)),  # sRGB
        ("depth", "<u2", (image.height, image.width)),  # near + value / 65535 (far - near)
        ("index", "u1", (image.height, image.width)),  # 0 none, else 1 + place
        *pictures,
        ("n_objects", "u1"),
        ("label", "i1", (n,)),  # index into CLASSES, -1 for no object
        ("visible", "<i4", (n,)),  # pixels in the depth map
        ("truncated", "?", (n,)),  # touches the picture's edge
        ("has_box", "?", (n,)),  # visible enough
        ("box", "<f4", (n, 4)),  # x0 y0 x1 y1, pixels of the frame
        *((field, *kind) for pair in boxes for field, kind in zip(pair, _boxes(n), strict=True)),
        ("position", "<f8", (n, 2)),  # world metres on the floor
        ("scale", "<f8", (n,)),
        ("yaw", "<f8", (n,)),  # degrees
        ("hsv", "<f8", (n, 3)),
        ("floor_hsv", "<f8", (3,)),
        ("backdrop_hsv", "<f8", (3,)),
        ("light", "<f8", (5,)),  # unit vector to the sun, sun in W/m2, ambient share
        ("intrinsics", "<f8", (3, 3)),  # K, pixels
        ("camera_to_world", "<f8", (4, 4)),  # OpenCV frame, metres
    ]
    return np.dtype(fields)


def _boxes(n: int) -> tuple[tuple[str, tuple[int]], tuple[str, tuple[int, int]]]:
    """Of a sensor's own plane: which objects have one, and x0 y0 x1 y1 in its pixels."""
    return ("?", (n,)), ("<f4", (n, 4))

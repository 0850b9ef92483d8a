"""How a shard lies on the disk: one scene is one numpy record."""

from __future__ import annotations

import numpy as np

from scenegen.params import SceneParams

__all__ = ["record_dtype"]


def record_dtype(params: SceneParams) -> np.dtype[np.void]:
    """The structured dtype of one scene; N is the most objects a scene may have."""
    image, radar, n = params.image, params.radar, params.objects.count[1]
    return np.dtype(
        [
            ("scene", "<i8"),
            ("image", "u1", (image.height, image.width, 3)),  # sRGB
            ("depth", "<u2", (image.height, image.width)),  # near + value / 65535 (far - near)
            ("index", "u1", (image.height, image.width)),  # 0 none, else 1 + place
            ("radar", "u1", (radar.height, radar.width)),  # rows from far to near
            ("n_objects", "u1"),
            ("label", "i1", (n,)),  # index into CLASSES, -1 for no object
            ("visible", "<i4", (n,)),  # pixels in the depth map
            ("truncated", "?", (n,)),  # touches the picture's edge
            ("has_box", "?", (n,)),  # visible enough
            ("box", "<f4", (n, 4)),  # x0 y0 x1 y1, pixels of image and depth
            ("has_radar_box", "?", (n,)),
            ("radar_box", "<f4", (n, 4)),  # x0 y0 x1 y1, pixels of radar
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
    )

"""What a detector gets wrong in one picture: objects missed, objects made up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SURE", "mistakes"]

SURE = 0.5  # score from which a detection counts as an object
OVERLAP = 0.5  # IoU from which it counts as a hit

Boxes = NDArray[np.floating]


def mistakes(found: Boxes, truth: Boxes) -> tuple[int, int]:
    """(objects missed, detections that hit none) of boxes [n, 5]: x1, y1, x2, y2, class.

    A hit has IoU >= 0.5 and the same class; each object is hit once.
    """
    free = list(range(len(truth)))
    false = 0
    for x1, y1, x2, y2, label in found:
        boxes = truth[free]
        width = np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1)
        height = np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1)
        shared = width.clip(0) * height.clip(0)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        iou = shared / (areas + (x2 - x1) * (y2 - y1) - shared) * (boxes[:, 4] == label)
        if len(free) and iou.max() >= OVERLAP:
            del free[int(iou.argmax())]
        else:
            false += 1
    return len(free), false

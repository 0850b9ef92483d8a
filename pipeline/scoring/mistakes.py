"""What a detector finds in one picture: objects hit, objects missed, objects made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Detections, Truth

__all__ = ["SURE", "Hits", "all_hits", "hits", "mistakes"]

SURE = 0.5  # score from which a detection counts as an object
OVERLAP = 0.5  # IoU from which it counts as a hit

Boxes = NDArray[np.floating]


def hits(found: Boxes, truth: Boxes) -> NDArray[np.int64]:
    """(place in `found`, place in `truth`) [k, 2] of hits, of boxes [n, 5]: x1, y1, x2, y2, class.

    A hit has IoU >= 0.5 and the same class; each object is hit once, by the first that can.
    """
    free = list(range(len(truth)))
    pairs = []
    for place, (x1, y1, x2, y2, label) in enumerate(found):
        boxes = truth[free]
        width = np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1)
        height = np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1)
        shared = width.clip(0) * height.clip(0)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        iou = shared / (areas + (x2 - x1) * (y2 - y1) - shared) * (boxes[:, 4] == label)
        if len(free) and iou.max() >= OVERLAP:
            pairs.append((place, free.pop(int(iou.argmax()))))
    return np.array(pairs, np.int64).reshape(-1, 2)


def mistakes(found: Boxes, truth: Boxes) -> tuple[int, int]:
    """(objects missed, detections that hit none) of boxes [n, 5], as `hits` has them."""
    right = len(hits(found, truth))
    return len(truth) - right, len(found) - right


class Hits(NamedTuple):
    """The K objects that are surely detected: their scenes [K], their boxes, those found [K, 4]."""

    scenes: NDArray[np.int64]
    there: Boxes
    found: Boxes


def all_hits(detections: Sequence[Detections], truths: Sequence[Truth]) -> Hits:
    """The hits of sure detections in N pictures."""
    places: list[int] = []
    boxes = [np.empty((0, 2, 4), np.float32)]
    for place, (seen, truth) in enumerate(zip(detections, truths, strict=True)):
        sure = seen.scores >= SURE
        found = np.column_stack([seen.boxes[sure], seen.classes[sure]])
        there: Boxes = np.column_stack(truth)
        pairs = hits(found, there)
        places += [place] * len(pairs)
        boxes.append(np.stack([there[pairs[:, 1], :4], found[pairs[:, 0], :4]], 1))
    there, found = np.concatenate(boxes).swapaxes(0, 1)
    return Hits(np.array(places, np.int64), there, found)

"""Boxes found and boxes that are there, as plain arrays."""

__all__ = ["Detections", "Images", "Truth", "normalised"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
"""Pictures uint8 [N, H, W, C]."""

Truth = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Boxes [n, 4] as x1, y1, x2, y2 in pixels, and classes [n]: what is in one picture."""


@dataclass(frozen=True)
class Detections:
    """What a detector sees in one picture, best first.

    boxes: float32 [n, 4] as x1, y1, x2, y2 in pixels of the picture. scores: float32 [n] in 0..1.
    classes: int64 [n].
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.scores)
        if self.boxes.shape != (n, 4) or self.classes.shape != (n,):
            raise ValueError(
                f"boxes {self.boxes.shape}, scores {self.scores.shape} and classes "
                f"{self.classes.shape} must be of one length, with four numbers a box"
            )

    def __len__(self) -> int:
        return len(self.scores)


def normalised(
    truths: list[Truth], height: int, width: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Pack the boxes of N pictures into two arrays of equal length, for slicing into batches.

    Returns boxes [N, most, 4] as fractions of the side and classes [N, most], -1 where none is.
    """
    most = max((len(boxes) for boxes, _ in truths), default=0)
    packed = np.zeros((len(truths), most, 4), np.float32)
    classes = np.full((len(truths), most), -1, np.int64)
    side = np.array([width, height, width, height], np.float32)
    for i, (boxes, labels) in enumerate(truths):
        packed[i, : len(boxes)] = boxes / side
        classes[i, : len(labels)] = labels
    return packed, classes

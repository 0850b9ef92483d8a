"""YOLOv3-tiny: two strides (16, 32) and fewer layers."""

from __future__ import annotations

__all__ = ["Network"]

from detector.kinds import yolov3


class Network(yolov3.Network):
    """As YOLOv3, by another list of layers."""

    design = "yolov3-tiny"

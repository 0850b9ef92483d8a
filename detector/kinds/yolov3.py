"""YOLOv3. The only importer of ultralytics.

The network, its loss, the assignment of boxes to cells and non-maximum suppression are theirs.
"""

from __future__ import annotations

__all__ = ["Network"]

import contextlib
import copy
import logging
import math
import os
import tempfile
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import torchvision  # noqa: F401  (ultralytics takes its fast suppression only if it is there)
from torch import Tensor, nn

from detector import network
from detector.network import Objects
from detector.params import DetectorParams


@contextlib.contextmanager
def _private_settings() -> Iterator[None]:
    """Let ultralytics find no network and write its settings where nobody keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        ours = {"YOLO_CONFIG_DIR": folder, "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
        theirs = {key: os.environ.get(key) for key in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for key, value in theirs.items():
                os.environ.pop(key)
                if value is not None:
                    os.environ[key] = value


with _private_settings():
    from ultralytics import __version__ as ultralytics_version
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import LOGGER, ROOT, YAML
    from ultralytics.utils.loss import v8DetectionLoss
    from ultralytics.utils.nms import non_max_suppression

LOGGER.setLevel(logging.ERROR)

GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)  # ultralytics' defaults


class Network(DetectionModel, network.Network):
    """YOLOv3 with three strides (8, 16, 32) and the head without anchors of ultralytics today."""

    libraries = ("ultralytics",)
    design: ClassVar[str] = "yolov3"

    @classmethod
    def configuration(cls, params: DetectorParams, classes: tuple[str, ...]) -> dict[str, Any]:
        """The layers, in ultralytics' own terms, and its version."""
        layers = YAML.load(ROOT / "cfg" / "models" / "v3" / f"{cls.design}.yaml")
        layers |= {
            "nc": len(classes),
            "width_multiple": params.width_multiple,
            "depth_multiple": params.depth_multiple,
        }
        return {"layers": layers, "ultralytics": ultralytics_version}

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(copy.deepcopy(config["layers"]), config["channels"], verbose=False)
        self.args, self.n_classes = GAINS, len(config["classes"])
        self._loss: v8DetectionLoss | None = None
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = (
                    0.1  # ultralytics' 0.03 needs thousands of steps to forget its start
                )

    def training_loss(self, seen: Any, objects: Objects) -> Tensor:
        """Boxes, classes and the distribution of edges, weighted by `GAINS`."""
        self._loss = self._loss or v8DetectionLoss(self)  # knows the device, so not built before
        pictures = len(seen["boxes"])
        seen = {
            "boxes": seen["boxes"].float(),
            "scores": seen["scores"].float(),
            "feats": seen["feats"],
        }
        batch = {"batch_idx": objects.pictures, "cls": objects.classes, "bboxes": objects.boxes}
        return self._loss(seen, batch)[0].sum() / pictures

    def ready(self) -> network.Network:
        """With normalisation folded into the convolutions."""
        super().ready()
        return self.fuse(verbose=False)

    def found(self, pictures: Tensor, params: DetectorParams) -> list[Tensor]:
        """What non-maximum suppression leaves."""
        return non_max_suppression(
            self(pictures)[0],
            params.confidence_floor,
            params.nms_iou,
            multi_label=True,  # as ultralytics' own validation
            max_det=params.max_detections,
            nc=self.n_classes,
            max_time_img=math.inf,  # a slow machine must not change what is found
        )

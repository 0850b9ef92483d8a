"""A trained detector of any kind: its file, and what it finds in pictures."""

from __future__ import annotations

__all__ = ["Detector", "as_bytes", "device_of", "load", "on_device", "to_floats"]

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor, nn

from base.weights import read, sealed
from detector import augment, kinds
from detector.boxes import Detections, Images
from detector.network import Network
from detector.params import DetectorParams, network_names

FORMAT = "yolov3-detector/1"  # named after the first kind, so that files of any age are read
Model = TypeVar("Model", bound=nn.Module)


class Detector:
    """Finds objects in arrays.

    Attributes:
        params: what it was trained with; `network` names its kind.
        classes: what it tells apart.
        channels: of the pictures that it reads.
    """

    def __init__(self, network: Network, config: dict[str, Any], device: torch.device) -> None:
        self.params = DetectorParams.model_validate(config["params"])
        self.classes = tuple(config["classes"])
        self.channels = int(config["channels"])
        self.device = device
        self.network = on_device(network.ready(), device)

    @property
    def decided_by(self) -> list[str]:
        """Beside its file: the digest of its kind's code and the versions of its libraries."""
        libraries = [f"{name} {version(name)}" for name in self.network.libraries]
        return [kinds.code_of(self.params.network), *libraries]

    @torch.inference_mode()
    def detect(self, images: Images, batch: int = 128) -> list[Detections]:
        """Find objects in uint8 pictures [N, H, W, C]; boxes are in pixels of these pictures.

        Pictures are stretched to the network's square input, as in training. `batch` pictures
        pass at a time. Raises ValueError for another type or number of channels.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != self.channels:
            raise ValueError(
                f"images are {images.dtype} {images.shape}, but this detector reads uint8 "
                f"[N, H, W, {self.channels}]"
            )
        found: list[Detections] = []
        for start in range(0, len(images), batch):
            found += self._detect(images[start : start + batch])
        return found

    def _detect(self, images: Images) -> list[Detections]:
        size, (height, width) = self.params.image_size, images.shape[1:3]
        kept = self.network.found(to_floats(augment.resize(images, size), self.device), self.params)
        side = np.array([width, height, width, height], np.float32)
        scale = torch.tensor([*[1 / size] * 4, 1, 1])
        return [_detections((rows.cpu() * scale).numpy(), side) for rows in kept]


def _detections(rows: npt.NDArray[np.float32], side: npt.NDArray[np.float32]) -> Detections:
    """Rows x1, y1, x2, y2 (fractions of the side), score, class; boxes are cut at the border."""
    boxes = rows[:, :4].clip(0, 1) * side
    return Detections(boxes, rows[:, 4], rows[:, 5].astype(np.int64))


def load(path: Path, device: str | None = None) -> Detector:
    """Read a detector that `training.train` wrote; no code in the file is run.

    Raises OSError or ValueError: names the file, which cannot be read, is damaged, no detector, or
    of a kind that has no file here.
    """
    config, content = read(path, FORMAT)
    kind = config["params"]["network"]
    if kind not in network_names():
        raise ValueError(f"{path}: its network {kind!r} is not one of {', '.join(network_names())}")
    with torch.random.fork_rng(devices=[]):  # its first weights are replaced
        network = kinds.load(kind)(config)
    network.load_state_dict(safetensors.torch.load(content))
    return Detector(network, config, device_of(device))


def as_bytes(network: nn.Module, config: dict[str, Any]) -> bytes:
    """The file of a trained network."""
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    return sealed(partial(safetensors.torch.save, weights), FORMAT, config)


def on_device(network: Model, device: torch.device) -> Model:
    """Move there, channels last in memory: on CPUs the convolutions are faster for it."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def device_of(name: str | None) -> torch.device:
    """The device of this name; by default CUDA's if there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def to_floats(images: Images, device: torch.device) -> Tensor:
    """Pictures [B, H, W, C] of bytes as [B, C, H, W] in 0..1, channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2) / 255

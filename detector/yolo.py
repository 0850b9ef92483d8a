"""YOLOv3 on arrays in memory: training, one file, detection. The only importer of ultralytics.

Networks, loss, assignment of boxes to cells and non-maximum suppression are ultralytics'. The loop
around them is ours: its trainer wants a folder of files, draws from global random state, writes
plots and asks the network, and cannot promise the same weights twice.
"""

__all__ = ["Detector", "load", "train"]

import contextlib
import copy
import io
import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
import torchvision  # noqa: F401  (ultralytics takes its fast suppression only if it is there)
from torch import Tensor, nn

from base import code
from base.checkpoints import Checkpoints, fingerprint
from base.files import write_bytes
from base.progress import Progress
from base.weights import read, sealed
from detector import augment
from detector.boxes import Detections, Truth, normalised
from detector.metrics import mean_average_precision
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

FORMAT = "yolov3-detector/1"
GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)  # ultralytics' defaults
CLIP = 10.0  # largest norm of the gradient, ultralytics' default
LAST_RATE = 0.01  # the learning rate at the end, as a fraction of its peak
SAVE_EVERY = 20.0  # seconds between two checkpoints within an epoch
LAST = "last"  # the name of a training's checkpoint
CODE = code.loaded(__name__)
Images = npt.NDArray[np.uint8]


def train(
    images: Images,
    boxes: list[Truth],
    val_images: Images,
    val_boxes: list[Truth],
    classes: tuple[str, ...],
    params: DetectorParams,
    out: Path,
    *,
    scratch: Path,
    seed: int,
    device: str | None = None,
    progress: bool = True,
    keep: bool = False,
) -> dict[str, float]:
    """Train one detector and write it to `out`, one safetensors file, in a single step at the end.

    images: uint8 [N, H, W, C], C = 1 or 3; boxes: N pairs of boxes [n, 4] in pixels and classes
    [n]. The validation pictures only measure what came out. After each epoch, and every 20 seconds
    within one, the state lies in `scratch` under a fingerprint of everything that decides the
    weights, so the same call goes on where a killed one stopped. Checkpoints of any other call go
    with the first of this one. `scratch`, a folder of one detector, is deleted at the end, unless
    `keep` is set, for a caller whose own work may yet be interrupted: the same call then trains no
    more. The same seed, machine and number of threads give the same bytes on a CPU.

    Returns `map50`, `map50_95`, `map50_agnostic` on validation, `parameters`, `epochs` and
    `train_seconds` (of all resumes together, until the file is written). Raises ValueError for
    arrays that do not fit together.
    """
    started = time.monotonic()
    _check(images, boxes, len(classes), params)
    _check(val_images, val_boxes, len(classes), params)
    if images.shape[3] != val_images.shape[3]:
        raise ValueError(
            f"pictures have {images.shape[3]} channels, those for validation {val_images.shape[3]}"
        )
    out = Path(out)
    data = _Data(images, *normalised(boxes, *images.shape[1:3]))
    config = _config(params, images.shape[3], classes)
    network = _onto(_build(config, seed), _device(device))
    kept = Checkpoints(scratch, _fingerprint(data, config, seed, _device(device)))
    spent = _fit(network, data, params, seed, kept, progress, started)
    write_bytes(out, _to_bytes(network, config))
    seconds = spent + time.monotonic() - started
    found = load(out, device).detect(val_images)
    measured = mean_average_precision(found, val_boxes, len(classes))
    if not keep:
        kept.clear()
    return {
        **measured,
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "epochs": params.epochs,
        "train_seconds": seconds,
    }


def load(path: Path, device: str | None = None) -> "Detector":
    """Read a detector that `train` wrote; no code in the file is run.

    Raises OSError or ValueError: names the file, which cannot be read, is damaged or no detector.
    """
    config, content = read(path, FORMAT)
    weights = safetensors.torch.load(content)
    network = _build(config, seed=0)
    network.load_state_dict(weights)
    return Detector(network, config, _device(device))


class Detector:
    """A trained network that finds objects in arrays."""

    def __init__(
        self, network: DetectionModel, config: dict[str, Any], device: torch.device
    ) -> None:
        self.params = DetectorParams.model_validate(config["params"])
        self.classes = tuple(config["classes"])
        self.channels = int(config["channels"])
        self.device = device
        network = network.eval().requires_grad_(False).fuse(verbose=False)
        self.network = _onto(network, device)

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
        p, (height, width) = self.params, images.shape[1:3]
        pictures = _floats(augment.resize(images, p.image_size), self.device)
        kept = non_max_suppression(
            self.network(pictures)[0],
            p.confidence_floor,
            p.nms_iou,
            multi_label=True,  # as ultralytics' own validation
            max_det=p.max_detections,
            nc=len(self.classes),
            max_time_img=math.inf,  # a slow machine must not change what is found
        )
        side = np.array([width, height, width, height], np.float32)
        scale = torch.tensor([*[1 / p.image_size] * 4, 1, 1])
        return [_detections((rows.cpu() * scale).numpy(), side) for rows in kept]


def _detections(rows: npt.NDArray[np.float32], side: npt.NDArray[np.float32]) -> Detections:
    """Rows x1, y1, x2, y2 (fractions of the side), score, class; boxes are cut at the border."""
    boxes = rows[:, :4].clip(0, 1) * side
    return Detections(boxes, rows[:, 4], rows[:, 5].astype(np.int64))


@dataclass(frozen=True)
class _Data:
    """Pictures uint8 [N, H, W, C] with packed boxes [N, M, 4] and classes [N, M]."""

    images: Images
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]


def _check(images: Images, boxes: list[Truth], n_classes: int, params: DetectorParams) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 [N, H, W, 1 or 3]")
    if len(images) != len(boxes) or len(images) < 2:
        raise ValueError(f"{len(images)} pictures and {len(boxes)} lists of boxes; 2 or more each")
    for i, (corners, labels) in enumerate(boxes):
        if np.shape(corners) != (len(labels), 4):
            raise ValueError(
                f"picture {i}: boxes {np.shape(corners)} with {len(labels)} classes; must be [n, 4]"
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < n_classes):
            raise ValueError(f"picture {i}: classes {labels} must lie in 0..{n_classes - 1}")
    for key in params.augmentation.colour_keys() if images.shape[3] == 1 else ():
        raise ValueError(f"augmentation.{key} must be 0 for pictures of one channel")


def _config(params: DetectorParams, channels: int, classes: tuple[str, ...]) -> dict[str, Any]:
    """Everything from which the network is built again, as JSON can hold it."""
    layers = YAML.load(ROOT / "cfg" / "models" / "v3" / f"{params.network}.yaml")
    layers |= {
        "nc": len(classes),
        "width_multiple": params.width_multiple,
        "depth_multiple": params.depth_multiple,
    }
    return {
        "params": params.model_dump(mode="json"),
        "channels": channels,
        "classes": list(classes),
        "layers": layers,
        "ultralytics": ultralytics_version,
    }


def _build(config: dict[str, Any], seed: int) -> DetectionModel:
    """Build the network with weights from `seed`, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DetectionModel(copy.deepcopy(config["layers"]), config["channels"], verbose=False)
    network.args = GAINS  # type: ignore[assignment]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # ultralytics' 0.03 needs thousands of steps to forget its start
    return network


def _onto(network: DetectionModel, device: torch.device) -> DetectionModel:
    """Move there, channels last in memory: on CPUs the convolutions are faster for it."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _device(name: str | None) -> torch.device:
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def _floats(images: Images, device: torch.device) -> Tensor:
    """Pictures [B, H, W, C] of bytes as [B, C, H, W] in 0..1, channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2) / 255


def _fingerprint(data: _Data, config: dict[str, Any], seed: int, device: torch.device) -> str:
    decides = [config, seed, CODE, torch.__version__, device.type]
    return fingerprint(
        decides, {"images": data.images, "boxes": data.boxes, "classes": data.classes}
    )


def _fit(
    network: DetectionModel,
    data: _Data,
    params: DetectorParams,
    seed: int,
    kept: Checkpoints,
    progress: bool,
    started: float,
) -> float:
    """Train in place, from the checkpoint if there is one; returns the checkpoint's seconds."""
    optimizer = _optimizer(network, params)
    done, spent, drawn = _resume(kept, network, optimizer)
    steps = max(1, len(data.images) // params.batch)  # the last, smaller batch is left out
    total = max(1, round(params.epochs * steps))  # the last epoch may be a part of one
    epochs = math.ceil(total / steps)
    loss = v8DetectionLoss(network)
    network.train()
    label = f"detector, from epoch {done // steps + 1}" if done else "detector"
    saved = time.monotonic()
    with Progress(total, label, "steps", done=done, shown=progress) as bar:
        for epoch in range(done // steps, epochs):
            order, generator = _draws(seed, epoch, len(data.images))
            if done % steps:  # a checkpoint within this epoch: its changes go on
                generator.set_state(drawn)
            for step in range(done % steps, min(steps, total - epoch * steps)):
                rate = _rate(done / total, params)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                chosen = order[step * params.batch : (step + 1) * params.batch]
                value = _step(network, loss, optimizer, _batch(data, chosen, params, generator))
                done += 1
                bar.advance(note=f"epoch {epoch + 1}/{epochs}, loss {value:.3f}")
                now = time.monotonic()
                if done in (total, (epoch + 1) * steps) or now - saved >= SAVE_EVERY:
                    saved, seconds = now, spent + now - started
                    state = generator.get_state()
                    _checkpoint(kept, network, optimizer, done, state, seconds)
    return spent


def _draws(seed: int, epoch: int, n: int) -> tuple[npt.NDArray[np.int64], torch.Generator]:
    """The order of the pictures and the generator of the changes in an epoch."""
    entropy = np.random.SeedSequence([seed, epoch])
    order = np.random.default_rng(entropy).permutation(n)
    state = int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))
    return order, torch.Generator().manual_seed(state)


def _rate(done: float, params: DetectorParams) -> float:
    """Learning rate after this fraction of all steps: a linear rise, then half a cosine down."""
    if done < params.warmup:
        return params.learning_rate * (done / params.warmup * 0.9 + 0.1)
    fall = 0.5 * (1 + math.cos(math.pi * (done - params.warmup) / (1 - params.warmup)))
    return params.learning_rate * (LAST_RATE + (1 - LAST_RATE) * fall)


def _optimizer(network: nn.Module, params: DetectorParams) -> torch.optim.Optimizer:
    """AdamW; biases and normalisation are not decayed."""
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=params.learning_rate, fused=True)


def _batch(
    data: _Data, chosen: npt.NDArray[np.int64], params: DetectorParams, g: torch.Generator
) -> dict[str, Any]:
    """Change the chosen pictures and list their boxes as ultralytics' loss wants them."""
    p = params.augmentation
    pictures = _floats(data.images[chosen], torch.device("cpu"))
    if p.colour_keys():
        pictures = augment.colour(pictures, p, g)
    if p.brightness or p.contrast:
        pictures = augment.contrast(pictures, p, g)
    if p.blur:
        pictures = augment.blur(pictures, p, g)
    pictures, boxes, classes = augment.place(
        pictures,
        torch.from_numpy(data.boxes[chosen]),
        torch.from_numpy(data.classes[chosen]),
        params.image_size,
        p,
        g,
    )
    index, slot = torch.nonzero(classes >= 0, as_tuple=True)
    corners = boxes[index, slot]
    centres = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    return {
        "pictures": pictures,
        "batch_idx": index.float(),
        "cls": classes[index, slot].float(),
        "bboxes": centres,
        "half": params.precision == "bf16",
    }


def _fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16; a CPU without AVX512 is some ten times slower in it."""
    if device.type != "cpu":
        return True
    mkldnn = torch.backends.mkldnn.is_available()
    return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _step(
    network: DetectionModel,
    loss: v8DetectionLoss,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Any],
) -> float:
    """One gradient step; returns the loss of a picture. The loss itself is computed in float32."""
    device = next(network.parameters()).device
    batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    pictures = batch["pictures"].contiguous(memory_format=torch.channels_last)
    half = batch["half"] and _fast_bfloat16(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        seen = network(pictures)
    seen = {
        "boxes": seen["boxes"].float(),
        "scores": seen["scores"].float(),
        "feats": seen["feats"],
    }
    value = loss(seen, batch)[0].sum() / len(pictures)
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()
    return float(value.detach())


def _checkpoint(
    kept: Checkpoints,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    done: int,
    drawn: Tensor,
    seconds: float,
) -> None:
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "steps": done,
        "drawn": drawn,
        "seconds": seconds,
    }
    content = io.BytesIO()
    torch.save(state, content)
    kept.save(LAST, content.getvalue())


def _resume(
    kept: Checkpoints, network: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float, Tensor]:
    """Take up the checkpoint, if there is one.

    Returns the steps done, their seconds, and the state of the generator of the changes.
    """
    content = kept.load(LAST)
    if content is None:
        return 0, 0.0, torch.empty(0)
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["steps"]), float(state["seconds"]), state["drawn"]


def _to_bytes(network: nn.Module, config: dict[str, Any]) -> bytes:
    weights = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    return sealed(partial(safetensors.torch.save, weights), FORMAT, config)

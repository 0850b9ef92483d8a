"""Training a detector of any kind on arrays in memory, and writing it to one file.

The loop is ours: libraries' own want a folder of files, draw from global random state, write plots
and ask the network, and cannot promise the same weights twice.
"""

from __future__ import annotations

__all__ = ["train"]

import io
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from base import code
from base.checkpoints import Checkpoints, fingerprint
from base.files import write_bytes
from base.progress import Progress
from detector import augment, kinds
from detector.boxes import Images, Truth, normalised
from detector.metrics import mean_average_precision
from detector.network import Network, Objects
from detector.params import DetectorParams
from detector.trained import as_bytes, device_of, load, on_device, to_floats

CLIP = 10.0  # largest norm of the gradient, ultralytics' default
LAST_RATE = 0.01  # the learning rate at the end, as a fraction of its peak
SAVE_EVERY = 20.0  # seconds between two checkpoints within an epoch
LAST = "last"  # the name of a training's checkpoint
CODE = code.loaded(__name__)


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
    network = on_device(_build(config, seed), device_of(device))
    kept = Checkpoints(scratch, _fingerprint(data, config, seed, device_of(device)))
    spent = _fit(network, data, params, seed, kept, progress, started)
    write_bytes(out, as_bytes(network, config))
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
    return {
        "params": params.model_dump(mode="json"),
        "channels": channels,
        "classes": list(classes),
        **kinds.load(params.network).configuration(params, classes),
    }


def _build(config: dict[str, Any], seed: int) -> Network:
    """Build the network with weights from `seed`, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kinds.load(config["params"]["network"])(config)


def _fingerprint(data: _Data, config: dict[str, Any], seed: int, device: torch.device) -> str:
    codes = [CODE, kinds.code_of(config["params"]["network"])]
    decides = [config, seed, codes, torch.__version__, device.type]
    return fingerprint(
        decides, {"images": data.images, "boxes": data.boxes, "classes": data.classes}
    )


def _fit(
    network: Network,
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
                pictures, objects = _batch(data, chosen, params, generator)
                value = _step(network, optimizer, pictures, objects, params.precision)
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
) -> tuple[Tensor, Objects]:
    """Change the chosen pictures and list their objects."""
    p = params.augmentation
    pictures = to_floats(data.images[chosen], torch.device("cpu"))
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
    return pictures, Objects(index.float(), classes[index, slot].float(), centres)


def _fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16; a CPU without AVX512 is some ten times slower in it."""
    if device.type != "cpu":
        return True
    mkldnn = torch.backends.mkldnn.is_available()
    return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    pictures: Tensor,
    objects: Objects,
    precision: str,
) -> float:
    """One gradient step; returns the loss of a picture. The loss itself is computed in float32."""
    device = next(network.parameters()).device
    pictures = pictures.to(device).contiguous(memory_format=torch.channels_last)
    half = precision == "bf16" and _fast_bfloat16(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        seen = network(pictures)
    value = network.training_loss(seen, objects.to(device))
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

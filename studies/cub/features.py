"""Stage `features`: what a fixed network sees in each photograph, computed once and kept.

For CUB that is ImageNet's ResNet-101 without its last layer, from a local file. The rendered
scenes use a small CNN trained here on the classes of the training pictures: like ImageNet's
classes for CUB, they are not the test classes, and no weights need to be downloaded.
"""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from base.progress import Progress
from pipeline.running import stage
from pipeline.study import device
from studies.cub import CUB
from studies.cub.layout import PUBLISHED, Photo, picture, provide_cub, read
from studies.cub.params import DataParams, FeatureParams
from studies.cub.scenes import FOLDER
from studies.rawfiles import RawFile, RawFileError, provide

__all__ = ["FILE", "SmallCNN", "fit_small", "main", "photos", "resnet"]

FILE = CUB.data / "features.npz"
# PyTorch publishes the first eight digits of the digest, in the name.
RESNET = RawFile(
    "resnet101-63fe2227.pth",
    178_794_000,
    "sha256:63fe2227",
    ("https://download.pytorch.org/models/resnet101-63fe2227.pth",),
    about=True,
)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64


def provided(data: DataParams, params: FeatureParams) -> None:
    """Make sure that every file the params ask for is there, before any work.

    Raises:
        RawFileError: a line for each that is missing or wrong, photographs and weights alike.
    """
    lines = []
    try:
        if data.source == "files":
            provide_cub(Path(data.folder), data.download)
    except RawFileError as error:
        lines.append(str(error))
    try:
        if params.extractor == "resnet101":
            weights = Path(params.weights)
            provide([replace(RESNET, path=weights.name)], weights.parent, download=False)
    except RawFileError as error:
        lines.append(str(error))
    if lines:
        raise RawFileError("\n".join(lines))


def photos(params: DataParams) -> list[Photo]:
    """The photographs of the source that the params name.

    Raises:
        RawFileError: what does not fit.
    """
    if params.source == "embedded":
        return read(FOLDER, params.test_share, params.seed)
    return read(Path(params.folder), params.test_share, params.seed, PUBLISHED)


def whole(paths: Sequence[Path]) -> None:
    """Read every photograph once: one that is damaged must not cost the features of the others.

    Raises:
        RawFileError: a line for each that is truncated or no picture.
    """
    lines = []
    bar = Progress(len(paths), "photographs, read")
    for count, path in enumerate(paths, start=1):
        try:
            picture(path, 1)
        except RawFileError as error:
            lines.append(str(error))
        bar.reach(count)
    bar.close()
    if lines:
        raise RawFileError("\n".join(lines))


def as_input(pictures: Sequence[NDArray[np.uint8]], device: str, normalise: bool = True) -> Tensor:
    """uint8 pictures [S, S, 3] -> float [B, 3, S, S] in [0, 1], or with ImageNet's mean 0 and
    deviation 1."""
    x = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float() / 255
    if not normalise:
        return x
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
    return (x - mean) / torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)


class SmallCNN(nn.Module):
    """Three strided convolutions and `size` features, read by a linear layer over the classes."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        widths = (3, 16, 32, 64)
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.ReLU()]
        # Sixteen places are kept: where things stand is part of what captions say.
        layers += [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * 16, size), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(size, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of x [B, 3, S, S]."""
        logits: Tensor = self.head(self.body(x))
        return logits


def fit_small(
    pictures: Sequence[NDArray[np.uint8]],
    labels: NDArray[np.int64],
    params: FeatureParams,
    device: str,
) -> nn.Module:
    """The features [B, size] of a CNN trained to tell the classes of `pictures` apart."""
    with torch.random.fork_rng():
        torch.manual_seed(params.seed)
        model = SmallCNN(params.size, int(labels.max()) + 1).to(device).train()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        draws, right = np.random.default_rng(params.seed), 0
        bar = Progress(params.epochs, "extractor, passes")
        for epoch in range(params.epochs):
            order, right = draws.permutation(len(pictures)), 0
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                targets = torch.from_numpy(labels[rows]).to(device)
                logits = model(as_input([pictures[i] for i in rows], device, params.normalise))
                optimiser.zero_grad(set_to_none=True)
                F.cross_entropy(logits, targets).backward()
                optimiser.step()
                right += int((logits.argmax(-1) == targets).sum())
            bar.reach(epoch + 1)
        bar.close()
    print(f"extractor: {100 * right / len(pictures):.1f} % of the training pictures told right")
    return model.body.eval()


def resnet(path: Path, device: str, published: RawFile = RESNET) -> nn.Module:
    """ResNet-101 without its last layer: 2048 features. Weights from a local, checked file.

    Raises:
        RawFileError: the file is missing, truncated or another one.
    """
    from torchvision.models import resnet101  # seconds that the embedded study does without

    expected = replace(published, path=path.name)
    provide([expected], path.parent, download=False)
    model = resnet101()
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    model.fc = nn.Identity()
    return model.to(device).eval()


@torch.inference_mode()
def extract(
    model: nn.Module, paths: Sequence[Path], side: int, device: str, normalise: bool = True
) -> NDArray[np.float32]:
    """Features [N, D] of photographs, read a batch at a time."""
    parts = []
    bar = Progress(len(paths), "features, pictures")
    for start in range(0, len(paths), BATCH):
        few = [picture(path, side) for path in paths[start : start + BATCH]]
        parts.append(model(as_input(few, device, normalise)).cpu().numpy())
        bar.reach(start + len(few))
    bar.close()
    return np.concatenate(parts)


def main() -> None:
    """Features of every photograph, and what belongs to each."""
    torch.set_num_threads(1)
    data, params = CUB.section("data", DataParams), CUB.section("features", FeatureParams)
    where = device()
    try:
        provided(data, params)
        known = photos(data)
        whole([p.path for p in known])
        if params.extractor == "resnet101":
            model = resnet(Path(params.weights), where)
        else:
            train = [p for p in known if not p.test]
            names = sorted({p.name for p in train})
            labels = np.array([names.index(p.name) for p in train])
            model = fit_small([picture(p.path, params.side) for p in train], labels, params, where)
        paths = [p.path for p in known]
        features = extract(model, paths, params.side, where, params.normalise)
    except RawFileError as error:
        stage.fail(str(error))
    packed = io.BytesIO()
    np.savez(
        packed,
        features=features,
        test=np.array([p.test for p in known]),
        names=np.array([p.name for p in known]),
        paths=np.array([str(p.path) for p in known]),
        captions=np.array([p.captions for p in known]),
    )
    stage.write_bytes(FILE, packed.getvalue())
    held_out = sum(p.test for p in known)
    print(f"{len(known) - held_out:,} training and {held_out:,} test pictures, {features.shape[1]}")


if __name__ == "__main__":
    with CUB.running("features", lambda: "photographs are kept, their features begin anew"):
        main()

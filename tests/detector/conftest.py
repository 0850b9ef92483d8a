"""Two detectors, for colour and for one channel, trained once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detector.trained import Detector, load
from detector.training import train
from tests.detector.drawn import CLASSES, SMALL, draw


@pytest.fixture(scope="session", params=[3, 1], ids=["colour", "one-channel"])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return _trained(request.param, tmp_path_factory.mktemp(f"trained-{request.param}"))


def _trained(channels: int, folder: Path) -> Detector:
    out = folder / "detector.safetensors"
    torch.manual_seed(1)
    train(
        *draw(640, 0, channels),
        *draw(32, 1, channels),
        CLASSES,
        SMALL,
        out,
        scratch=folder / "scratch",
        seed=0,
        device="cpu",
        progress=False,
    )
    return load(out, "cpu")

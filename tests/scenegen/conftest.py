"""Small params and a dataset that most tests of this room share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from scenegen.dataset import Dataset, open_dataset
from scenegen.generate import render_dataset
from scenegen.params import SceneParams

TINY: dict[str, Any] = {
    "count": 8,
    "shard_size": 2,
    "image": {"width": 24, "height": 24, "samples": 1},
    "radar": {"width": 24, "height": 24},
}


def tiny(**changes: Any) -> SceneParams:
    """Params whose scenes render in a few milliseconds."""
    return SceneParams.model_validate({**TINY, **changes})


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Forty small scenes."""
    folder = tmp_path_factory.mktemp("forty")
    image = {"width": 32, "height": 32, "samples": 1}
    params = SceneParams.model_validate({"count": 40, "shard_size": 16, "image": image})
    render_dataset(params, folder, workers=1, progress=False)
    return open_dataset(folder)


@pytest.fixture(scope="session")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A thousand scenes at the default size; depth and index need no second sample."""
    folder = tmp_path_factory.mktemp("thousand")
    image = {"width": 64, "height": 64, "samples": 1}
    params = SceneParams.model_validate({"count": 1000, "image": image})
    render_dataset(params, folder, progress=False)
    return open_dataset(folder)


@pytest.fixture(scope="session")
def all_records(thousand: Dataset) -> NDArray[np.void]:
    """All scenes of `thousand` in order."""
    return np.concatenate([thousand.shard(i) for i in range(len(thousand.manifest.shards))])


@pytest.fixture(scope="session")
def tiny_hash(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The dataset hash of `tiny()` from one undisturbed worker."""
    folder: Path = tmp_path_factory.mktemp("tiny")
    return render_dataset(tiny(), folder, workers=1, progress=False).sha256

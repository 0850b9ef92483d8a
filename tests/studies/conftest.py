"""One real smoke run of each study, and files in the formats of MNIST and SVHN."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from studies.mnist_svhn.sources import MNIST_FILES, SVHN_FILES
from studies.rawfiles import RawFile
from tests.conftest import OTHERS, clone, run, shared, shipped


@pytest.fixture(scope="session")
def studies_smoke(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> dict[str, Path]:
    """Study -> a clone in which it has run its smoke preset to the end; both run side by side.

    STUDIES_SMOKE_RUN names a folder with a finished run in STUDY/project for each to use instead.
    """
    if finished := os.environ.get("STUDIES_SMOKE_RUN"):
        return {study: Path(finished) / study / "project" for study in OTHERS}

    def one(folder: Path) -> None:
        project = clone(folder / "project")
        name = f"studies/{folder.name}/params.yaml"
        (project / name).write_text(shipped(name))
        run(project, "python", "-m", "pipeline", "preset", "smoke", "--study", folder.name)
        run(project, "dvc", "repro", f"studies/{folder.name}/dvc.yaml")

    def both(folder: Path) -> None:
        folders = [folder / study for study in OTHERS]
        for each in folders:
            each.mkdir()
        began = time.monotonic()
        with ThreadPoolExecutor(len(OTHERS)) as pool:
            list(pool.map(one, folders))
        # Told, not asserted: it is the machine's as much as ours.
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\nthe studies' smoke runs took {time.monotonic() - began:.0f} s")

    root = shared(tmp_path_factory, "studies", both)
    return {study: root / study / "project" for study in OTHERS}


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as a gzipped IDX file."""
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


def described(path: Path, name: str, urls: tuple[str, ...] = ()) -> RawFile:
    """What a file that is there would be published as."""
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    return RawFile(name, path.stat().st_size, f"md5:{digest}", urls)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, list[RawFile], list[RawFile], dict[str, np.ndarray]]:
    """A folder with 12 and 6 digits, 12 and 10 street numbers, in the formats of MNIST and SVHN."""
    draws = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for split, prefix, count in (("train", "train", 12), ("test", "t10k", 6)):
        made[f"digits_{split}"] = draws.integers(0, 256, (count, 28, 28), np.uint8)
        made[f"labels_{split}"] = np.arange(count, dtype=np.uint8) % 10
        for kind, array in (("images-idx3", "digits"), ("labels-idx1", "labels")):
            name = f"{prefix}-{kind}-ubyte.gz"
            (tmp_path / "MNIST/raw" / name).write_bytes(idx(made[f"{array}_{split}"]))
    for split, count in (("train", 12), ("test", 10)):
        made[f"streets_{split}"] = draws.integers(0, 256, (count, 32, 32, 3), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10 + 1  # SVHN writes 10 for the digit 0
        savemat(
            tmp_path / f"{split}_32x32.mat",
            {"X": made[f"streets_{split}"].transpose(1, 2, 3, 0), "y": labels[:, None]},
        )
    mnist = [described(tmp_path / f.path, f.path) for f in MNIST_FILES]
    svhn = [described(tmp_path / f.path, f.path) for f in SVHN_FILES]
    return tmp_path, mnist, svhn, made

"""The studies' stages as programs: interrupted, run twice at once, and without their files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pipeline.run import Run
from pipeline.stages import report, score, train_vae
from studies.cub import loader, text
from studies.mnist_svhn.loader import FILE
from tests.conftest import OTHERS, ROOT, run, shipped

HERE = {"PYTHONPATH": str(ROOT), "DEVICE": "cpu"}


def params(folder: Path, study: str, *changes: tuple[str, str]) -> Path:
    """The folder with the study's params in it, changed, and nothing else."""
    home = folder / f"studies/{study}"
    home.mkdir(parents=True)
    text = shipped(f"studies/{study}/params.yaml")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (home / "params.yaml").write_text(text)
    return folder


def interrupted(folder: Path, ready: Callable[[], bool], kind: int, *module: str) -> str:
    """What `python -m module` says when the signal comes once `ready`; it must end with 130."""
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        cwd=folder,
        env={**os.environ, **HERE},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background of a shell, SIGINT is ignored, and inherited so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    deadline = time.monotonic() + 240
    try:
        while not ready():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, kind)
        said = process.communicate(timeout=60)[1]
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    return said


@pytest.mark.slow
def test_a_stage_runs_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = params(tmp_path, "mnist_svhn", ("train: 4000", "train: 1000000"))
    lock = folder / ".cache/runs/mnist_svhn/data.lock"
    said_to_second = ""

    def refused() -> bool:
        """Once the first run holds its lock: what a second one says."""
        nonlocal said_to_second
        if not lock.exists():
            return False
        second = run(folder, "python", "-m", "studies.mnist_svhn.data", check=False, **HERE)
        assert second.returncode == 2
        said_to_second = second.stderr
        return True

    said = interrupted(folder, refused, signal.SIGTERM, "studies.mnist_svhn.data")
    assert said_to_second.startswith("mnist_svhn/data: already running in this folder")
    last = said.splitlines()[-1]  # after what the drawing shows
    assert last.startswith("mnist_svhn/data: interrupted; downloaded files are kept")
    assert last.endswith("To go on: dvc repro studies/mnist_svhn/dvc.yaml")
    assert not (folder / FILE).exists()


def digits(folder: Path) -> None:
    """Eighty pairs to train on, of noise."""
    (folder / FILE).parent.mkdir(parents=True)
    draws = np.random.default_rng(0)
    arrays = {
        "digits": draws.integers(0, 256, (80, 8, 8), np.uint8),
        "digit_labels": np.zeros(80, np.uint8),
        "streets": draws.integers(0, 256, (80, 16, 16, 3), np.uint8),
        "street_labels": np.zeros(80, np.uint8),
        "pairs": np.repeat(np.arange(80)[:, None], 2, 1),
    }
    np.savez(folder / FILE, **{f"train_{name}": value for name, value in arrays.items()})


def birds(folder: Path) -> None:
    """Twenty pictures of noise with ten captions each, as the stages before training leave them."""
    draws = np.random.default_rng(0)
    words = ("red", "blue", "bird", "wing", "beak", "tail")
    said = [[" ".join(draws.choice(words, 4)) for _ in range(10)] for _ in range(20)]
    loader.store(
        folder / loader.FEATURES,
        features=draws.normal(size=(20, 64)).astype(np.float32),
        test=np.arange(20) % 4 == 0,
        captions=np.array(said),
        paths=np.array(["-"] * 20),
    )
    run(folder, "python", "-m", "studies.cub.text", **HERE)


KILLED = {"mnist_svhn": digits, "cub": birds}


@pytest.mark.slow
@pytest.mark.parametrize("study", KILLED)
def test_a_killed_training_goes_on_to_the_same_bytes_and_shows_how_far_it_is(
    tmp_path: Path, study: str
) -> None:
    left, said = [], []
    for name in ("broken", "whole"):
        folder = params(
            tmp_path / name, study, ("checkpoint_every: 250", "checkpoint_every: 10"),
            ("  steps: 1000 ", "  steps: 100 "),
            ("    batch: 64 ", "    batch: 8 "),
            *([("  size: 10  ", "  size: 4   ")] if study == "cub" else []),
        )  # fmt: skip
        KILLED[study](folder)
        command = (sys.executable, "-m", "pipeline.stages.train_vae", "poe-ecg-0", "--study", study)
        model = folder / f"data/studies/{study}/models/poe-ecg-0.safetensors"
        if name == "broken":
            checkpoints = folder / f".cache/checkpoints/{study}/poe-ecg-0"
            process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **HERE}, stderr=subprocess.DEVNULL
            )
            while process.poll() is None and not any(checkpoints.glob("*/*.checkpoint")):
                time.sleep(0.01)
            process.kill()
            assert process.wait() == -signal.SIGKILL
            assert not model.exists()
        done = run(folder, *command, **HERE)
        said.append(done.stdout)
        assert re.search(r"^poe\+ecg: 100/100 steps, [\d.]+/s, 0 s left", done.stderr, re.M)
        curves = sorted((folder / f"data/studies/{study}/curves/poe-ecg-0").rglob("*.tsv"))
        assert curves
        left.append((model.read_bytes(), [curve.read_bytes() for curve in curves]))
    broken, whole = said
    resumed = re.fullmatch(r"poe\+ecg: goes on from step (\d+)\n", broken)
    assert resumed, broken
    assert 10 <= int(resumed[1]) < 100
    assert whole == ""
    assert left[0] == left[1]


TRAIN_MNIST = ("pipeline.stages.train_vae", "mnist-0", "--study", "mnist_svhn")


@pytest.mark.slow
def test_an_interrupted_training_names_its_checkpoint(tmp_path: Path) -> None:
    folder = params(
        tmp_path, "mnist_svhn", ("checkpoint_every: 250", "checkpoint_every: 2"),
        ("  steps: 1000 ", "  steps: 1000000 "),
    )  # fmt: skip
    digits(folder)
    kept = folder / ".cache/checkpoints/mnist_svhn/mnist-0"

    def ready() -> bool:
        return any(kept.glob("*/*.checkpoint"))

    said = interrupted(folder, ready, signal.SIGINT, *TRAIN_MNIST)
    last = said.splitlines()[-1]
    assert "mnist_svhn/train_unimodal@mnist-0: interrupted; the checkpoint in .cache" in last
    assert last.endswith("To go on: dvc repro studies/mnist_svhn/dvc.yaml")


LACKING = [
    (
        "mnist_svhn",
        "studies.mnist_svhn.data",
        [
            "data/raw/MNIST/raw/train-images-idx3-ubyte.gz: missing; 9,912,422 bytes, md5:f68b",
            "data/raw/MNIST/raw/train-labels-idx1-ubyte.gz: missing; 28,881 bytes, md5:d53e",
            "data/raw/MNIST/raw/t10k-images-idx3-ubyte.gz: missing; 1,648,877 bytes, md5:9fb6",
            "data/raw/MNIST/raw/t10k-labels-idx1-ubyte.gz: missing; 4,542 bytes, md5:ec29",
            "data/raw/train_32x32.mat: missing; 182,040,794 bytes, md5:e26d",
            "data/raw/test_32x32.mat: missing; 64,275,384 bytes, md5:eb5a",
        ],
    ),
    (
        "cub",
        "studies.cub.features",
        [
            "data/raw/cub/CUB_200_2011.tgz: missing; 1,150,585,339 bytes, md5:97ec",
            "data/raw/cub/text_c10: missing; size and checksum: none published; the captions",
            "data/raw/cub/testclasses.txt: missing; size and checksum: none published; the ",
            "data/raw/resnet101-63fe2227.pth: missing; about 178,794,000 bytes, sha256:63fe2227",
        ],
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("study", "module", "lines"), LACKING, ids=[s for s, *_ in LACKING])
def test_files_that_are_not_there_are_all_named_before_any_work(
    tmp_path: Path, study: str, module: str, lines: list[str]
) -> None:
    changes = [("source: embedded ", "source: files "), ("download: true", "download: false")]
    if study == "cub":
        changes.append(("extractor: small ", "extractor: resnet101 "))
    folder = params(tmp_path, study, *changes)
    (folder / "data/raw").mkdir(parents=True)
    done = run(folder, "python", "-m", module, check=False, **HERE)
    assert done.returncode == 2
    said = done.stderr.splitlines()
    assert len(said) == len(lines)
    for line, expected in zip(said, lines, strict=True):
        assert line.startswith(expected)
    assert [p.name for p in (folder / "data").rglob("*")] == ["raw"]


HALVES = [
    ("mnist_svhn", partial(report.main, OTHERS["mnist_svhn"]),
     "studies/mnist_svhn/results/scores/mnist-0.json"),
    ("mnist_svhn", partial(score.main, OTHERS["mnist_svhn"], Run("moe-none", 0)),
     "studies/mnist_svhn/results/models/moe-none-0.json"),
    ("mnist_svhn", partial(train_vae.main, OTHERS["mnist_svhn"], Run("moe-none", 0)),
     "data/studies/mnist_svhn/pairs.npz"),
    ("cub", partial(report.main, OTHERS["cub"]), "studies/cub/results/scores/image-0.json"),
    ("cub", partial(score.main, OTHERS["cub"], Run("moe-none", 0)),
     "studies/cub/results/models/moe-none-0.json"),
    ("cub", partial(train_vae.main, OTHERS["cub"], Run("moe-none", 0)),
     "data/studies/cub/language.npz"),
    ("cub", text.main, "data/studies/cub/features.npz"),
]  # fmt: skip


@pytest.mark.parametrize(("study", "work", "name"), HALVES, ids=[name for *_, name in HALVES])
def test_a_file_that_is_missing_or_cut_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    study: str,
    work: Callable[[], None],
    name: str,
) -> None:
    monkeypatch.chdir(params(tmp_path, study))
    again = f"`dvc repro studies/{study}/dvc.yaml` makes it"
    for content, said in (
        (None, rf"no such file; {again}"),
        (b"", rf"cannot be read \(.+\); {again} anew"),
        (b'{"joint": 1', rf"cannot be read \(.+\); {again} anew"),
    ):
        if content is not None:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(content)
        with pytest.raises(SystemExit) as stop:
            work()
        line = capsys.readouterr().err
        assert stop.value.code == 2
        assert re.fullmatch(f"{name}: {said}\n", line), line

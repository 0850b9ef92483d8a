"""Kinds of detectors are found by name: a second one, a page's example, is one file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from base import code
from base.weights import read
from detector import kinds, params, trained, training
from detector.boxes import Detections
from detector.params import Augmentation, DetectorParams, network_names
from pipeline.running import stage
from pipeline.scoring import scores
from pipeline.scoring.bootstrap import copies
from pipeline.scoring.decoding import Items
from tests.conftest import ROOT
from tests.detector.drawn import CLASSES, draw

EXAMPLE = re.search(
    r"^```python\n(\"\"\"Of every.+?)^```",
    (ROOT / "docs/guide/detector.md").read_text(),
    re.M | re.S,
)
SECTION = {
    "network": "cells",
    "depth": 16,
    "image_size": 64,
    "epochs": 6.0,
    "batch": 16,
    "learning_rate": 0.006,
    "precision": "fp32",
}
STILL = Augmentation(scale=0.0, translate=0.0)


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DetectorParams:
    """Its params, in a folder of kinds that has this file alone."""
    assert EXAMPLE
    folder = tmp_path / "kinds"
    folder.mkdir()
    (folder / "cells.py").write_text(EXAMPLE[1])
    monkeypatch.setattr(params, "KINDS", folder)
    monkeypatch.setattr(kinds, "__path__", [str(folder)])
    monkeypatch.delitem(sys.modules, "detector.kinds.cells", raising=False)
    return DetectorParams.model_validate({**SECTION, "augmentation": STILL})


def train(out: Path, asked: DetectorParams, epochs: float) -> bytes:
    asked = asked.model_copy(update={"epochs": epochs})
    training.train(
        *draw(320, 0, 1), *draw(8, 1, 1), CLASSES, asked, out,
        scratch=out.parent / "scratch", seed=0, device="cpu", progress=False,
    )  # fmt: skip
    return out.read_bytes()


@pytest.mark.slow
def test_a_detector_of_one_file_is_trained_saved_and_judged(
    cells: DetectorParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    path = scores.detector_file("depth")
    path.parent.mkdir(parents=True)
    train(path, cells, cells.epochs)
    config, _ = read(path, trained.FORMAT)
    assert (config["params"]["network"], config["params"]["depth"]) == ("cells", 16)

    detector = trained.load(path, "cpu")
    assert (detector.classes, detector.channels) == (CLASSES, 1)
    assert detector.params == cells
    assert list(detector.decided_by) == [kinds.code_of("cells")]
    images, truths = draw(100, 7, 1)
    scenes = Items(np.arange(100), {"depth": images}, {"depth": truths})
    judge = scores.Judge({"depth": detector}, scenes, len(CLASSES), copies(100, 50, 0))
    found = judge.detect("depth", images)
    told = judge.score("depth", images, found)
    assert told["map50"][0] > 0.3
    assert 0.001 < told["map50"].std() < 0.1
    black = np.zeros_like(images)
    assert judge.score("depth", black, judge.detect("depth", black))["map50"][0] < 0.05
    assert all((np.diff(d.scores) <= 0).all() and len(d) <= 50 for d in found)
    assert isinstance(found[0], Detections)


@pytest.mark.slow
def test_its_training_repeats_and_goes_on_like_any_other(
    cells: DetectorParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", cells, 1.5)
    real, made = training._checkpoint, []

    def stops(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        made.append(arguments)
        if len(made) == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "SAVE_EVERY", 0.0)
        patch.setattr(training, "_checkpoint", stops)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "a", cells, 1.5)
    assert list(tmp_path.glob("scratch/*/*.checkpoint"))
    assert train(tmp_path / "a", cells, 1.5) == whole


def test_its_keys_are_those_that_its_file_declares(cells: DetectorParams) -> None:
    for given, loc, said in (
        ({"depth": 0}, "depth", "greater than or equal to 1"),
        ({"depth": "16"}, "depth", "valid integer"),
        ({"deep": 16}, "deep", "unknown key; with network 'cells' there are network, .*, depth$"),
        ({"network": "yolov3"}, "network", "must be a file of detector/kinds/: cells$"),
    ):
        with pytest.raises(ValidationError) as refused:
            params.Detectors.model_validate({"image": {**SECTION, **given}})
        (mistake,) = refused.value.errors()
        assert mistake["loc"] == ("image", loc)
        assert re.search(said, mistake["msg"])


def test_a_file_of_a_kind_that_is_not_here_is_named(
    cells: DetectorParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "a", cells, 0.1)
    monkeypatch.setattr(params, "KINDS", ROOT / "detector/kinds")
    with pytest.raises(ValueError, match=r"a: its network 'cells' is not one of yolov3, yolov3-t"):
        trained.load(tmp_path / "a")


def test_the_shipped_kinds_and_what_their_code_is() -> None:
    assert network_names() == ("yolov3", "yolov3-tiny")
    for name in network_names():
        assert kinds.load(name).libraries == ("ultralytics",)
    full, tiny = (code.deciding(kinds.module(name)) for name in network_names())
    assert set(tiny) - set(full) == {"detector.kinds.yolov3_tiny"}
    assert set(full) <= set(tiny)


@pytest.mark.slow
def test_neither_the_loop_nor_the_scores_know_ultralytics() -> None:
    told = (
        "import sys, detector.training, pipeline.scoring.scores, pipeline.stages.train_detector\n"
        "print('ultralytics' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
    naming = {
        path.relative_to(ROOT / "detector").as_posix()
        for path in (ROOT / "detector").rglob("*.py")
        if re.search(r"^\s*(from|import) ultralytics", path.read_text(), re.M)
    }
    assert naming == {"kinds/yolov3.py"}


def test_stage_tells_a_mistake_in_a_kinds_key_in_one_line(
    cells: DetectorParams, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        stage.valid(params.Detectors, {"depth": {**SECTION, "depth": 999}}, Path("p"), "detector")
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "p: detector.depth.depth = 999: Input should be less than or equal to 256"

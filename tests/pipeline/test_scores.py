"""Scores one can trust: paired intervals, no dependence on batches, a killed run goes on."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from itertools import product
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from torchmetrics.functional.image import structural_similarity_index_measure as reference_ssim

from base import weights
from detector import trained, training
from detector.boxes import Detections, Truth
from detector.metrics import mean_average_precision
from detector.trained import load as load_detector
from models import likelihoods
from models.params import Cell
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring import decoding, scores
from pipeline.scoring.bootstrap import bounds, copies
from pipeline.scoring.compared import pixel_errors
from pipeline.scoring.decoding import (
    Items,
    as_data,
    best_component,
    components,
    decode,
    keyed,
    sample,
)
from pipeline.scoring.faults import FAULTS, degrade
from pipeline.scoring.metrics import DETECTED, under_faults
from pipeline.scoring.mistakes import SURE, mistakes
from pipeline.scoring.params import ScoreParams
from pipeline.scoring.scores import agreement, scenes_of, summary
from pipeline.stages import score, score_faults, train_detector
from pipeline.stages import summary as pipeline_summary
from pipeline.study import ROOT as STUDY
from scenegen.dataset import open_dataset
from scenegen.manifest import MANIFEST
from scenegen.params import SENSORS as MODALITIES
from studies.shapes3d import judge as sights
from studies.shapes3d.judge import Judge
from tests.conftest import run
from tests.pipeline.test_stages import change

RESAMPLES = 200


@pytest.fixture(scope="module")
def judge(smoke: Path) -> Judge:
    """The smoke run's detectors before its test scenes."""
    dataset = open_dataset(smoke / "data/shapes3d")
    names = ("image", "depth", "radar")
    detectors = {m: load_detector(smoke / f"data/detectors/{m}.safetensors", "cpu") for m in names}
    scenes = scenes_of(dataset, "test", names)
    drawn = copies(len(scenes.numbers), RESAMPLES, 0)
    return Judge(detectors, scenes, len(dataset.classes), drawn)


def test_every_model_gets_the_same_resamples() -> None:
    drawn = copies(30, 500, 7)
    assert np.array_equal(drawn, copies(30, 500, 7))
    assert not np.array_equal(drawn[1:], copies(30, 500, 8)[1:])
    assert (drawn[0] == 1).all()
    assert (drawn.sum(1) == 30).all()
    assert drawn[1:].mean(0) == pytest.approx(np.ones(30), abs=0.2)
    assert drawn[1:].var() == pytest.approx(1 - 1 / 30, rel=0.05)  # binomial, as drawing is


@pytest.mark.parametrize("modality", ["image", "depth", "radar"])
def test_intervals_hold_the_figure_and_identical_models_do_not_differ(
    judge: Judge, modality: str
) -> None:
    seen = judge.scenes.seen[modality]
    found = judge.detect(modality, seen)
    once, again = (judge.score(modality, seen, found) for _ in range(2))
    assert 0.05 < once["map50"][0] < 0.95  # else the interval below shows nothing
    for name in ("map50", "map50_95"):
        low, high = bounds(once[name])
        assert low is not None
        assert high is not None
        assert low < once[name][0] < high
        assert bounds(once[name] - again[name]) == (0, 0)
    assert once["mse"][0] == 0
    assert once["ssim"][0] == pytest.approx(1)
    shown = summary(once)
    assert set(shown) == {*DETECTED, "ci"}
    defined = {name for name, values in once.items() if np.isfinite(values).all()}
    assert set(shown["ci"]) == defined
    assert {"map50", "map50_95", "map50_agnostic", "mse", "ssim", "count"} <= defined
    assert ("hue_background" in defined) == (modality == "image")  # the others have no colours


def test_figures_in_the_files_lie_within_their_intervals(smoke: Path) -> None:
    files = sorted((smoke / "data/bootstrap").glob("*.npz"))  # of this run; results/ is in git
    assert len(files) == 6
    for file in files:
        told = json.loads((smoke / f"results/scores/{file.stem}.json").read_text())
        entries = [e for row in told["subsets"].values() for e in row.values()]
        for entry in [*entries, *told["synergy"].values()]:
            assert {"map50", "mse", "ssim"} <= set(entry["ci"])
            for name, (low, high) in entry["ci"].items():
                assert low <= entry[name] <= high, (file, name)


def test_files_of_every_model_are_paired(smoke: Path) -> None:
    """One figure a resample, in every file, after the figure that the score file shows."""
    sizes = set()
    for file in (smoke / "data/bootstrap").glob("*.npz"):
        told = json.loads((smoke / f"results/scores/{file.stem}.json").read_text())
        with np.load(file) as arrays:
            sizes |= {len(arrays[name]) for name in arrays.files}
            for subset, row in [*told["subsets"].items(), ("synergy", told["synergy"])]:
                for target, entry in row.items():
                    for metric in DETECTED:
                        name = f"{subset}/{target}" + ("" if metric == "map50" else f"/{metric}")
                        if entry[metric] is None:  # of no colours, or of no sure detection
                            assert np.isnan(arrays[name][0])
                            continue
                        assert arrays[name][0] == pytest.approx(entry[metric], abs=1e-5)
                        assert list(bounds(arrays[name])) == pytest.approx(
                            entry["ci"][metric], abs=1e-5
                        )
    assert sizes == {1 + RESAMPLES}


@pytest.mark.parametrize("shape", [(3, 64, 64, 3), (300, 16, 24, 1), (2, 12, 40, 3)])
def test_pixel_errors_are_those_of_torchmetrics(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 256, shape, dtype=np.uint8)
    made = (seen * 0.7 + rng.integers(0, 77, shape)).astype(np.uint8)
    errors = pixel_errors(made, seen)
    x, y = (torch.from_numpy(v).movedim(-1, 1).double() / 255 for v in (made, seen))
    assert errors["mse"] == pytest.approx(((x - y) ** 2).mean((1, 2, 3)).numpy(), rel=1e-5)
    theirs = reference_ssim(x, y, data_range=1.0, reduction="none").numpy()
    assert errors["ssim"] == pytest.approx(theirs, abs=1e-6)
    assert errors["ssim"].std() > 0


LEFT, RIGHT = (4.0, 4.0, 9.0, 9.0), (20.0, 4.0, 29.0, 9.0)


def sure(*boxes: tuple[float, ...], score: float = 0.9) -> Detections:
    """Detections of class 0, each a little surer than the next."""
    scores = score - 0.01 * np.arange(len(boxes), dtype=np.float32)
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(corners, scores.astype(np.float32), np.zeros(len(boxes), np.int64))


def test_agreement_takes_what_is_surely_in_the_reference_for_the_truth() -> None:
    """Of two samples; the second shows one object more than its reference, and is less sure."""
    found = [sure(LEFT), sure(RIGHT, LEFT)]
    reference = [sure(LEFT, score=0.5), sure(RIGHT)]
    drawn = np.array([[1, 1], [2, 0]])
    told = agreement(found, reference, 1, drawn)
    assert told["map50"] == pytest.approx([1, 1])
    assert told["objects"] == pytest.approx([1, 1])
    # With the sample before for its truth: RIGHT first, LEFT in the second, at rank three of three.
    assert told["map50_chance"] == pytest.approx([(51 / 3) / 101, 0])
    assert np.isnan(agreement(found, [sure(LEFT, score=0.49)] * 2, 1, drawn)["map50"]).all()


def test_errors_of_a_resample_are_those_of_the_scenes_in_it() -> None:
    """Two scenes, of which one is made as it was seen; resamples with three of either."""
    seen = np.zeros((2, 16, 16, 1), np.uint8)
    scenes = Items(np.arange(2), {"depth": seen}, {"depth": [sure_truth(LEFT)] * 2})
    judge = Judge({}, scenes, 1, np.array([[1, 1], [3, 1], [0, 4]]))
    told = judge.score(
        "depth", seen + np.array([0, 51], np.uint8).reshape(2, 1, 1, 1), [sure()] * 2
    )
    assert told["mse"] == pytest.approx([0.02, 0.01, 0.04])
    low = told["ssim"][2]
    assert told["ssim"] == pytest.approx([(1 + low) / 2, (3 + low) / 4, low])
    assert low < 0.1


def sure_truth(*boxes: tuple[float, ...]) -> Truth:
    """Objects of class 0."""
    return sure(*boxes).boxes, sure(*boxes).classes


def test_draws_depend_on_the_seed_and_the_scene_alone() -> None:
    for whole, one, other in zip(*(keyed(s, np.array(n), 3) for s, n in (
        (0, [4, 9]), (0, [9]), (1, [9])
    )), strict=True):  # fmt: skip
        assert torch.equal(whole[1:], one)
        assert not torch.equal(one, other)
        assert not torch.equal(whole[:1], one)


def test_a_figure_is_shown_with_the_middle_of_its_resamples() -> None:
    figures = {"map50": np.append(0.3, np.linspace(0, 1, 1001)), "mse": np.array([0.123456])}
    assert summary(figures) == {"map50": 0.3, "mse": 0.12346, "ci": {"map50": [0.025, 0.975]}}


def test_agreement_is_whole_with_oneself_and_undefined_with_nothing(judge: Judge) -> None:
    seen = judge.scenes.seen["depth"]
    found = judge.detect("depth", seen)
    sure = [replace(d, scores=np.ones_like(d.scores)) for d in found]
    with_self = agreement(sure, sure, judge.n_classes, judge.copies)
    assert with_self["map50"] == pytest.approx(np.ones(1 + RESAMPLES))
    assert with_self["objects"][0] == pytest.approx(np.mean([len(d) for d in found]))
    none = [replace(d, scores=np.zeros_like(d.scores)) for d in found]
    undefined = agreement(found, none, judge.n_classes, judge.copies)
    assert np.isnan(undefined["map50"]).all()
    assert summary(undefined)["ci"] == {"objects": [0.0, 0.0]}
    assert summary(undefined)["map50"] is None


@pytest.mark.parametrize("cell", ["moe-none", "poe-ecg"])
def test_no_figure_depends_on_the_batch(
    smoke: Path, judge: Judge, cell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = MultimodalVAE.load(smoke / f"data/models/{cell}-0.safetensors", "cpu")
    made = []
    for batch in (256, 7):
        monkeypatch.setattr(decoding, "BATCH", batch)
        made.append(decode(vae, judge.scenes, ("image", "radar"), seed=0, point="sample"))
    for m in made[0]:
        # Sums of another order may round a pixel the other way.
        assert np.abs(made[0][m].astype(int) - made[1][m]).max() <= 1
        # With much of what the sensor saw: a model of forty steps alone shows no detector anything.
        pictures = [(0.7 * judge.scenes.seen[m] + 0.3 * x[m]).astype(np.uint8) for x in made]
        detector = judge.detectors[m]
        figures = [
            judge.score(m, x, detector.detect(x, batch))
            for x, batch in zip(pictures, (128, 7), strict=True)
        ]
        assert list(figures[0]) == list(DETECTED)
        for metric, values in figures[0].items():
            assert values == pytest.approx(figures[1][metric], abs=1e-3, nan_ok=True), metric
        assert figures[0]["map50"][0] > 0.03


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_no_severity_leaves_exactly_the_clean_score(
    smoke: Path, judge: Judge, kind: str
) -> None:
    vae = MultimodalVAE.load(smoke / "data/models/poe-ecg-0.safetensors", "cpu")
    scenes = judge.scenes
    clean = decode(vae, scenes, vae.modalities, seed=0)
    for severity, same in ((0.0, True), (1.0, False)):
        spoiled = degrade(kind, severity, "depth", scenes.seen["depth"], scenes.numbers, 0)
        faulty = replace(scenes, seen={**scenes.seen, "depth": spoiled})
        made = decode(vae, faulty, vae.modalities, seed=0)
        assert all(np.array_equal(made[m], clean[m]) for m in clean) == same


@pytest.mark.parametrize("modality", ["image", "depth", "radar"])
def test_a_detector_finds_objects_where_they_are_and_nowhere_else(
    smoke: Path, judge: Judge, modality: str
) -> None:
    """Its own pictures are the ceiling; what holds no object of the scene is far below."""
    seen, truths = judge.scenes.seen[modality], judge.scenes.truths[modality]
    found = judge.detect(modality, seen)

    def precision(detections: list[Detections], of: list[Truth] = truths) -> np.ndarray:
        return np.array(list(mean_average_precision(detections, of, judge.n_classes).values()))

    ceiling = precision(found)
    assert ceiling[2] > 0.2  # of one class, which five epochs teach all three
    for file in (smoke / "data/bootstrap").glob("*.npz"):
        told = json.loads((smoke / f"results/scores/{file.stem}.json").read_text())
        for row in [*told["subsets"].values(), told["synergy"]]:
            if entry := row.get(modality):
                figures = [entry[name] for name in ("map50", "map50_95", "map50_agnostic")]
                assert (np.array(figures) < ceiling).all(), file

    noise = np.random.default_rng(0).integers(0, 256, seen.shape, dtype=np.uint8)
    assert (precision(judge.detect(modality, noise)) < ceiling / 50).all()
    trained_on = open_dataset(smoke / "data/shapes3d").array(modality, "train")
    mean = np.broadcast_to(trained_on.mean(0).round().astype(np.uint8), seen.shape)
    assert (precision(judge.detect(modality, mean)) < ceiling / 5).all()
    shuffled = np.random.default_rng(0).permutation(len(truths))
    # So weak a detector is wrong often; tests/detector asks for less than a fifth.
    assert (precision(found, [truths[i] for i in shuffled]) < ceiling / 3).all()


def test_a_detector_sees_less_in_a_faulty_picture(judge: Judge) -> None:
    """The yardstick itself: what a fault does to a picture, mAP and SSIM show."""
    seen = judge.scenes.seen["radar"]
    clean = judge.score("radar", seen, judge.detect("radar", seen))
    shares = {}
    for kind in FAULTS:
        spoiled = degrade(kind, 1.0, "radar", seen, judge.scenes.numbers, 0)
        bad = judge.score("radar", spoiled, judge.detect("radar", spoiled))
        shares[kind] = bad["map50"][0] / clean["map50"][0]
        assert bad["ssim"][0] < 0.9, kind
    # So weak a detector may see through one kind of fault: through noise, 85 % in one run.
    assert max(shares.values()) < 1, shares
    assert sum(shares.values()) / len(shares) < 1 / 2, shares


def test_fault_scores_without_a_fault_are_the_tables(project: Path) -> None:
    """On as many scenes: all sensors clean as for synergy, one left out as in cross generation."""
    of = ("", "/map50_95", "/mse", "/ssim")
    params = project / "params.yaml"
    text = params.read_text()
    assert "scenes: 8 " in text
    kinds = "kinds: [noise, dead, frozen, shifted, blackout]"
    params.write_text(text.replace("scenes: 8 ", "scenes: 40 ").replace(kinds, "kinds: [frozen]"))
    run(project, "python", "-m", "pipeline.stages.score_faults", "moe-none-0")
    with (
        np.load(project / "data/faults/moe-none-0.npz") as faults,
        np.load(project / "data/bootstrap/moe-none-0.npz") as table,
    ):
        for target, metric in product(("image", "depth", "radar"), of):
            clean, without = (f"{name}/{target}{metric}" for name in ("synergy", "depth+radar"))
            assert np.array_equal(faults[f"clean/{target}{metric}"], table[clean].astype("f4"))
            assert np.array_equal(
                faults[f"without-image/{target}{metric}"], table[without].astype("f4")
            )
        assert faults["clean/image/ssim"][0] > 0


@pytest.fixture
def project(smoke: Path, tmp_path: Path) -> Path:
    """A copy of the finished smoke run, without git and DVC's cache, that a test may change."""
    ignore = shutil.ignore_patterns(".git", ".dvc", ".cache", ".venv")
    return Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True, ignore=ignore))


OUTPUTS = {
    "score": ("data/samples/{}.npz", "data/bootstrap/{}.npz", "results/scores/{}.json"),
    "score_faults": ("data/faults/{}.npz",),
}


@pytest.mark.parametrize("stage", OUTPUTS)
def test_a_killed_score_goes_on_and_ends_in_the_same_bytes(project: Path, stage: str) -> None:
    outputs = [project / path.format("moe-none-0") for path in OUTPUTS[stage]]
    before = [path.read_bytes() for path in outputs]
    for path in outputs:
        path.unlink()
    command = [sys.executable, "-m", f"pipeline.stages.{stage}", "moe-none-0"]
    first = subprocess.Popen(
        command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoints = project / ".cache/checkpoints"
    deadline = time.monotonic() + 120
    while len(list(checkpoints.rglob("*.checkpoint"))) < 2:
        assert first.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*.checkpoint")}
    assert kept
    assert not any(path.exists() for path in outputs)

    again = run(project, *command)
    assert f"{len(kept)} of" in again.stdout
    assert "finished before" in again.stdout
    assert re.search(r"moe-none-0: (\d+)/\1 parts, .* s left", again.stderr)  # progress
    assert [path.read_bytes() for path in outputs] == before
    assert not list(checkpoints.rglob("*.checkpoint"))


def test_parts_of_another_model_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    model.write_bytes(b"one")

    def parts(asked: dict[str, Any]) -> scores.Parts:
        return scores.Parts("score-x-0", asked, [model], 2)

    log = tmp_path / "made"  # parts are made in processes of their own

    def make() -> dict[str, np.ndarray]:
        with open(log, "a") as file:
            file.write("x")
        return {"value": np.float64(1 / 3)}

    def made() -> int:
        return len(log.read_text())

    assert parts({"seed": 0}).all({"a": make})["a"]["value"] == 1 / 3
    assert parts({"seed": 0}).all({"a": make})["a"]["value"] == 1 / 3
    assert made() == 1
    parts({"seed": 1}).all({"a": make})
    assert made() == 2
    model.write_bytes(b"two")
    last = parts({"seed": 1})
    last.all({"a": make})
    assert made() == 3
    monkeypatch.setattr(scores, "version", lambda name: f"another {name}")
    parts({"seed": 1}).all({"a": make})
    assert made() == 4
    monkeypatch.setattr(stage, "device", lambda: "cuda:7")
    last = parts({"seed": 1})
    last.all({"a": make})
    assert made() == 5
    assert len(list(Path(".cache/checkpoints").rglob("*.checkpoint"))) == 1
    with monkeypatch.context() as patched:
        patched.setattr(scores, "version", lambda asked: f"{asked == 'numpy'}")
        scores.Parts("score-x-0", {}, [], 1).all({"a": make})
        patched.setattr(scores, "version", lambda _: "False")
        assert scores.Parts("score-x-0", {}, [], 1).kept.names() == []
    scores.Parts("score-x-0", {}, [], 1).all({"a": make})
    monkeypatch.setattr(cv2, "__version__", "another")
    assert scores.Parts("score-x-0", {}, [], 1).kept.names() == []
    last.clear()
    assert not Path(".cache/checkpoints/score-x-0").exists()


def test_a_part_that_fails_keeps_those_made_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "made"
    log.touch()
    parts = scores.Parts("score-x-0", {}, [], 9)

    def make(number: int) -> dict[str, np.ndarray]:
        if number == 4:
            while not {"0", "1"} <= set(parts.kept.names()):
                time.sleep(0.01)
            raise OSError("disk full")
        with open(log, "a") as file:
            file.write(f"{number}\n")
        return {"value": np.float64(number)}

    with pytest.raises(OSError, match="disk full"):
        parts.all({f"{n}": partial(make, n) for n in range(9)})
    kept = set(parts.kept.names())
    assert {"0", "1"} <= kept
    made = log.read_text()
    found = scores.Parts("score-x-0", {}, [], 9).all({f"{n}": partial(make, n) for n in (1, 0)})
    assert {name: int(part["value"]) for name, part in found.items()} == {"1": 1, "0": 0}
    assert log.read_text() == made, "made anew"


def test_a_process_that_is_killed_is_one_line_and_loses_no_finished_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = scores.Parts("score-x-0", {}, [], 2)

    def make() -> dict[str, np.ndarray]:
        return {"value": np.float64(1)}

    def out_of_memory() -> dict[str, np.ndarray]:
        while "fine" not in parts.kept.names():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.raises(SystemExit) as left:
        parts.all({"fine": make, "killed": out_of_memory})
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert left.value.code == 2
    assert "a process was killed (out of memory?)" in capsys.readouterr().err
    assert parts.kept.names() == ["fine"]


def test_an_error_ends_the_processes_of_its_own_pool_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = get_context("fork").Process(target=time.sleep, args=(60,))
    other.start()

    def fails() -> dict[str, np.ndarray]:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        scores.Parts("score-x-0", {}, [], 1).all({"a": fails})
    assert active_children() == [other]
    assert gc.get_freeze_count() == 0
    other.terminate()
    other.join()


class Finds:
    """A detector that finds the objects of the first n scenes, n the value of the pictures."""

    def __init__(self, truths: list[Truth]) -> None:
        self._truths = truths

    def detect(self, pictures: np.ndarray) -> list[Detections]:
        n = int(pictures.flat[0])
        return [
            Detections(boxes[: i < n], np.ones(int(i < n), np.float32), classes[: i < n])
            for i, (boxes, classes) in enumerate(self._truths)
        ]


# Scenes found, of 8, by component and modality.
FOUND = {
    0: {"image": 8, "depth": 1, "radar": 2},
    1: {"image": 0, "depth": 5, "radar": 4},
    2: {"image": 1, "depth": 3, "radar": 7},
    3: {"image": 8, "depth": 0, "radar": 0},
}


@pytest.mark.parametrize(
    ("given", "live", "best"),
    [
        pytest.param(("image", "radar"), (0, 1, 2), 1, id="by the one that is missing"),
        pytest.param(("image",), (0, 1, 2), 2, id="by the mean of those that are missing"),
        pytest.param(("image", "radar"), (0, 2, 3), 2, id="of those alive"),
        pytest.param(("image", "depth", "radar"), (1, 3, 2, 0), 0, id="by all if none is missing"),
    ],
)
def test_the_best_component_has_the_best_precision_on_what_it_generates(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
    live: tuple[int, ...],
    best: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    truths = [(np.array([[4, 4, 9, 9]], np.float32), np.array([0]))] * 8
    names = ("image", "depth", "radar")
    seen = dict.fromkeys(names, np.zeros((8, 16, 16, 1), np.uint8))
    scenes = Items(np.arange(8), seen, dict.fromkeys(names, truths))
    judge = Judge(dict.fromkeys(names, Finds(truths)), scenes, 1, copies(8, 0, 0))

    def decode(seen: Items, asked: tuple[str, ...], *, component: int) -> dict[str, np.ndarray]:
        assert (seen, asked) == (scenes, given)
        found = FOUND[component]
        return {m: np.full((8, 16, 16, 1), found[m], np.uint8) for m in names}

    parts = scores.Parts("score-x-0", {}, [], len(live))
    tries = parts.all(
        {score.tried(given, c): partial(score.quality, decode, judge, given, c) for c in live}
    )
    chosen = best_component(live, lambda c: float(tries[score.tried(given, c)]["quality"]))
    assert chosen == best


def test_a_sensor_that_shows_no_object_has_no_say_in_the_choice() -> None:
    """Its mAP is not defined, whatever the component; the others decide."""
    truths = [(np.array([[4, 4, 9, 9]], np.float32), np.array([0]))] * 8
    nothing = [(np.empty((0, 4), np.float32), np.empty(0, int))] * 8
    names = ("image", "depth", "radar")
    seen = dict.fromkeys(names, np.zeros((8, 16, 16, 1), np.uint8))
    scenes = Items(np.arange(8), seen, {"image": truths, "depth": truths, "radar": nothing})
    judge = Judge(dict.fromkeys(names, Finds(truths)), scenes, 1, copies(8, 0, 0))

    def decode(seen: Items, asked: tuple[str, ...], *, component: int) -> dict[str, np.ndarray]:
        return {m: np.full((8, 16, 16, 1), FOUND[component][m], np.uint8) for m in names}

    live = (1, 0, 2)
    tries = {c: score.quality(decode, judge, names, c)["quality"] for c in live}
    assert best_component(live, lambda c: float(tries[c])) == 0


def test_a_mixture_crosses_by_a_component_a_scene_and_gains_by_its_best(smoke: Path) -> None:
    told = json.loads((smoke / "results/scores/moe-none-0.json").read_text())
    assert (told["cross_component"], told["synergy_component"]) == ("drawn", "best")
    # Given all sensors, the component of one decodes what it decodes given that sensor alone.
    best, drawn = told["component"], told["subsets"]["image+depth+radar"]
    for m in ("image", "depth", "radar"):
        assert told["synergy"][m] == told["subsets"][best][m]
    assert told["synergy"]["image"]["mse"] != drawn["image"]["mse"]

    with np.load(smoke / "data/samples/moe-none-0.npz") as pictures:
        uniforms = keyed(0, pictures["scenes"], 1)[0][:, 0].numpy()
        for given in (("image", "depth"), ("image", "radar"), ("depth", "radar")):
            index = (uniforms * len(given)).astype(int)
            assert set(index) == {0, 1}
            for target in ("image", "depth", "radar"):
                alone = np.stack([pictures[f"{g}/{target}"] for g in given]).astype(int)
                made = pictures[f"{'+'.join(given)}/{target}"].astype(int)
                rows = np.arange(len(made))
                # Sums of another order may round a pixel the other way.
                assert np.abs(made - alone[index, rows]).max() <= 1
            off = np.abs(made - alone[1 - index, rows]).max((1, 2, 3))
            assert np.median(off) > 1, "components alike: the choice would not show"


@pytest.fixture
def quick(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy as working directory, with little to score: the table of eight scenes."""
    monkeypatch.chdir(project)
    for key, value in {"scenes": 8, "subsets": "table", "samples": 0, "resamples": 100}.items():
        change(project, f"score.{key}", value)
    return project


def test_bytes_are_the_pictures_channel_by_channel() -> None:
    made = torch.tensor([[[[0.0, 1.0]], [[0.5, -3.0]], [[0.2, 7.0]]]])  # [1, C = 3, H = 1, W = 2]
    assert as_data(made).tolist() == [[[[0, 128, 51], [255, 0, 255]]]]


def test_samples_of_the_prior_agree_when_both_modalities_show_the_same_objects(
    judge: Judge, smoke: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sensors stand in for samples: of the same scenes they agree, of others they do not."""
    vae = MultimodalVAE.load(smoke / "data/models/poe-none-0.safetensors", "cpu")
    names = ("image", "depth")
    params = stage.section("score", ScoreParams, smoke / "params.yaml")
    monkeypatch.setattr(scores, "SURE", 0.1)  # the smoke run's detectors are never sure
    asked: list[int] = []

    def sensors(shift: int) -> Any:
        def sampled(_: Any, of: Any, count: int, seed: int) -> dict[str, np.ndarray]:
            asked.append(count)
            assert (of, seed) == (names, params.seed)
            seen = judge.scenes.seen
            return {m: np.roll(seen[m][:count], shift * (m == "depth"), 0) for m in names}

        return sampled

    found = []
    for shift in (0, 1):
        monkeypatch.setattr(sights, "sample", sensors(shift))
        found.append(judge.joint(vae, params.model_copy(update={"samples": 40})))
    assert asked == [40, 40]
    same, other = (joint["map50"][0] for joint in found)
    assert same > 2 * other
    # What other scenes agree by chance is told beside it: here the depth of the scene before.
    assert found[0]["map50_chance"] == pytest.approx(found[1]["map50"])
    depth = judge.detect("depth", judge.scenes.seen["depth"][:40])
    sure = sum(int((d.scores >= 0.1).sum()) for d in depth)
    assert found[0]["objects"][0] == pytest.approx(sure / 40)
    for m in names:  # the first 40 of its scenes, whatever their order
        assert found[0][f"diversity_{m}"] == pytest.approx(found[1][f"diversity_{m}"])
        assert found[0][f"diversity_{m}"][0] == pytest.approx(1, abs=0.2)


def test_the_likelihood_is_of_the_first_scenes_with_the_samples_it_states(smoke: Path) -> None:
    told = json.loads((smoke / "results/scores/poe-ecg-0.json").read_text())["likelihood"]
    vae = MultimodalVAE.load(smoke / "data/models/poe-ecg-0.safetensors", "cpu")
    dataset, count = open_dataset(smoke / "data/shapes3d"), told["scenes"]
    x = {m: torch.from_numpy(dataset.array(m, "test", count)) for m in MODALITIES}

    def estimated(samples: int) -> float:
        generator = torch.Generator().manual_seed(0)
        return float(vae.log_likelihood(x, samples, generator).double().mean())

    assert count == 32
    assert told["log_likelihood"] == pytest.approx(estimated(told["samples"]), rel=1e-5)
    low, high = told["ci"]["log_likelihood"]
    assert low < told["log_likelihood"] < high
    assert estimated(1) < told["log_likelihood"] < estimated(100)  # too low, less so with more


def test_samples_of_the_prior_are_keyed_by_their_number(
    smoke: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae = MultimodalVAE.load(smoke / "data/models/poe-none-0.safetensors", "cpu")
    whole = sample(vae, ("image", "radar"), 30, seed=0)
    assert {m: x.shape[0] for m, x in whole.items()} == {"image": 30, "radar": 30}
    z = keyed(0, np.array([29]), vae.params.latent)[1]
    with torch.inference_mode():
        last = likelihoods.expected(vae.params.modalities["radar"], vae.decode("radar", z))
    assert np.abs(as_data(last).astype(int) - whole["radar"][29:]).max() <= 1
    monkeypatch.setattr(decoding, "BATCH", 7)
    fewer = sample(vae, ("image", "radar"), 20, seed=0)
    for m, x in fewer.items():
        # Sums of another order may round a pixel the other way.
        assert np.abs(x.astype(int) - whole[m][:20]).max() <= 1
    assert not np.array_equal(sample(vae, ("image",), 20, seed=1)["image"], fewer["image"])


@pytest.mark.parametrize("module", [score, score_faults])
def test_parts_stand_for_all_that_they_are_made_of(
    quick: Path, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    """A resumed score may not mix parts of two detectors, models or datasets."""

    class EnoughError(Exception):
        pass

    def listed(name: str, asked: dict[str, Any], files: list[Path], total: int) -> None:
        detectors = {scores.detector_file(m) for m in MODALITIES}
        model = Run("poe-none", 0).model(stage.DATA)
        assert set(files) == {model, *detectors, stage.DATASET / MANIFEST}
        assert all(path.is_file() for path in files)
        raise EnoughError

    monkeypatch.setattr(module, "Parts", listed)
    with pytest.raises(EnoughError):
        module.main(*([STUDY] if module is score else []), Run("poe-none", 0))


def test_a_detector_learns_on_the_training_split_and_is_reported_on_the_others(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(stage.DATASET)
    given: list[Any] = []

    before = json.loads((quick / "results/detectors/radar.json").read_text())

    def watched(*arrays: Any, **_: Any) -> dict[str, float]:
        given.extend(arrays[:4])
        return {**before["validation"], "train_seconds": 1.0}

    monkeypatch.setattr(training, "train", watched)
    train_detector.main("radar")
    for split, pictures, boxes in zip(
        ("train", "validation"), given[::2], given[1::2], strict=True
    ):
        assert np.array_equal(pictures, dataset.array("radar", split))
        for one, other in zip(boxes, dataset.boxes("radar", split), strict=True):
            assert all(map(np.array_equal, one, other))
    told = json.loads((quick / "results/detectors/radar.json").read_text())
    detector = load_detector(scores.detector_file("radar"))
    for split in ("validation", "test"):
        found = detector.detect(dataset.array("radar", split))
        truths = dataset.boxes("radar", split)
        again = mean_average_precision(found, truths, len(dataset.classes))
        assert told[split] == pytest.approx(again)
        assert told[split] == pytest.approx(before[split], abs=1e-6)
    assert told["validation"] != told["test"]


@pytest.mark.parametrize("synergy", ["best", "drawn"])
@pytest.mark.parametrize("cross", ["best", "drawn"])
def test_the_table_decodes_the_components_that_the_matrix_does(
    quick: Path, cross: str, synergy: str
) -> None:
    change(quick, "score.cross_component", cross)
    change(quick, "score.synergy_component", synergy)
    score.main(STUDY, Run("moe-none", 0))
    table = json.loads((quick / "results/scores/moe-none-0.json").read_text())
    change(quick, "score.subsets", "all")
    score.main(STUDY, Run("moe-none", 0))
    told = json.loads((quick / "results/scores/moe-none-0.json").read_text())
    everything = "+".join(told["modalities"])
    assert (table["component"] is None) == (synergy == "drawn")
    assert table["component"] == told["component"]
    assert table["synergy"] == told["synergy"] == table["subsets"].pop(everything)
    assert (told["synergy"] == told["subsets"][everything]) == (cross == synergy)
    for subset, row in table["subsets"].items():
        assert row == {m: told["subsets"][subset][m] for m in row}
        assert table["components"].get(subset) == told["components"].get(subset)


def test_every_faulty_condition_spoils_its_sensor_alone(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a VAE that hands on what it is given, and nothing of what it is not."""

    def handed_on(vae: MultimodalVAE, scenes: Items, given: Any, **_: Any) -> dict[str, np.ndarray]:
        return {m: scenes.seen[m] * np.uint8(m in given) for m in vae.modalities}

    monkeypatch.setattr(score_faults, "decode", handed_on)
    score_faults.main(Run("poe-none", 0))
    dataset, names = open_dataset(stage.DATASET), MODALITIES
    faults = stage.section("score", ScoreParams).faults
    scenes = scenes_of(dataset, "test", names, faults.scenes)
    detectors = {m: load_detector(scores.detector_file(m)) for m in names}

    def expected(modality: str, pictures: np.ndarray) -> float:
        found = detectors[modality].detect(pictures)
        truths = scenes.truths[modality]
        return mean_average_precision(found, truths, len(dataset.classes))["map50"]

    clean = {m: expected(m, scenes.seen[m]) for m in names}
    nothing = {m: expected(m, 0 * scenes.seen[m]) for m in names}
    with np.load(quick / "data/faults/poe-none-0.npz") as file:
        told = {
            name: float(file[name][0])
            for name in file.files
            if not name.startswith(("auto-", "detect-"))  # what the model does about it
        }
    for metric in under_faults(DETECTED, "map50").keys() - {"map50"}:
        for name in [name for name in told if name.endswith(f"/{metric}")]:
            value = told.pop(name)
            of_pixels = metric in ("mse", "ssim", "hue_background")
            assert (
                not of_pixels or name.split("/")[0] != "clean" or value in (0, 1) or value != value
            )
    for m in names:
        assert told.pop(f"clean/{m}") == pytest.approx(clean[m])
    for sensor in names:
        for m in names:
            left = nothing[m] if m == sensor else clean[m]
            assert told.pop(f"without-{sensor}/{m}") == pytest.approx(left)
    moved = set()
    for sensor, kind, severity in product(names, faults.kinds, faults.severities):
        spoiled = degrade(kind, severity, sensor, scenes.seen[sensor], scenes.numbers, 0)
        worse = expected(sensor, spoiled)
        moved.add(round(worse, 4))
        for m in names:
            value = told.pop(f"{sensor}/{kind}/{severity}/{m}")
            assert value == pytest.approx(worse if m == sensor else clean[m]), (sensor, kind, m)
    assert not told
    assert len(moved) > 10, "faults alike: one taken for another would not show"


def test_the_best_component_is_chosen_on_validation(
    quick: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "chosen-on"  # written by the processes that try a component
    real = score.quality

    def watched(decode: Any, judge: Judge, given: Any, component: int) -> dict[str, np.ndarray]:
        assert given == MODALITIES  # for the synergy; the rest is drawn
        with open(log, "a") as file:
            file.write(f"{judge.scenes.numbers.tolist()}\n")
        return real(decode, judge, given, component)

    monkeypatch.setattr(score, "quality", watched)
    held_out = open_dataset(stage.DATASET).scenes("validation")
    for asked in (10, 10_000):
        log.write_text("")
        change(quick, "score.choosing", asked)
        score.main(STUDY, Run("moe-none", 0))
        assert log.read_text() == 3 * f"{held_out[:asked].tolist()}\n"
        told = json.loads((quick / "results/scores/moe-none-0.json").read_text())
        assert told["choosing"] == min(asked, len(held_out))
    assert 10 < len(held_out) < 10_000


def test_a_unimodal_vae_stands_beside_what_its_sensor_shows(smoke: Path, judge: Judge) -> None:
    """The ceiling is on the scenes of the score and on the same resamples."""
    for m in judge.detectors:
        told = json.loads((smoke / f"results/scores/{m}-0.json").read_text())
        scenes = scenes_of(open_dataset(smoke / "data/shapes3d"), "test", [m], told["scenes"])
        judge = replace(judge, scenes=scenes, copies=copies(told["scenes"], RESAMPLES, 0))
        found = judge.detect(m, scenes.seen[m])
        expected = mean_average_precision(found, scenes.truths[m], judge.n_classes)
        for name, value in expected.items():
            assert told["ceiling"][m][name] == pytest.approx(value, abs=1e-5)
        with np.load(smoke / f"data/bootstrap/{m}-0.npz") as file:
            assert file[f"ceiling/{m}"] == pytest.approx(
                judge.score(m, scenes.seen[m], found)["map50"]
            )
    fused = json.loads((smoke / "results/scores/poe-none-0.json").read_text())
    assert fused["ceiling"] is None


@pytest.mark.parametrize("run", ["poe-none-0", "radar-0"])
@pytest.mark.parametrize("other", ["moe-none-0", "image-0"])
def test_a_model_of_another_cell_under_this_name_is_one_line(
    run: str, other: str, quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = quick / "data/models"
    shutil.copy(models / f"{other}.safetensors", models / f"{run}.safetensors")
    with pytest.raises(SystemExit, match="2"):
        score.main(STUDY, Run.parse(run))
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"data/models/{run}.safetensors: is of another cell")


@pytest.mark.parametrize("content", ["{}", "[]", "null"])
@pytest.mark.parametrize("kind", ["scores", "models"])
def test_a_result_that_holds_something_else_is_one_line(
    kind: str, content: str, quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = quick / f"results/{kind}/poe-none-0.json"
    path.write_text(content)
    readers = [lambda: score.cost(STUDY, Run("poe-none", 0))]
    if kind == "scores":
        readers = [
            lambda: score_faults.main(Run("poe-none", 0)),
            lambda: pipeline_summary.main(STUDY),
        ]
    for read in readers:
        with pytest.raises(SystemExit, match="2"):
            read()
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith(f"results/{kind}/poe-none-0.json: cannot be read")


def test_a_detector_of_other_classes_is_one_line(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = quick / "data/detectors/depth.safetensors"
    config, content = weights.read(path, trained.FORMAT)
    save = partial(safetensors.torch.save, safetensors.torch.load(content))
    classes = config["classes"][::-1]
    path.write_bytes(weights.sealed(save, trained.FORMAT, {**config, "classes": classes}))
    with pytest.raises(SystemExit, match="2"):
        score.main(STUDY, Run("poe-none", 0))
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"data/detectors/depth.safetensors: knows {', '.join(classes)}, not")


def test_rce_draws_an_expert_for_every_element(quick: Path) -> None:
    trained = MultimodalVAE.load(quick / "data/models/poe-none-0.safetensors", "cpu")
    vae = MultimodalVAE(trained.params, Cell(fusion="rce", objective="none"), trained.shapes)
    vae.load_state_dict(trained.state_dict())
    vae.eval().save(quick / "data/models/rce-none-0.safetensors")
    change(quick, "grid.cells.rce-none", {"fusion": "rce", "objective": "none"})
    shutil.copy(quick / "results/models/poe-none-0.json", quick / "results/models/rce-none-0.json")
    score.main(STUDY, Run("rce-none", 0))
    told = json.loads((quick / "results/scores/rce-none-0.json").read_text())
    assert (told["drawn_per_element"], told["mixture"], told["choosing"]) == (True, False, None)
    scenes = scenes_of(open_dataset(stage.DATASET), "test", vae.modalities, 8)
    with np.load(quick / "data/samples/rce-none-0.npz") as kept:
        again = decode(vae, scenes, ("depth", "radar"), seed=0)
        assert np.abs(kept["depth+radar/image"].astype(int) - again["image"]).max() <= 1
    drawn = decode(vae, scenes, ("depth", "radar"), seed=1)
    assert not np.array_equal(drawn["image"], again["image"])
    fused = json.loads((quick / "results/scores/poe-none-0.json").read_text())
    assert fused["drawn_per_element"] is False


def test_lcd_is_scored_with_the_prior_for_a_missing_sensor_too(quick: Path) -> None:
    trained = MultimodalVAE.load(quick / "data/models/poe-none-0.safetensors", "cpu")
    vae = MultimodalVAE(trained.params, Cell(fusion="poe", objective="lcd"), trained.shapes)
    vae.load_state_dict(trained.state_dict())
    with torch.no_grad():
        for expert in vae.experts:
            # Forty steps leave narrow experts that say little, which no prior would move.
            for values in (expert.head.weight, expert.head.bias):
                mean, log_var = values.chunk(2)
                mean.mul_(100)
                log_var.zero_()
    vae.eval().save(quick / "data/models/poe-lcd-0.safetensors")
    change(quick, "grid.cells.poe-lcd", {"fusion": "poe", "objective": "lcd"})
    change(quick, "score.subsets", "all")
    shutil.copy(quick / "results/models/poe-none-0.json", quick / "results/models/poe-lcd-0.json")
    score.main(STUDY, Run("poe-lcd", 0))
    told = json.loads((quick / "results/scores/poe-lcd-0.json").read_text())
    as_prior, names = told["subsets_missing_as_prior"], vae.modalities
    assert set(as_prior) == {"image+depth", "image+radar", "depth+radar"}
    scenes = scenes_of(open_dataset(stage.DATASET), "test", names, 8)
    moved = []
    for subset, row in as_prior.items():
        seen = {m: torch.from_numpy(scenes.seen[m]) for m in subset.split("+")}
        (target,) = set(names) - set(seen)
        assert list(row) == [target]  # what such a sensor gives of itself is no cross generation
        with torch.inference_mode():
            posterior = vae.posterior(seen)
            # A standard normal expert more: precision 1 at 0.
            precision = 1 / posterior.var[0, 0]
            z = posterior.mean[0, 0] * precision / (precision + 1)
            decoded = likelihoods.expected(vae.params.modalities[target], vae.decode(target, z))
            made = as_data(decoded)
        expected = pixel_errors(made, scenes.seen[target])
        absent = told["subsets"][subset][target]
        for name in ("mse", "ssim"):
            assert row[target][name] == pytest.approx(expected[name].mean(), abs=1e-4)
        moved.append(abs(row[target]["mse"] - absent["mse"]))
    with np.load(quick / "data/bootstrap/poe-lcd-0.npz") as file:
        for subset, row in as_prior.items():
            (target,) = row
            for metric in ("map50", "mse"):
                of = f"{subset}/{target}" + ("" if metric == "map50" else f"/{metric}")
                gap = file[f"prior-{of}"] - file[of]
                shown = told["prior_minus_absent"][subset][target]
                assert shown[metric] == pytest.approx(gap[0], abs=1e-5)
                assert shown["ci"][metric] == pytest.approx(list(bounds(gap)), abs=1e-5)
    fused = json.loads((quick / "results/scores/poe-none-0.json").read_text())
    assert fused["prior_minus_absent"] is None
    # A decoder of forty steps may paint one picture whatever it is given; not all of them do.
    assert max(moved) > 5e-4


def test_which_component_of_a_mixture_is_decoded_is_a_choice(project: Path) -> None:
    params = project / "params.yaml"
    text = params.read_text().replace("cross_component: drawn", "cross_component: best")
    params.write_text(text.replace("synergy_component: best", "synergy_component: drawn"))
    run(project, "python", "-m", "pipeline.stages.score", "moe-none-0")
    told = json.loads((project / "results/scores/moe-none-0.json").read_text())
    assert (told["cross_component"], told["synergy_component"]) == ("best", "drawn")
    assert told["component"] is None
    pairs = {subset for subset in told["subsets"] if "+" in subset}
    assert set(told["components"]) == pairs
    assert all(component in subset for subset, component in told["components"].items())
    assert told["synergy"] != told["subsets"]["+".join(told["modalities"])]


@pytest.mark.parametrize("cell", ["poe-ecg-0", "moe-none-0"])
def test_the_tables_columns_alone_are_the_same_figures(project: Path, cell: str) -> None:
    """`subsets: table` scores one entry per column, and the report does without the rest."""
    before = json.loads((project / f"results/scores/{cell}.json").read_text())
    table = (project / "results/table3.csv").read_bytes()
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("subsets: all ", "subsets: table "))
    run(project, "python", "-m", "pipeline.stages.score", cell)
    told = json.loads((project / f"results/scores/{cell}.json").read_text())
    asked = {subset: set(row) for subset, row in told["subsets"].items()}
    assert asked == {
        "image+depth": {"radar"},
        "image+radar": {"depth"},
        "depth+radar": {"image"},
        "image+depth+radar": {"image", "depth", "radar"},
    }
    everything = "+".join(told["modalities"])
    for subset, row in told["subsets"].items():
        # What a mixture makes of all sensors, the table shows by its best component.
        whole = before["synergy"] if subset == everything else before["subsets"][subset]
        assert row == {m: whole[m] for m in row}
    assert told["synergy"] == before["synergy"]
    assert told["components"] == ({everything: told["component"]} if told["mixture"] else {})
    run(project, "python", "-m", "pipeline.stages.report")
    assert (project / "results/table3.csv").read_bytes() == table


def test_components_alive_are_those_of_the_sensors_given(smoke: Path, judge: Judge) -> None:
    vae = MultimodalVAE.load(smoke / "data/models/moe-none-0.safetensors", "cpu")
    assert components(vae, judge.scenes, ("image", "radar")) == [0, 2]
    assert components(vae, judge.scenes, vae.modalities) == [0, 1, 2]
    poe = MultimodalVAE.load(smoke / "data/models/poe-none-0.safetensors", "cpu")
    assert components(poe, judge.scenes, ("image",)) == [0]


def test_the_worst_scene_is_that_with_most_missed_or_made_up() -> None:
    box, far = [1.0, 1.0, 9.0, 9.0], [20.0, 20.0, 30.0, 30.0]

    def objects(*boxes: list[float]) -> Truth:
        return np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64)

    def found(sure: float, *boxes: list[float]) -> Detections:
        return Detections(
            objects(*boxes)[0], np.full(len(boxes), sure, np.float32), objects(*boxes)[1]
        )

    truths = [objects(box), objects(box, far), objects(box), objects(box)]
    missed_two = [found(0.9, box), found(0.4, box, far), found(0.9, far), found(0.9, box)]
    worst, wrong = sights.worst_scene(missed_two, truths)
    assert (worst, wrong.tolist()) == (1, [2, 0])  # as many as in scene 2, which comes later
    made_up = [*missed_two[:3], found(0.9, *[far] * (sights.BOXES + 3))]
    worst, wrong = sights.worst_scene(made_up, truths)
    assert (worst, wrong.tolist()) == (3, [1, sights.BOXES + 3])  # more than are kept to be drawn


def test_the_worst_scene_kept_is_the_worst_of_all_scored(smoke: Path) -> None:
    """What is shown as the worst has at least the mistakes of every scene whose boxes are kept."""
    dataset = open_dataset(smoke / "data/shapes3d")
    truths = dict(zip(dataset.scenes("test"), dataset.boxes("image", "test"), strict=True))
    with np.load(smoke / "data/samples/poe-ecg-0.npz") as file:
        of = "depth+radar/image"
        kept = [(file["scenes"], file[f"{of}/boxes"])]
        kept += [(file[f"{of}/worst-scene"], file[f"{of}/worst-boxes"])]
        [[missed, false]] = file[f"{of}/worst-mistakes"]

    def count(scene: int, boxes: np.ndarray) -> int:
        sure = boxes[boxes[:, 4] >= SURE][:, [0, 1, 2, 3, 5]]
        return sum(mistakes(sure, np.column_stack(truths[scene])))

    [few, [worst]] = [[count(*row) for row in zip(*rows, strict=True)] for rows in kept]
    assert missed + false >= worst >= max(few)
    assert worst > 0


def test_only_the_test_split_is_scored(smoke: Path) -> None:
    numbers = np.load(smoke / "data/samples/poe-none-0.npz")["scenes"]
    assert (numbers % 5 == 4).all()

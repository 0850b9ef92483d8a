"""Which scenes a stage reads, by their numbers, in a tiny run of the real stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from detector import trained, training
from models.training import train
from models.vae import MultimodalVAE
from pipeline import presets
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.scores import Judge, scenes_of
from pipeline.stages import score, score_faults, train_detector, train_vae
from pipeline.study import ROOT as STUDY
from scenegen.dataset import open_dataset
from scenegen.generate import render_dataset
from scenegen.params import SENSORS as MODALITIES
from scenegen.params import SceneParams
from studies.shapes3d import judge as sights
from tests.conftest import shipped

pytestmark = pytest.mark.slow

TEST = [k for k in range(60) if k % 5 == 4]
VALIDATION = [0, 20, 40]
TRAIN = [k for k in range(60) if k % 5 != 4 and k % 20 != 0]
NUMBERS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
PRESET = """
scenes:
  count: 60
  shard_size: 25
  image: {width: 32, height: 32, samples: 1}
  radar: {width: 32, height: 32}
detector:
  default: {network: yolov3-tiny, width_multiple: 0.0625, image_size: 64, epochs: 0.1, batch: 4}
vae:
  latent: 4
  network: {kind: residual, width: 4, blocks: 1}
  training: {steps: 4, batch: 4, warmup: 1, log_every: 2, threads: 1}
grid: {cells: {moe-none: {fusion: moe, objective: none}}, seeds: [0]}
score: {scenes: 9, choosing: 2, subsets: table, samples: 0, resamples: 100, faults: {scenes: 7}}
"""

Recorded = list[tuple[Any, ...]]


class Tiny(NamedTuple):
    """What lies on the disk, and what the stages handed on."""

    records: np.ndarray
    vaes: Recorded
    detectors: Recorded
    judged: Recorded
    calibrated: Recorded

    def seen(self, modality: str, numbers: list[int]) -> np.ndarray:
        """Pictures uint8 [N, H, W, C] of scenes, from the shards themselves."""
        stored = self.records[modality][numbers]
        stored = np.rint(stored / 257).astype(np.uint8) if modality == "depth" else stored
        return stored if modality == "image" else stored[..., None]

    def boxes(self, modality: str, numbers: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Boxes and labels of scenes, from the shards themselves."""
        of = "radar_" if modality == "radar" else ""
        return [
            (record[f"{of}box"][there], record["label"][there])
            for record in self.records[numbers]
            for there in [record[f"has_{of}box"]]
        ]


def _watched(function: Callable[..., Any], into: Recorded) -> Callable[..., Any]:
    def call(*given: Any, **options: Any) -> Any:
        into.append(given)
        return function(*given, **options)

    return call


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """Sixty scenes, and every stage that reads them, in seconds."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(PRESET)
    params = presets.render("tiny", shipped("params.yaml"), folder)
    (folder / "params.yaml").write_text(params)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DEVICE", "cpu")
        render_dataset(stage.section("scenes", SceneParams), stage.DATASET, workers=1)
        files = sorted(stage.DATASET.glob("shard-*.npy"))
        made = Tiny(np.concatenate([np.load(file) for file in files]), [], [], [], [])
        patch.setattr(train_vae, "train", _watched(train, made.vaes))
        train_vae.main(STUDY, Run("moe-none", 0))
        patch.setattr(training, "train", _watched(training.train, made.detectors))
        patch.setattr(trained.Detector, "detect", _watched(trained.Detector.detect, made.detectors))
        precision = _watched(train_detector.mean_average_precision, made.detectors)
        patch.setattr(train_detector, "mean_average_precision", precision)
        for modality in MODALITIES:
            train_detector.main(modality)
        log = folder / "log"  # written by the processes that score
        for owner, name in ((score, "quality"), (sights.Judge, "part")):
            patch.setattr(owner, name, _logged(getattr(owner, name), log))
        score.main(STUDY, Run("moe-none", 0))
        made.judged.extend(line.split(": ") for line in sorted(set(log.read_text().splitlines())))
        patch.setattr(score_faults, "Judge", _watched(Judge, made.judged))
        model = Run("moe-none", 0).model(STUDY.data)
        vae = MultimodalVAE.load(model)
        vae.calibration = None
        vae.save(model)  # as an older one
        calibrate = _watched(MultimodalVAE.calibrate, made.calibrated)
        patch.setattr(MultimodalVAE, "calibrate", calibrate)
        score_faults.main(Run("moe-none", 0))
        yield made


def _logged(function: Callable[..., Any], log: Path) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        (judge,) = (one for one in given if isinstance(one, Judge))
        with open(log, "a") as file:
            file.write(f"{function.__name__}: {judge.scenes.numbers.tolist()}\n")
        return function(*given)

    return call


def test_a_vae_learns_on_the_training_split_and_is_measured_on_validation(tiny: Tiny) -> None:
    [(_, _, *arrays)] = tiny.vaes
    for given, numbers in zip(arrays, (TRAIN, VALIDATION), strict=True):
        assert list(given) == list(MODALITIES)
        for modality, array in given.items():
            np.testing.assert_array_equal(array, tiny.seen(modality, numbers))


def test_an_older_vae_is_calibrated_on_validation_scenes_before_it_is_scored(tiny: Tiny) -> None:
    [(_, clean, _)] = tiny.calibrated
    assert list(clean) == list(MODALITIES)
    for modality, pictures in clean.items():
        np.testing.assert_array_equal(pictures.numpy(), tiny.seen(modality, VALIDATION))


def test_a_detector_learns_on_the_training_split_and_is_reported_on_the_others(tiny: Tiny) -> None:
    # Of each: what it learns from, then the pictures and boxes of both reports.
    calls = zip(*[iter(tiny.detectors)] * 4, strict=True)
    for modality, (learns, validates, detects, reports) in zip(MODALITIES, calls, strict=True):
        for images, numbers in (
            (learns[0], TRAIN),
            (learns[2], VALIDATION),
            (validates[1], VALIDATION),
            (detects[1], TEST),
        ):
            np.testing.assert_array_equal(images, tiny.seen(modality, numbers))
        for boxes, numbers in ((learns[1], TRAIN), (learns[3], VALIDATION), (reports[1], TEST)):
            for found, there in zip(boxes, tiny.boxes(modality, numbers), strict=True):
                assert all(map(np.array_equal, found, there))


def test_scores_are_of_the_first_test_scenes_and_components_of_validation(tiny: Tiny) -> None:
    judged, tried, (_, faulty, *_) = tiny.judged
    assert tried == ["quality", str(VALIDATION[:2])]
    assert judged == ["part", str(TEST[:9])]
    assert faulty.numbers.tolist() == TEST[:7]


@pytest.mark.parametrize("split", NUMBERS)
def test_what_is_judged_is_what_the_sensors_saw_of_these_scenes(tiny: Tiny, split: str) -> None:
    scenes, numbers = scenes_of(open_dataset(stage.DATASET), split, MODALITIES, 3), NUMBERS
    assert scenes.numbers.tolist() == numbers[split][:3]
    for modality in MODALITIES:
        seen = tiny.seen(modality, numbers[split][:3])
        np.testing.assert_array_equal(scenes.seen[modality], seen)
        there = tiny.boxes(modality, numbers[split][:3])
        for truth, boxes in zip(scenes.truths[modality], there, strict=True):
            assert all(map(np.array_equal, truth, boxes))

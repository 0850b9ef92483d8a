"""mAP against numbers worked out by hand and against a second implementation."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tracemalloc

import numpy as np
import pytest
import torch
from torchmetrics.detection._mean_ap import MeanAveragePrecision as SecondImplementation

from detector import metrics
from detector.boxes import Detections, Truth
from detector.metrics import Matches, _evaluate, match, mean_average_precision
from tests.detector.drawn import draw, found, truth

A = (10.0, 10.0, 20.0, 20.0)
B = (30.0, 30.0, 50.0, 50.0)
HALF = (10.0, 10.0, 20.0, 15.0)  # half of A: an overlap of exactly 0.5
LESS = (10.0, 10.0, 20.0, 14.9)
FAR = (0.0, 50.0, 8.0, 60.0)
# 51 of the 101 recall levels (0 .. 0.5) are reached when one of two boxes is found
ONE_OF_TWO = 51 / 101


@pytest.mark.parametrize(
    ("detections", "truths", "map50", "agnostic"),
    [
        pytest.param([found((*A, 0, 0.9))], [truth((*A, 0))], 1, 1, id="perfect"),
        pytest.param([found()], [truth((*A, 0))], 0, 0, id="no detections"),
        pytest.param([found((*A, 0, 0.9))], [truth()], None, None, id="no objects at all"),
        pytest.param([found()], [truth()], None, None, id="nothing"),
        pytest.param([], [], None, None, id="no pictures"),
        pytest.param(
            [found((*A, 0, 0.9), (*A, 0, 0.8))], [truth((*A, 0))], 1, 1, id="duplicate, later"
        ),
        pytest.param(
            [found((*A, 0, 0.9), (*A, 0, 0.8), (*B, 0, 0.7))],
            [truth((*A, 0), (*B, 0))],
            (51 + 50 * 2 / 3) / 101,
            (51 + 50 * 2 / 3) / 101,
            id="duplicate between two hits",
        ),
        pytest.param(
            [found((*FAR, 0, 0.9), (*A, 0, 0.8))], [truth((*A, 0))], 0.5, 0.5, id="miss, then hit"
        ),
        pytest.param(
            [found((*A, 0, 0.9))], [truth((*A, 0), (*B, 0))], ONE_OF_TWO, ONE_OF_TWO, id="1 of 2"
        ),
        pytest.param([found((*A, 1, 0.9))], [truth((*A, 0))], 0, 1, id="wrong class"),
        pytest.param(
            [found((*A, 0, 0.9))], [truth((*A, 0), (*B, 1))], 0.5, ONE_OF_TWO, id="class unseen"
        ),
        pytest.param(
            [found((*A, 0, 0.8), (*B, 1, 0.9))],
            [truth((*A, 0))],
            1,
            0.5,
            id="absent class detected: no share in the mean",
        ),
        pytest.param([found((*HALF, 0, 0.9))], [truth((*A, 0))], 1, 1, id="overlap 0.5 is a hit"),
        pytest.param([found((*LESS, 0, 0.9))], [truth((*A, 0))], 0, 0, id="overlap 0.49 is not"),
        pytest.param(
            [found(), found((*A, 0, 0.9))], [truth((*A, 0)), truth()], 0, 0, id="wrong picture"
        ),
        pytest.param(
            [found((*A, 0, 0.9)), found((*FAR, 0, 0.95))],
            [truth((*A, 0)), truth()],
            0.5,
            0.5,
            id="false alarm in an empty picture",
        ),
        pytest.param(
            [found(*[(*FAR, 0, 0.9)] * 99, (*A, 0, 0.8))],
            [truth((*A, 0))],
            0.01,
            0.01,
            id="the 100th detection counts",
        ),
        pytest.param(
            [found(*[(*FAR, 0, 0.9)] * 100, (*A, 0, 0.8))],
            [truth((*A, 0))],
            0,
            0,
            id="the 101st does not",
        ),
    ],
)
def test_cases_by_hand(
    detections: list[Detections],
    truths: list[Truth],
    map50: float | None,
    agnostic: float | None,
) -> None:
    score = mean_average_precision(detections, truths, 2)
    assert score["map50"] == pytest.approx(np.nan if map50 is None else map50, nan_ok=True)
    expected = np.nan if agnostic is None else agnostic
    assert score["map50_agnostic"] == pytest.approx(expected, nan_ok=True)


def test_overlap_of_one_half_counts_at_one_level_of_ten() -> None:
    score = mean_average_precision([found((*HALF, 0, 0.9))], [truth((*A, 0))], 1)
    assert score["map50_95"] == pytest.approx(0.1)


def test_objects_themselves_score_one() -> None:
    truths = draw(50, 3)[1]
    perfect = [Detections(b, np.ones(len(b), np.float32), c) for b, c in truths]
    score = mean_average_precision(perfect, truths, 2)
    assert score == {"map50": 1.0, "map50_95": 1.0, "map50_agnostic": 1.0}


@pytest.mark.parametrize(("seed", "n_classes"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 4)])
def test_agrees_with_a_second_implementation(seed: int, n_classes: int) -> None:
    detections, truths = _random_case(np.random.default_rng(seed), 12, n_classes)
    ours = mean_average_precision(detections, truths, n_classes)
    theirs = _second(detections, truths)
    agnostic = _second(*_without_classes(detections, truths))
    assert ours["map50"] == pytest.approx(theirs["map_50"], abs=1e-6)
    assert ours["map50_95"] == pytest.approx(theirs["map"], abs=1e-6)
    # The counts of two classes cannot both be odd and have an odd sum: here a level may be met.
    assert ours["map50_agnostic"] == pytest.approx(agnostic["map_50"], abs=0.01)


def _pycocotools(detections: list[Detections], truths: list[Truth], n_classes: int) -> np.ndarray:
    """AP [10] as pycocotools adds it up itself."""
    evaluation = _evaluate(detections, truths, n_classes)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    return precision[:, :, (precision > -1).any((0, 1))].mean((1, 2))


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_pycocotools_on_the_pictures_and_on_every_resample(seed: int) -> None:
    """A resample is a list of pictures in which some come twice and some not at all."""
    rng = np.random.default_rng(seed)
    detections, truths = _random_case(rng, 30, 3)
    n = len(truths)
    matches = match(detections, truths, 3)
    exact = {"rel": 1e-12, "abs": 1e-12}
    ours = matches.average_precision()[0]
    assert ours == pytest.approx(_pycocotools(detections, truths, 3), **exact)

    draws = rng.integers(0, n, (8, n))
    copies = np.stack([np.bincount(drawn, minlength=n) for drawn in draws])
    resampled = matches.average_precision(copies)
    assert resampled[:, 0].std() > 0  # else the comparison below compares nothing
    for drawn, found_here in zip(draws, resampled, strict=True):
        theirs = _pycocotools([detections[i] for i in drawn], [truths[i] for i in drawn], 3)
        assert found_here == pytest.approx(theirs, **exact)


def test_a_resample_without_a_class_leaves_it_out_and_one_without_objects_is_nan() -> None:
    detections = [found((*A, 0, 0.9)), found((*FAR, 1, 0.8)), found()]
    matches = match(detections, [truth((*A, 0)), truth((*B, 1)), truth()], 2, overlaps=1)
    copies = np.array([[1, 1, 1], [3, 0, 0], [0, 2, 1], [0, 0, 3]])
    assert matches.average_precision(copies)[:, 0] == pytest.approx(
        [0.5, 1, 0, np.nan], nan_ok=True
    )


@pytest.mark.parametrize("together", [1, 100, 3000])
def test_no_bit_depends_on_how_many_resamples_are_added_up_together(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    detections, truths = _random_case(np.random.default_rng(0), 30, 3)
    matches = match(detections, truths, 3)
    copies = np.random.default_rng(1).integers(0, 3, (101, len(truths)))
    whole = matches.average_precision(copies)
    monkeypatch.setattr(metrics, "TOGETHER", together)
    assert len(metrics._chunks(101, len(matches.pictures))) > 1
    assert np.array_equal(matches.average_precision(copies), whole)


def test_many_detections_and_resamples_take_little_memory() -> None:
    """A test split of the paper's size: all resamples at once would take 2 GB."""
    rng = np.random.default_rng(0)
    n, pictures, resamples = 40_000, 1_000, 301
    matches = Matches(
        rng.integers(0, pictures, n),
        np.zeros(n, np.int64),
        rng.random((1, n)) < 0.5,
        np.full((1, pictures), 30),
    )
    copies = rng.integers(0, 3, (resamples, pictures))
    tracemalloc.start()
    matches.average_precision(copies)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 200e6


def _random_case(
    rng: np.random.Generator, pictures: int, n_classes: int
) -> tuple[list[Detections], list[Truth]]:
    """Boxes, some found twice, some shifted, some with another class, and false alarms."""
    detections, truths = [], []
    for _ in range(pictures):
        boxes = _boxes(rng, int(rng.integers(0, 4)))
        classes = rng.integers(0, n_classes, len(boxes))
        near = np.concatenate([boxes, boxes]) + rng.normal(0, 1.5, (2 * len(boxes), 4))
        seen = np.concatenate([near, _boxes(rng, 2)]).astype(np.float32)
        labels = np.concatenate([classes, classes, rng.integers(0, n_classes, 2)])
        swapped = rng.random(len(labels)) < 0.1
        labels[swapped] = rng.integers(0, n_classes, swapped.sum())
        detections.append(Detections(seen, rng.random(len(seen)).astype(np.float32), labels))
        truths.append((boxes, classes))
    while not _off_the_recall_levels([classes for _, classes in truths]):
        truths.append((_boxes(rng, 1), rng.integers(0, n_classes, 1)))
        detections.append(found())
    return detections, truths


def _off_the_recall_levels(classes: list[np.ndarray]) -> bool:
    """Whether no class's recall k/n meets a level j/100, where rounding decides what counts."""
    counts = np.unique(np.concatenate(classes), return_counts=True)[1]
    return len(counts) > 0 and all(math.gcd(int(n), 100) == 1 for n in counts)


def _boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    corner = rng.uniform(0, 40, (n, 2))
    return np.concatenate([corner, corner + rng.uniform(8, 24, (n, 2))], 1).astype(np.float32)


def _without_classes(
    detections: list[Detections], truths: list[Truth]
) -> tuple[list[Detections], list[Truth]]:
    return (
        [Detections(d.boxes, d.scores, d.classes * 0) for d in detections],
        [(boxes, classes * 0) for boxes, classes in truths],
    )


def _second(detections: list[Detections], truths: list[Truth]) -> dict[str, float]:
    logging.getLogger("torchmetrics").setLevel(logging.ERROR)
    metric = SecondImplementation()
    metric.update(
        [
            {
                "boxes": torch.from_numpy(d.boxes),
                "scores": torch.from_numpy(d.scores),
                "labels": torch.from_numpy(d.classes),
            }
            for d in detections
        ],
        [{"boxes": torch.from_numpy(b), "labels": torch.from_numpy(c)} for b, c in truths],
    )
    result = metric.compute()
    return {"map": float(result["map"]), "map_50": float(result["map_50"])}


def test_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    mean_average_precision([found((*A, 0, 0.9))], [truth((*A, 0))], 1)
    assert capfd.readouterr() == ("", "")


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="1 pictures detected in, but 2 truths"):
        mean_average_precision([found()], [truth(), truth()], 1)
    with pytest.raises(ValueError, match=r"picture 0: detected classes \[2\]"):
        mean_average_precision([found((*A, 2, 0.9))], [truth()], 2)
    with pytest.raises(ValueError, match="true classes"):
        mean_average_precision([found()], [truth((*A, 2))], 2)
    with pytest.raises(ValueError, match="of one length"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(1, np.float32), np.zeros(1, np.int64))

"""Mean average precision as COCO defines it: pycocotools matches, this file adds up, in memory.

Adding up is ours because a bootstrap over pictures needs it a thousand times: pycocotools would
match and sort anew for each resample. On the pictures themselves both agree to rounding (tested).
"""

__all__ = ["Matches", "match", "mean_average_precision"]

import contextlib
import io
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.boxes import Detections, Truth

MOST = 100  # detections per picture and class that count, as in COCO
RECALLS = np.linspace(0, 1, 101)  # where COCO reads precision off
ALONE = threading.Lock()  # redirect_stdout swaps a global; matching is Python, one at a time anyway
TOGETHER = 2**21  # detections times resamples held at once: some 100 MB; no figure depends on it
TINY = np.spacing(1)  # as in pycocotools: no detection yet is precision 0, not 0 / 0


@dataclass(frozen=True)
class Matches:
    """Which of D detections in N pictures hit an object, at T overlaps; all that AP depends on.

    Detections are ordered by class, then by falling score; equal scores by picture, as in
    pycocotools. Overlaps are the first T of 0.5, 0.55 .. 0.95.

    Attributes:
        pictures: int64 [D], the picture of each detection.
        classes: int64 [D].
        hits: bool [T, D].
        objects: int64 [classes, N], how many objects of a class are in a picture.
    """

    pictures: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    hits: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]

    def average_precision(
        self, copies: npt.NDArray[np.integer] | None = None
    ) -> npt.NDArray[np.float64]:
        """AP [R, T]: mean over the classes that occur, nan where none does.

        Args:
            copies: [R, N], how often each picture is in each of R resamples; once each by default.
        """
        if copies is None:
            copies = np.ones((1, self.objects.shape[1]), np.int64)
        total, occurring = np.zeros((len(copies), len(self.hits))), np.zeros((len(copies), 1))
        by_picture = np.ascontiguousarray(copies.T, np.int32)
        for label, objects in enumerate(self.objects):
            mine = np.flatnonzero(self.classes == label)
            there = copies @ objects
            for some in _chunks(len(copies), len(mine)):
                drawn = by_picture[:, some][self.pictures[mine]]
                total[some] += _areas(self.hits[:, mine], drawn, there[some])
            occurring += (there > 0)[:, None]
        return np.divide(total, occurring, out=np.full_like(total, np.nan), where=occurring > 0)


def _chunks(resamples: int, detections: int) -> list[slice]:
    """Resamples that are added up together.

    No chunk but an only one is of one resample: numpy adds a single column in another order.
    """
    chunks = min(math.ceil(resamples * detections / TOGETHER), resamples // 2)
    edges = [resamples * i // max(chunks, 1) for i in range(max(chunks, 1) + 1)]
    return [slice(low, high) for low, high in pairwise(edges)]


def _areas(
    hits: npt.NDArray[np.bool_], copies: npt.NDArray[np.int32], objects: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """AP of one class [R, T] from hits [T, D], copies [D, R] and objects [R]; 0 without objects.

    Only hits matter: precision falls and recall stands still at every other detection. A hit counts
    for the recall levels between the hit before it and itself. Copies of one detection follow one
    another in a resample, and precision at the last of them is what the envelope shows for all.
    """
    found = np.cumsum(copies, axis=0, dtype=np.int32)
    areas = np.zeros((copies.shape[1], len(hits)))
    for t, hit in enumerate(hits):
        at = np.flatnonzero(hit)
        right = np.cumsum(copies[at], axis=0, dtype=np.int32)
        precision = right / (found[at] + TINY)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        recall = right / np.maximum(objects, 1)
        reached = np.searchsorted(RECALLS, recall, side="right")
        areas[:, t] = (envelope * np.diff(reached, axis=0, prepend=0)).sum(0) / len(RECALLS)
    return areas * (objects > 0)[:, None]


def match(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    n_classes: int,
    overlaps: int | None = None,
) -> Matches:
    """Let pycocotools match N pictures' detections with their boxes, at the first `overlaps` of 10.

    Raises ValueError if the lengths differ or a class is outside 0 .. n_classes - 1.
    """
    if len(detections) != len(truths):
        raise ValueError(f"{len(detections)} pictures detected in, but {len(truths)} truths")
    _check_classes([d.classes for d in detections], n_classes, "detected")
    _check_classes([classes for _, classes in truths], n_classes, "true")
    objects = np.zeros((n_classes, len(truths)), np.int64)
    for picture, (_, classes) in enumerate(truths):
        np.add.at(objects[:, picture], classes, 1)
    pictures, labels, hits = [], [], []
    evaluation = _evaluate(detections, truths, n_classes, overlaps)
    told = [image for image in evaluation.evalImgs if image is not None]
    for label in range(n_classes):
        mine = [image for image in told if image["category_id"] == label]
        scores = np.concatenate([np.zeros(0), *(image["dtScores"] for image in mine)])
        order = np.argsort(-scores, kind="stable")
        sizes = [len(image["dtScores"]) for image in mine]
        pictures.append(np.repeat([image["image_id"] for image in mine], sizes)[order])
        labels.append(np.full(len(order), label))
        hit = [np.zeros((len(evaluation.params.iouThrs), 0)), *(i["dtMatches"] for i in mine)]
        hits.append(np.concatenate(hit, axis=1)[:, order] > 0)
    return Matches(
        np.concatenate(pictures).astype(np.int64),
        np.concatenate(labels),
        np.concatenate(hits, axis=1),
        objects,
    )


def mean_average_precision(
    detections: Sequence[Detections], truths: Sequence[Truth], n_classes: int
) -> dict[str, float]:
    """Score N pictures' detections against their boxes.

    Average precision is the mean of the interpolated precision at recalls 0, 0.01 .. 1 (COCO). Its
    mean runs over the classes that occur in `truths`; with no box at all every figure is nan.

    Returns `map50` (overlap of 0.5 or more is a hit), `map50_95` (mean over 0.5, 0.55 .. 0.95) and
    `map50_agnostic` (as `map50`, with all classes taken for one: is something found there?).
    Raises ValueError if the lengths differ or a class is outside 0 .. n_classes - 1.
    """
    aware = match(detections, truths, n_classes).average_precision()[0]
    found, there = one_class(detections, truths)
    agnostic = match(found, there, 1, overlaps=1).average_precision()[0]
    return {
        "map50": float(aware[0]),
        "map50_95": float(aware.mean()),
        "map50_agnostic": float(agnostic[0]),
    }


def one_class(
    detections: Sequence[Detections], truths: Sequence[Truth]
) -> tuple[list[Detections], list[Truth]]:
    """The same boxes with every class taken for class 0."""
    return (
        [Detections(d.boxes, d.scores, np.zeros_like(d.classes)) for d in detections],
        [(boxes, np.zeros_like(classes)) for boxes, classes in truths],
    )


def _check_classes(classes: list[np.ndarray], n_classes: int, kind: str) -> None:
    for i, found in enumerate(classes):
        if len(found) and not (found.min() >= 0 and found.max() < n_classes):
            raise ValueError(
                f"picture {i}: {kind} classes {found.tolist()} must lie in 0..{n_classes - 1}"
            )


def _evaluate(
    detections: Sequence[Detections],
    truths: Sequence[Truth],
    n_classes: int,
    overlaps: int | None = None,
) -> COCOeval:
    """pycocotools' matching, without a word on the screen."""
    with ALONE, contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _coco(len(truths), n_classes, _true_rows(truths)),
            _coco(len(truths), n_classes, _found_rows(detections)),
            "bbox",
        )
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e10]], ["all"]
        evaluation.params.maxDets = [MOST]
        evaluation.params.iouThrs = evaluation.params.iouThrs[:overlaps]
        evaluation.evaluate()
    return evaluation


def _coco(pictures: int, n_classes: int, rows: list[dict[str, object]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(pictures)],
        "categories": [{"id": c} for c in range(n_classes)],
        "annotations": rows,
    }
    coco.createIndex()
    return coco


def _true_rows(truths: Sequence[Truth]) -> list[dict[str, object]]:
    flat = ((i, b, c) for i, (bs, cs) in enumerate(truths) for b, c in zip(bs, cs, strict=True))
    return [_row(n, i, b, int(c)) for n, (i, b, c) in enumerate(flat)]


def _found_rows(detections: Sequence[Detections]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for i, d in enumerate(detections):
        for box, score, c in zip(d.boxes, d.scores, d.classes, strict=True):
            rows.append(_row(len(rows), i, box, int(c)) | {"score": float(score)})
    return rows


def _row(number: int, picture: int, box: np.ndarray, category: int) -> dict[str, object]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return {
        "id": number + 1,  # pycocotools takes 0 for "unmatched"
        "image_id": picture,
        "category_id": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        "ignore": 0,
    }

"""Mean average precision as COCO defines it, by pycocotools, in memory and without a word."""

__all__ = ["mean_average_precision"]

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.boxes import Detections, Truth

MOST = 100  # detections per picture and class that count, as in COCO


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
    if len(detections) != len(truths):
        raise ValueError(f"{len(detections)} pictures detected in, but {len(truths)} truths")
    _check_classes([d.classes for d in detections], n_classes, "detected")
    _check_classes([classes for _, classes in truths], n_classes, "true")
    if not any(len(boxes) for boxes, _ in truths):
        return {"map50": np.nan, "map50_95": np.nan, "map50_agnostic": np.nan}
    aware = _precision(detections, truths, n_classes, agnostic=False)
    agnostic = _precision(detections, truths, n_classes, agnostic=True)
    return {
        "map50": _mean(aware[0]),
        "map50_95": _mean(aware),
        "map50_agnostic": _mean(agnostic[0]),
    }


def _check_classes(classes: list[np.ndarray], n_classes: int, kind: str) -> None:
    for i, found in enumerate(classes):
        if len(found) and not (found.min() >= 0 and found.max() < n_classes):
            raise ValueError(
                f"picture {i}: {kind} classes {found.tolist()} must lie in 0..{n_classes - 1}"
            )


def _mean(precision: np.ndarray) -> float:
    """Mean over what pycocotools could tell; -1 marks classes without a true box."""
    told = precision[precision > -1]
    return float(told.mean()) if told.size else float("nan")


def _precision(
    detections: Sequence[Detections], truths: Sequence[Truth], n_classes: int, agnostic: bool
) -> np.ndarray:
    """Precision [overlaps, recalls, classes] of pycocotools; -1 for absent classes."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _coco(len(truths), n_classes, _true_rows(truths, agnostic)),
            _coco(len(truths), n_classes, _found_rows(detections, agnostic)),
            "bbox",
        )
        evaluation.params.useCats = 1
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e10]], ["all"]
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, :, 0, 0]


def _coco(pictures: int, n_classes: int, rows: list[dict[str, object]]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(pictures)],
        "categories": [{"id": c} for c in range(n_classes)],
        "annotations": rows,
    }
    coco.createIndex()
    return coco


def _true_rows(truths: Sequence[Truth], agnostic: bool) -> list[dict[str, object]]:
    flat = ((i, b, c) for i, (bs, cs) in enumerate(truths) for b, c in zip(bs, cs, strict=True))
    return [_row(n, i, b, 0 if agnostic else int(c)) for n, (i, b, c) in enumerate(flat)]


def _found_rows(detections: Sequence[Detections], agnostic: bool) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for i, d in enumerate(detections):
        for box, score, c in zip(d.boxes, d.scores, d.classes, strict=True):
            row = _row(len(rows), i, box, 0 if agnostic else int(c))
            rows.append(row | {"score": float(score)})
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

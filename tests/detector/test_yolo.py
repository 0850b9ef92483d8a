"""What a detector finds, and that it finds it for the right reason."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import box_iou
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import YAML, checks

from detector import training
from detector.boxes import Detections, Truth
from detector.metrics import mean_average_precision
from detector.trained import Detector
from tests.detector.drawn import CLASSES, SMALL, draw


def _score(detector: Detector, images: np.ndarray, truths: list[Truth]) -> dict[str, float]:
    return mean_average_precision(detector.detect(images), truths, len(CLASSES))


def test_finds_what_was_drawn(detector: Detector) -> None:
    score = _score(detector, *draw(200, 7, detector.channels))
    assert score["map50"] > 0.95
    assert score["map50_95"] > 0.6


def test_noise_and_the_mean_of_the_training_set_score_nothing(detector: Detector) -> None:
    images, truths = draw(200, 7, detector.channels)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    assert _score(detector, noise, truths)["map50"] < 0.01
    seen = draw(640, 0, detector.channels)[0]  # what it was trained on
    mean = np.broadcast_to(seen.mean(0).round().astype(np.uint8), images.shape)
    assert _score(detector, mean, truths)["map50"] < 0.05


def test_shuffled_labels_destroy_the_score(detector: Detector) -> None:
    images, truths = draw(200, 7, detector.channels)
    found = detector.detect(images)
    whole = mean_average_precision(found, truths, 2)
    shuffled = np.random.default_rng(0).permutation(len(truths))
    of_other_scenes = mean_average_precision(found, [truths[i] for i in shuffled], 2)
    for metric, value in of_other_scenes.items():
        assert value < whole[metric] / 5, metric
    other_classes = [(boxes, 1 - classes) for boxes, classes in truths]
    swapped = mean_average_precision(found, other_classes, 2)
    # Each object also carries a weak detection of the other class, behind all sure ones.
    assert swapped["map50"] < whole["map50"] / 2
    assert swapped["map50_agnostic"] > 0.9


def test_score_does_not_depend_on_the_batch(detector: Detector) -> None:
    images, truths = draw(100, 8, detector.channels)
    scores = [
        mean_average_precision(detector.detect(images, batch), truths, 2) for batch in (1, 7, 128)
    ]
    for key in ("map50", "map50_95", "map50_agnostic"):
        assert scores[0][key] > 0.5
        assert np.ptp([score[key] for score in scores]) < 0.001


def test_boxes_are_in_pixels_of_the_picture(detector: Detector) -> None:
    images, truths = draw(50, 9, detector.channels)
    doubled = images.repeat(2, 1).repeat(3, 2)
    stretched: list[Truth] = [
        ((boxes * [3, 2, 3, 2]).astype(np.float32), classes) for boxes, classes in truths
    ]
    assert _score(detector, doubled, stretched)["map50"] > 0.9
    found = detector.detect(doubled)
    assert all((d.boxes >= 0).all() and (d.boxes <= [192, 128, 192, 128]).all() for d in found)
    assert all((np.diff(d.scores) <= 0).all() for d in found)


@pytest.mark.parametrize(
    ("change", "overlaps", "scores", "most"),
    [
        ({}, (0.5, 0.6), (0.0, 0.4), 300),
        ({"nms_iou": 0.2}, (0.01, 0.2), (0.0, 0.4), 300),
        ({"nms_iou": 0.9}, (0.7, 0.9), (0.0, 1.0), 300),
        ({"confidence_floor": 0.5}, (0.5, 0.6), (0.5, 0.51), 300),
        ({"max_detections": 3}, (0.0, 0.6), (0.0, 1.0), 3),
    ],
)
def test_what_is_kept_is_within_the_limits_and_up_to_them(
    change: dict[str, float], overlaps: tuple[float, float], scores: tuple[float, float], most: int
) -> None:
    """Of an untrained network, which sees a box of 15 cells' width around every cell."""
    limits = {"nms_iou": 0.6, "confidence_floor": 0.001, "max_detections": 300, **change}
    small = {"width_multiple": 0.0625, "image_size": 256}
    config = training._config(SMALL.model_copy(update={**small, **limits}), 3, CLASSES)
    network = training._build(config, 0)
    with torch.no_grad():
        for layer in network.model[-1].cv3:  # scores of 0.2 to 0.8 in place of one for all
            layer[-1].bias.zero_()
            layer[-1].weight.mul_(1e6)
    noise = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    [found] = Detector(network, config, torch.device("cpu")).detect(noise)
    inside = ((found.boxes > 0) & (found.boxes < 256)).all(1)  # no border has cut them
    boxes, classes = torch.from_numpy(found.boxes[inside]), found.classes[inside]
    of_a_class = box_iou(boxes, boxes).numpy() * (classes[:, None] == classes)
    assert overlaps[0] <= np.triu(of_a_class, 1).max() <= overlaps[1]
    assert scores[0] <= found.scores.min() <= scores[1]
    assert 3 <= len(found) <= most


def test_wrong_arrays_are_refused(detector: Detector) -> None:
    other = 4 - detector.channels
    with pytest.raises(ValueError, match=rf"\[N, H, W, {detector.channels}\]"):
        detector.detect(draw(2, 0, other)[0])
    with pytest.raises(ValueError, match="float64"):
        detector.detect(draw(2, 0, detector.channels)[0] / 255)
    assert detector.detect(draw(2, 0, detector.channels)[0][:0]) == []


@pytest.mark.parametrize("side", [64, 96], ids=["as it is", "enlarged"])
def test_equals_the_librarys_own_validation_on_files(
    detector: Detector, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ultralytics reads PNG files, resizes, batches, suppresses and scores them by itself."""
    images, truths = draw(150, 11, detector.channels)
    detector = copy.copy(detector)
    detector.params = detector.params.model_copy(update={"image_size": side})
    validator = _validate(detector, _folder(tmp_path, images, truths), monkeypatch)
    found = detector.detect(images)
    ours = _rescore(validator, found, truths)
    theirs = validator.metrics.box
    assert theirs.map50 > 0.5
    assert ours.map50 == pytest.approx(theirs.map50, abs=0.0005)
    assert ours.map == pytest.approx(theirs.map, abs=0.0005)
    # And both by our own metric.
    scale = np.float32(images.shape[1] / side)
    of_theirs = [Detections(d.boxes * scale, d.scores, d.classes) for d in validator.found]
    assert mean_average_precision(found, truths, 2) == pytest.approx(
        mean_average_precision(of_theirs, truths, 2), abs=0.0005
    )


def _folder(root: Path, images: np.ndarray, truths: list[Truth]) -> Path:
    """Write pictures and labels as ultralytics expects them; returns the data file."""
    size, channels = images.shape[1], images.shape[3]
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    for i, (image, (boxes, classes)) in enumerate(zip(images, truths, strict=True)):
        cv2.imwrite(str(root / "images/val" / f"{i:04}.png"), image[..., ::-1])
        centre, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        rows = np.concatenate([classes[:, None], centre / size, extent / size], 1)
        np.savetxt(root / "labels/val" / f"{i:04}.txt", rows, "%d %.8f %.8f %.8f %.8f")
    data = {
        "path": str(root),
        "train": "images/val",
        "val": "images/val",
        "names": dict(enumerate(CLASSES)),
        "channels": channels,
    }
    YAML.save(root / "data.yaml", data)
    return root / "data.yaml"


def _validate(detector: Detector, data: Path, monkeypatch: pytest.MonkeyPatch) -> _Clipping:
    (data.parent / "Arial.ttf").touch()  # it would ask the network for one
    monkeypatch.setattr(checks, "USER_CONFIG_DIR", data.parent)
    validator = _Clipping(
        save_dir=data.parent / "runs",
        args={
            "data": str(data),
            "imgsz": detector.params.image_size,
            "batch": 32,
            "conf": detector.params.confidence_floor,
            "iou": detector.params.nms_iou,
            "max_det": detector.params.max_detections,
            "rect": False,
            "plots": False,
            "device": "cpu",
            "workers": 0,
        },
    )
    detector.network.names = dict(enumerate(CLASSES))
    validator(model=detector.network)
    return validator


class _Clipping(DetectionValidator):
    """Cuts boxes at the picture's border before scoring, as ultralytics' predictor and ours do.

    `found` holds them, in pixels of the network's input.
    """

    def init_metrics(self, model: torch.nn.Module) -> None:
        super().init_metrics(model)
        self.found: list[Detections] = []

    def postprocess(self, preds: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        found = super().postprocess(preds)
        for one in found:
            one["bboxes"].clamp_(0, self.args.imgsz)
            boxes, scores, classes = (one[k].numpy() for k in ("bboxes", "conf", "cls"))
            self.found.append(Detections(boxes, scores, classes.astype(np.int64)))
        return found


class _Metrics:
    def __init__(self, map50: float, map: float) -> None:
        self.map50, self.map = map50, map


def _rescore(
    validator: DetectionValidator, found: list[Detections], truths: list[Truth]
) -> _Metrics:
    """Score our detections by ultralytics' own metric, which interpolates unlike COCO's."""
    fresh = DetectionValidator(save_dir=validator.save_dir)
    fresh.metrics.names = validator.metrics.names
    for i, (d, (boxes, classes)) in enumerate(zip(found, truths, strict=True)):
        matched = fresh._process_batch(
            {"bboxes": torch.from_numpy(d.boxes), "cls": torch.from_numpy(d.classes)},
            {"bboxes": torch.from_numpy(boxes), "cls": torch.from_numpy(classes)},
        )
        fresh.metrics.update_stats(
            {
                **matched,
                "target_cls": classes,
                "target_img": np.unique(classes),
                "conf": d.scores,
                "pred_cls": d.classes.astype(np.float32),
                "im_name": str(i),
            }
        )
    fresh.metrics.process(save_dir=validator.save_dir)
    return _Metrics(fresh.metrics.box.map50, fresh.metrics.box.map)

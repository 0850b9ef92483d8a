"""Bad parameters are refused by a line that names the key."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from detector.params import DetectorParams, Detectors


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ({"image_size": 65}, ["image_size is 65", "multiple of 32", "64 or 96"]),
        ({"image_size": 16}, ["image_size", "32"]),
        ({"network": "yolov3-tiny", "image_size": 32}, ["image_size is 32", "64 or more"]),
        ({"image_size": 2048}, ["image_size", "1280"]),
        ({"network": "yolov9"}, ["network", "yolov3-tiny"]),
        ({"width_multiple": 0.01}, ["width_multiple", "0.0625"]),
        ({"width_multiple": 1.5}, ["width_multiple"]),
        ({"depth_multiple": 0}, ["depth_multiple"]),
        ({"epochs": 0}, ["epochs", "greater than 0"]),
        ({"epochs": "4"}, ["epochs"]),
        ({"batch": 1}, ["batch", "2"]),
        ({"learning_rate": 0}, ["learning_rate"]),
        ({"learning_rate": float("nan")}, ["learning_rate"]),
        ({"warmup": 0.6}, ["warmup"]),
        ({"precision": "fp16"}, ["precision", "bf16"]),
        ({"confidence_floor": 0}, ["confidence_floor"]),
        ({"nms_iou": 1}, ["nms_iou"]),
        ({"max_detections": 0}, ["max_detections"]),
        ({"augmentation": {"flip": 1.1}}, ["augmentation", "flip"]),
        ({"augmentation": {"mosaic": 1}}, ["augmentation", "mosaic"]),
        ({"augmentation": {"blur": 9}}, ["blur"]),
        ({"epoch": 3}, ["epoch"]),
    ],
)
def test_bad_values_are_named(section: dict[str, object], named: list[str]) -> None:
    with pytest.raises(ValidationError) as error:
        DetectorParams.model_validate(section)
    for word in named:
        assert word in str(error.value)


@pytest.mark.parametrize("modality", ["depth", "radar"])
@pytest.mark.parametrize("key", ["hue", "saturation", "greyscale"])
def test_colour_keys_are_for_images(modality: str, key: str) -> None:
    section = {modality: {"augmentation": {key: 0.25}}}
    with pytest.raises(ValidationError, match=rf"{modality}\.augmentation\.{key} is 0\.25.*be 0"):
        Detectors.model_validate(section)
    Detectors.model_validate({"image": section[modality]})


def test_params_import_neither_torch_nor_ultralytics() -> None:
    code = "import sys, detector.params; print({'torch', 'ultralytics', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

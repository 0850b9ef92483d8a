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


def test_a_sensor_has_the_default_but_for_what_its_section_says() -> None:
    section = {
        "default": {"epochs": 3, "augmentation": {"flip": 0.0, "blur": 1.0}},
        "radar": {"batch": 4, "augmentation": {"blur": 0.0}},
    }
    found = Detectors.model_validate(section)
    assert found.of("lidar") == found.default
    radar = found.of("radar")
    assert (radar.epochs, radar.batch) == (3, 4)
    assert (radar.augmentation.flip, radar.augmentation.blur) == (0.0, 0.0)
    changed = {"batch": 4, "augmentation": radar.augmentation}
    assert radar == found.default.model_copy(update=changed)


@pytest.mark.parametrize(
    ("given", "loc", "said"),
    [
        ({"epochs": 0}, ("epochs",), "greater than 0"),
        ({"augmentation": {"fog": 1}}, ("augmentation", "fog"), "unknown key; there are flip, sc"),
        ({"augmentation": 1}, ("augmentation",), "valid dictionary"),
        ({"epoch": 1}, ("epoch",), "unknown key"),
        (None, (), "valid dictionary"),
    ],
)
def test_a_mistake_in_a_sensors_section_is_named_once(
    given: object, loc: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Detectors.model_validate({"radar": given})
    (mistake,) = refused.value.errors()
    assert mistake["loc"] == ("radar", *loc)
    assert said in mistake["msg"]


def test_params_import_neither_torch_nor_ultralytics() -> None:
    code = "import sys, detector.params; print({'torch', 'ultralytics', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

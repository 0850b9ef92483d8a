"""Every sensor keeps the common form; which sensors a dataset has is checked before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scenegen import sensors
from scenegen.__main__ import main
from scenegen.dataset import Dataset, open_dataset
from scenegen.exports import EXPORTS
from scenegen.generate import render_dataset
from scenegen.params import SceneParams
from scenegen.preview import contact_sheet
from scenegen.scene import SceneSpec, sample_scene
from scenegen.worker import render_scenes, render_specs

NAMES = sensors.names()


def scenes(*names: str, count: int = 21) -> SceneParams:
    """Small scenes, seen by these sensors."""
    image = {"width": 24, "height": 24, "samples": 1}
    return SceneParams.model_validate({"count": count, "image": image, "sensors": names})


@pytest.fixture(scope="module")
def seen_by_all(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twenty-one small scenes, seen by every sensor."""
    folder = tmp_path_factory.mktemp("all")
    render_dataset(scenes(*NAMES), folder, workers=1, progress=False)
    return open_dataset(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_sensor_shows_what_it_declares(name: str, seen_by_all: Dataset) -> None:
    sensor, params = sensors.get(name), seen_by_all.params
    pictures = seen_by_all.array(name, "train")
    assert pictures.dtype == np.uint8
    assert pictures.shape == (15, *sensor.shape(params))
    assert len({picture.tobytes() for picture in pictures}) == 15
    height, width, _ = sensor.shape(params)
    boxes = [box for some, _ in seen_by_all.boxes(name, "train") for box in some]
    assert len(boxes) >= 10
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
    assert sensor.module.__doc__
    for option in sensor.options.model_fields.values():
        assert option.description


@pytest.fixture(scope="module")
def beside_mirrored() -> tuple[SceneParams, np.ndarray, np.ndarray]:
    """Records of four scenes, and of what these scenes are in a mirror."""
    small = {"width": 32, "height": 32, "samples": 8}
    params = SceneParams.model_validate({"image": small, "sensors": NAMES})
    specs = [sample_scene(params, k) for k in range(4)]
    other = [mirrored(spec) for spec in specs]
    return params, render_specs(params, specs), render_specs(params, other)


def mirrored(spec: SceneSpec) -> SceneSpec:
    """The scene with left and right exchanged."""

    def turned(point: tuple[float, float, float]) -> tuple[float, float, float]:
        return (-point[0], *point[1:])

    camera = replace(
        spec.camera, location=turned(spec.camera.location), target=turned(spec.camera.target)
    )
    things = tuple(replace(thing, x=-thing.x, yaw=-thing.yaw) for thing in spec.objects)
    light = replace(spec.light, towards=turned(spec.light.towards))
    return replace(spec, objects=things, camera=camera, light=light)


@pytest.mark.parametrize("name", NAMES)
def test_a_mirrored_scene_is_the_mirror_image_to_sensors_that_say_so(
    name: str, beside_mirrored: tuple[SceneParams, np.ndarray, np.ndarray]
) -> None:
    """Noise of a sensor is another in every picture, and edges fall between other pixels."""
    sensor, (params, *both) = sensors.get(name), beside_mirrored
    here, there = (
        np.array([sensor.picture(record, params) for record in records], float).reshape(
            4, *sensor.shape(params)
        )
        for records in both
    )
    apart = np.abs(here - there[:, :, ::-1]).mean() / np.abs(here - there).mean()
    assert (apart < 0.3) == sensor.traits.mirrors, apart


@pytest.mark.parametrize("name", NAMES)
def test_what_a_sensor_shows_hangs_on_no_other_sensor(name: str, seen_by_all: Dataset) -> None:
    """Nor on the process, nor on which scenes were rendered before."""
    alone = scenes(name)
    (record,) = render_scenes(alone, 12, 1)[1]
    stored = seen_by_all.shard(0)[12]
    sensor = sensors.get(name)
    shown = sensor.picture(record, alone)
    np.testing.assert_array_equal(shown, sensor.picture(stored, seen_by_all.params))
    for field in sensor.box_fields:
        np.testing.assert_array_equal(record[field], stored[field])


def test_no_two_sensors_have_a_letter() -> None:
    assert {sensors.get(name).traits.letter for name in NAMES} >= {"I", "D", "R"}
    assert len({sensors.get(name).traits.letter for name in NAMES}) == len(NAMES)
    assert len(sensors.together(NAMES)) == len(NAMES)


def test_a_sheet_and_exports_have_every_sensor(seen_by_all: Dataset, tmp_path: Path) -> None:
    sheet = contact_sheet(seen_by_all.shard(0)[:1], seen_by_all.params, side=48, columns=1)
    assert sheet.shape[1] == len(NAMES) * 49
    for name in NAMES:
        EXPORTS["coco"](seen_by_all, tmp_path / name, name)
        assert len([*(tmp_path / name / "train").glob("*.png")]) == 15


WRONG = [
    ('sensors=["image","sonar"]', "sensors: 'sonar' is not one of depth, image"),
    ('sensors=["image","image"]', "sensors: ['image', 'image'] names a sensor twice"),
    ("sensors=[]", "sensors: [] sees nothing; name at least one of depth, image"),
    ("radar.spam=1", "radar.spam: unknown key; there are width, height, span"),
    ('radar.width="wide"', "radar.width: Input should be a valid integer"),
    ('{"sensors":["image"],"radar":{"span":3}}', "radar: the sensors are image; name it there"),
]


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[change for change, _ in WRONG])
def test_wrong_sensors_are_one_line_before_any_work(
    change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, arguments = tmp_path / "params.json", ["--set", change]
    if change.startswith("{"):
        file.write_text(change)
        arguments = ["--params", str(file)]
    assert main(["render", str(tmp_path / "data"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)
    assert not (tmp_path / "data").exists()


def _folder_with(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor called `odd`, of this process alone."""
    (tmp_path / "odd.py").write_text(text)
    monkeypatch.setattr(sensors, "__path__", [*sensors.__path__, str(tmp_path)])
    monkeypatch.setattr("base.code.loaded", lambda *_: "0" * 64)
    sensors.get.cache_clear()


ODD = """
import numpy as np
from scenegen.sensors import Traits

TRAITS = Traits(letter="I")

def observe(frame, options, draws):
    return np.zeros((*frame.depth.shape, 1), np.uint8)
"""
BROKEN = [
    (ODD, "sensors: image and odd have the same letter, I; leave one out, or give it another"),
    ("1 / 0", "sensors: scenegen/sensors/odd.py: ZeroDivisionError: division by zero"),
    ("import no_such", "sensors: scenegen/sensors/odd.py: ModuleNotFoundError: No module named"),
    (ODD.replace("observe", "see"), "sensors: scenegen/sensors/odd.py: AttributeError"),
    (f"{ODD}\nOptions = 3", "sensors: scenegen/sensors/odd.py: TypeError: Options must be a cl"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN, ids=[said[9:40] for _, said in BROKEN])
def test_a_sensor_that_cannot_be_is_one_line(
    text: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _folder_with(text, tmp_path, monkeypatch)
    try:
        assert main(["show", "--set", 'sensors=["image","odd"]']) == 2
    finally:
        sensors.get.cache_clear()
        monkeypatch.undo()
        __import__("sys").modules.pop("scenegen.sensors.odd", None)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


@pytest.mark.slow
def test_a_dataset_says_which_sensors_it_has(seen_by_all: Dataset, tmp_path: Path) -> None:
    manifest = render_dataset(
        scenes("depth", "radar", count=2), tmp_path, workers=1, progress=False
    )
    assert manifest.params.sensors == ("depth", "radar")
    few = open_dataset(tmp_path)
    assert few.modalities == ("depth", "radar")
    with pytest.raises(ValueError, match=r"'image' is not in this dataset; choose one of depth, r"):
        few.array("image", "train")


def test_options_survive_json_and_copies() -> None:
    params = SceneParams.model_validate({"radar": {"span": 5.0}})
    again = SceneParams.model_validate_json(params.model_dump_json())
    assert again == params
    assert again.options("radar").span == 5.0
    assert params.model_dump(mode="json")["radar"]["height"] == 64

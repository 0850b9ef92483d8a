"""params.yaml is checked as a whole, before anything is touched."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from models.params import Cell
from pipeline import params, presets
from pipeline.running import params as running_params
from pipeline.running import stage
from scenegen.camera import camera_to_world
from scenegen.geometry import centre_height
from scenegen.params import SceneParams
from scenegen.scene import sample_scene
from tests.conftest import ROOT, clone, run, shipped

SHIPPED = shipped("params.yaml")


def put(tmp_path: Path, key: str, value: Any, text: str = SHIPPED) -> Path:
    """A copy of the shipped params.yaml, or of another text, with one key set."""
    yaml = YAML()
    document = yaml.load(text)
    *parents, leaf = key.split(".")
    section = document
    for name in parents:
        section = section[name]
    section[leaf] = value
    path = tmp_path / "params.yaml"
    yaml.dump(document, path)
    return path


MISTAKES = [
    ("scenes.count", 0, "scenes.count = 0"),
    ("scenes.count", "many", "scenes.count = 'many'"),
    ("scenes.seed", True, "scenes.seed = True"),
    ("scenes.count", "5000", "scenes.count = '5000'"),
    ("scenes.objects.scale", ["1.0", 1.2], "scenes.objects.scale.0 = '1.0'"),
    ("scenes.objects.count", [True, 2], "scenes.objects.count.0 = True"),
    ("scenes.boxes.min_pixels", 5000, "min_pixels: 5000 is more than"),
    ("scenes.colour", 1, "scenes.colour = 1: unknown key; there are seed, count, shard_size, "),
    ("scenes.floor.tint", 1, "scenes.floor.tint = 1: unknown key; there are hue, saturation, "),
    ("detector.image.augmentation.fog", 1, "unknown key; there are flip, scale, "),
    ("vae.modalities.image.sigma", 1, "unknown key; there are likelihood, scale, weight"),
    ("grid.cells.poe-none.alfa", 0.5, "grid.cells.poe-none.alfa = 0.5: unknown key; with fusion"),
    ("score.faults.sensors", 1, "unknown key; there are kinds, severities, scenes"),
    ("scenes.objects.count", [1, 6], "6 objects of scale"),
    ("scenes.light.night.share", 1.5, "scenes.light.night.share = 1.5: Input should be less than"),
    ("scenes.light.night.light", 0, "scenes.light.night.light = 0: Input should be greater than 0"),
    ("detector.image.image_size", 100, "multiple of 32"),
    ("detector.default.epochs", 0, "detector.default.epochs = 0"),
    ("detector.default.augmentation.fog", 1, "unknown key; there are flip, scale, "),
    ("detector.radar.epochs", 0, "detector.radar.epochs = 0"),
    ("detector.radar.augmentation.hue", 0.25, "radar.augmentation.hue = 0.25: must be 0: radar"),
    ("detector.lidr", {}, "detector.lidr: is no sensor; there are default, depth, image, lidar, "),
    ("vae.modalities.lidar", {}, "'lidar']: must be two or more of scenes.sensors, image, depth, "),
    ("vae.modalities", {"image": {}}, "vae.modalities = ['image']: must be two or more of scenes."),
    ("scenes.sensors", ["radar", "side"], "must be two or more of scenes.sensors, radar, side"),
    ("vae.training.learning_rate", -1, "vae.training.learning_rate = -1"),
    ("vae.modalities.image.likelihood", "cauchy", "vae.modalities.image.likelihood = 'cauchy'"),
    ("grid.seeds", [0, 0], "grid.seeds = [0, 0]"),
    ("grid.seeds", [], "grid.seeds = []"),
    ("grid.seeds", [True], "grid.seeds.0 = True"),
    ("scenes.count", 20, "must be 21 or more"),
    ("scenes.radar.width", 17, "scenes.radar: the picture's width = 17: must be a multiple of 8"),
    ("vae.training.learning_rate", "0.001", "vae.training.learning_rate = '0.001'"),
    ("grid.cells.poe-none.fusion", "mean", "'mean' is not one of"),
    ("grid.cells.image", {"fusion": "poe"}, "grid.cells.image: is the name of a modality"),
    ("grid.cells.-poe", {"fusion": "poe"}, "'-poe' is not a cell name"),
    ("grid.cells.pö", {"fusion": "poe"}, "'pö' is not a cell name"),
    ("grid.cells.Radar", {"fusion": "poe"}, "grid.cells.Radar: is the name of a modality"),
    ("grid.cells.Poe-None", {"fusion": "poe"}, "'Poe-None' is not a cell name: 1 to 100 letters"),
    (f"grid.cells.{'a' * 101}", {"fusion": "poe"}, "aaa... is not a cell name: 1 to 100 letters"),
    (f"grid.cells.{'a' * 300}", {"fusion": "poe"}, "aaa... is not a cell name: 1 to 100 letters"),
    ("grid.cells.poe-none.fusion", "x" * 10**6, "is not one of"),
    ("scenes.count", "x" * 10**6, "scenes.count = 'xxx"),
    ("scenes.count", ["x"] * 1000, "scenes.count = ['x', 'x'"),
    ("x" * 10**6, 1, "xxx... = 1: unknown key; there are scenes, detector, "),
    ("grid.cells.poe-none.kl", "sampled", "grid.cells.poe-none.kl = 'sampled': is for a mixture"),
    ("grid.cells.poe-ecg.alpha", 0.9, "objective 'ecg' there are fusion, objective, samples, "),
    ("grid.cells.poe-none.sensors", ["image", "lidr"], "'lidr' is no sensor; there are image, "),
    ("grid.cells.poe-none.sensors", ["image", "side"], "side is not made; name it in scenes.sens"),
    ("grid.cells.poe-none.sensors", ["image"], "sensors = ['image']: must be two or more sensors"),
    ("grid.cells.poe-none.sensors", [], "grid.cells.poe-none.sensors = []: must be two or more"),
    ("grid.cells.poe-none.sensors", ["image", "image"], "'image']: names a sensor twice; name "),
    ("grid.cells.poe-none.sensors", ["image", 3], "grid.cells.poe-none.sensors.1 = 3: Input "),
    ("grid.unimodal.sensors", ["image", "depth"], "grid.unimodal.sensors: leave it out; there is"),
    (
        "scenes.sensors",
        ["image", "depth", "radar", "x"],
        "scenes: sensors: 'x' is not one of depth",
    ),
    ("scenes.sensors", ["image", "depth", "depth"], "'depth', 'depth'] names a sensor twice"),
    ("scenes.sensors", ["radar", "depth"], "must be two or more of scenes.sensors, radar, depth"),
    ("scenes.side", {"azimuth": 60.0}, "scenes.side: the sensors are image, depth, radar; name it"),
    (
        "grid.cells.poe-lcd",
        {"fusion": "poe", "objective": "lcd", "alpha": 2.0},
        "grid.cells.poe-lcd.alpha = 2.0: Input should be less than or equal to 1",
    ),
    ("grid.cells.poe-jmvae", {"fusion": "poe", "objective": "jmvae"}, "only fusion largest uses"),
    ("scenes.camera.azimuth", [170.0, 180.0], "scenes: camera.azimuth: [170.0, 180.0] puts the"),
    ("scenes.camera.distance", [15.0, 15.4], "scenes.depth = near 4.0, far 12.0: the middle of "),
    ("scenes.depth.near", 7.0, "scenes.depth = near 7.0, far 12.0: the middle of an object"),
    ("score.scenes", 10**6, "test scenes"),
    ("score.samples", 10**12, "score.samples = 1000000000000"),
    ("vae.training.clip", float("inf"), "vae.training.clip = inf: Input should be a finite"),
    ("vae.modalities.image.scale", 1e-300, "vae.modalities.image.scale = 1e-300"),
    ("score.subsets", "some", "score.subsets = 'some'"),
    ("score.resamples", 10, "score.resamples = 10"),
    ("score.seed", 2**63, "score.seed = 9223372036854775808"),
    ("score.cross_component", "worst", "score.cross_component = 'worst'"),
    ("score.faults.kinds", ["noise", "fog"], "'fog' is not one of noise, dead"),
    ("score.faults.kinds", [], "score.faults.kinds = []"),
    ("score.faults.severities", [0.3, 0.1], "must rise"),
    ("score.faults.severities", [0.0, 0.1], "must rise, each above 0"),
    ("score.faults.severities", [0.1, float("nan")], "finite number"),
    ("score.faults.scenes", 10**6, "score.faults.scenes = 1000000"),
    ("report.examples", 0, "report.examples = 0"),
    ("extra", 1, "extra = 1: unknown key; there are scenes, detector, vae, grid, score, report"),
]


@pytest.mark.parametrize(
    ("key", "value", "said"), MISTAKES, ids=[f"{k}={v}"[:60] for k, v, _ in MISTAKES]
)
def test_a_mistake_is_one_line_that_names_key_and_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any, said: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        params.load(put(tmp_path, key, value))
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code != 0
    assert len(lines) == 1
    assert said in lines[0]
    assert len(lines[0]) < 700


COMBINED = [  # mistakes that two keys make together
    (
        {"scenes.sensors": ["image", "depth", "radar", "lidar"],
         "grid.cells.poe-none.sensors": ["image", "lidar"]},
        "lidar is not one of vae.modalities, image, depth, radar",
    ),
    (
        {"scenes.sensors": ["image", "depth", "radar", "side"], "scenes.side": {"azimuth": 170.0}},
        "scenes: side.azimuth: 170.0 puts the second camera behind the backdrop; allowed here: -13",
    ),
    (
        {"scenes.sensors": ["image", "depth", "radar", "side"], "scenes.side": {"view": "left"}},
        "scenes.side.view = 'left': unknown key; there are azimuth",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("values", "said"), COMBINED)
def test_a_sensor_or_a_view_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: dict[str, Any], said: str
) -> None:
    text = SHIPPED
    for key, value in values.items():
        text = put(tmp_path, key, value, text).read_text()
    with pytest.raises(SystemExit) as stop:
        params.load(tmp_path / "params.yaml")
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert said in line


def test_a_cell_fuses_all_sensors_or_those_it_names_in_the_order_of_the_grid() -> None:
    named = Cell(sensors=("radar", "image"))
    assert named.fuses(["image", "depth", "radar"]) == ("image", "radar")
    assert Cell().fuses(["image", "depth", "radar"]) == ("image", "depth", "radar")
    # A model's file has its modalities, and the same bytes whether its cell names them or not.
    assert named.model_dump() == Cell().model_dump()


def test_the_longest_cell_name_is_a_name(tmp_path: Path) -> None:
    assert "a" * 100 in params.load(put(tmp_path, f"grid.cells.{'a' * 100}", {})).grid.cells


BOMB = "a0: &a0 [1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
BROKEN = {
    "UTF-16": (SHIPPED.encode("utf-16"), "line 1: byte 0xff is not UTF-8; save it as UTF-8"),
    "UTF-16 without a mark": (SHIPPED.encode("utf-16-le"), "not YAML: unacceptable character"),
    "Latin-1": (b"# caf\xe9\n" + SHIPPED.encode(), "line 1: byte 0xe9 is not UTF-8"),
    "brackets": (b"a: " + 3000 * b"[" + 3000 * b"]", "nested too deeply; sections hold"),
    "digits": (b"a: " + 5001 * b"1", "line 1, column 4: '111"),
    "month 13": (b"a: 1\nb: 2026-13-01", "line 2, column 4: '2026-13-01' cannot be read as time"),
    "tag": (b"a: !!bool maybe", "line 1, column 4: 'maybe' cannot be read as bool"),
    "twice": (b"scenes: {count: 1, count: 2}", 'line 1, column 20: found duplicate key "count"'),
    "tab": (b"scenes:\n\tcount: 1", "line 2, column 1: found character '\\t' that cannot start"),
    "aliases": (BOMB.encode(), "line 2, column 10: *a0 is an alias, which is not read"),
    "merged": (b"a: &a {b: 1}\nc: {<<: *a}", "line 2, column 9: *a is an alias, which is not"),
    "alias of itself": (b"a: &a [*a]", "line 1, column 8: *a is an alias, which is not read"),
    "empty": (b"", "must be a mapping of sections, is NoneType"),
    "list": (b"- scenes", "must be a mapping of sections, is list"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("read", [params.load, partial(presets.apply, "smoke")])
def test_a_broken_file_is_one_line_and_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    read: Callable[[], Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    content, said = BROKEN[name]
    path = Path("params.yaml")
    path.write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        read()
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.startswith(f"{path}: {said}")
    assert told.count("\n") == 1
    assert len(told) < 300
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("two\nlines", r"'two\nlines'"),
        ([16**5000], "an integer of thousands of digits"),
        ([[1] * 10**6], "[[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1..."),
    ],
)
def test_a_value_is_told_in_60_letters(value: Any, said: str) -> None:
    assert stage.shown(value) == said
    assert len(said) <= 60


def test_of_many_mistakes_the_first_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED + "".join(f"extra{number}: 1\n" for number in range(1000)))
    with pytest.raises(SystemExit):
        params.load(path)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == running_params.MISTAKES + 1
    assert lines[-1] == f"{path}: {1000 - running_params.MISTAKES} more mistakes"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["pipeline check", "pipeline.stages.check"])
def test_a_sensor_that_shows_nothing_is_refused(tmp_path: Path, command: str) -> None:
    project = clone(tmp_path / "project")
    put(project, "scenes.radar.reach", [0, 1])
    done = run(project, "python", "-m", *command.split(), check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("params.yaml: scenes.radar.reach: from 0 to 1 m the radar shows no")
    assert not (project / "data/checked").exists()


def test_the_depths_told_are_those_of_the_scenes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = params.load(put(tmp_path, "scenes.seed", 0)).scenes
    seen = []
    for spec in (sample_scene(scenes, number) for number in range(1000)):
        pose = camera_to_world(spec.camera)
        for thing in spec.objects:
            middle = np.array([thing.x, thing.y, thing.scale * centre_height(thing.kind)])
            seen.append(float((middle - pose[:3, 3]) @ pose[:3, 2]))
    with pytest.raises(SystemExit):
        params.load(put(tmp_path, "scenes.depth.near", 11.0))
    told = re.search(r"may be ([\d.]+) to ([\d.]+) m away", capsys.readouterr().err)
    assert told
    nearest, farthest = map(float, told.groups())
    assert nearest - 0.05 <= min(seen) <= nearest + 0.3
    assert farthest - 0.3 <= max(seen) <= farthest + 0.05


def test_seed_zero_is_a_seed(tmp_path: Path) -> None:
    assert params.load(put(tmp_path, "scenes.seed", 0)).scenes.seed == 0


def test_every_key_of_the_models_is_in_the_file_with_a_comment(tmp_path: Path) -> None:
    """Whoever tweaks a value finds it, its unit and its range in params.yaml."""
    shipped = tmp_path / "params.yaml"
    shipped.write_text(SHIPPED)
    loaded = params.load(shipped)
    written = YAML(typ="safe").load(SHIPPED)

    def compare(model: BaseModel, section: dict[str, Any], key: str) -> None:
        for name in type(model).model_fields:
            assert name in section, f"{key}{name} is missing from params.yaml"
            value = getattr(model, name)
            if isinstance(value, BaseModel) and not isinstance(value, Cell):
                compare(value, section[name], f"{key}{name}.")

    compare(loaded, written, "")
    for line in SHIPPED.splitlines():
        rest = line.strip().partition(":")[2]
        value = rest.split("#")[0].strip()
        if line.startswith("#"):
            continue
        if value and not value.startswith("{"):  # a cell is explained where `cells` is
            assert "#" in rest, f"no comment: {line}"


@pytest.mark.slow
@pytest.mark.parametrize("name", presets.names())
def test_presets_are_valid_and_keep_comments(tmp_path: Path, name: str) -> None:
    text = presets.render(name, SHIPPED)
    (tmp_path / "params.yaml").write_text(text)
    params.load(tmp_path / "params.yaml")
    assert text.count("#") == SHIPPED.count("#")


@pytest.mark.parametrize("name", presets.names())
def test_the_default_preset_undoes_every_other(name: str) -> None:
    assert presets.render("default", presets.render(name, SHIPPED)) == SHIPPED


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grid", "paper"])
def test_the_papers_scenes_are_frozen(tmp_path: Path, name: str) -> None:
    """The preset asks for the very scenes whose hash is committed, of the default sensors."""
    (tmp_path / "params.yaml").write_text(presets.render(name, SHIPPED))
    asked = params.load(tmp_path / "params.yaml").scenes.model_dump(mode="json")
    manifest = json.loads((ROOT / "results/paper/manifest.json").read_text())
    assert manifest["complete"]
    assert manifest["count"] == 17_729
    frozen = SceneParams.model_validate(manifest["params"]).model_dump(mode="json")
    assert asked == frozen


def test_the_readmes_scene_is_allowed(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    example = YAML(typ="safe").load(re.search(r"```yaml\n(scenes:.*?)```", readme, re.S)[1])  # type: ignore[index]
    changed = example["scenes"]["objects"]
    objects = YAML(typ="safe").load(SHIPPED)["scenes"]["objects"] | changed
    loaded = params.load(put(tmp_path, "scenes.objects", objects)).scenes.objects
    assert loaded.count == tuple(changed["count"])
    assert loaded.scale == tuple(changed["scale"])


def test_a_bad_learning_rate_deletes_no_trained_model(smoke: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(smoke, folder, symlinks=True)
    before = {p: p.read_bytes() for p in sorted((folder / "data/models").iterdir())}
    assert before
    text = (folder / "params.yaml").read_text()
    rate = YAML(typ="safe").load(text)["vae"]["training"]["learning_rate"]
    (folder / "params.yaml").write_text(
        text.replace(f"learning_rate: {rate}", "learning_rate: -1.0")
    )
    done = run(folder, "dvc", "repro", check=False)
    assert done.returncode != 0
    assert "vae.training.learning_rate = -1.0" in done.stderr + done.stdout
    assert {p: p.read_bytes() for p in sorted((folder / "data/models").iterdir())} == before

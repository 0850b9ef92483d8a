"""The loader, the card, the preview and the commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from scenegen import card, generate
from scenegen.__main__ import main
from scenegen.card import write_card
from scenegen.dataset import Dataset, open_dataset
from scenegen.generate import render_dataset
from scenegen.params import CLASSES
from scenegen.preview import preview
from scenegen.scene import sample_scene
from scenegen.splits import SPLITS, split_scenes
from tests.scenegen.conftest import tiny

pytestmark = pytest.mark.slow


def test_splits_partition_and_do_not_move() -> None:
    parts = [split_scenes(s, 1000) for s in SPLITS]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    assert [len(p) for p in parts] == [750, 50, 200]
    assert split_scenes("test", 25).tolist() == [4, 9, 14, 19, 24]
    assert split_scenes("validation", 50).tolist() == [0, 20, 40]
    for split in SPLITS:
        smaller = split_scenes(split, 333)
        assert split_scenes(split, 1000)[: len(smaller)].tolist() == smaller.tolist()
    with pytest.raises(ValueError, match="'dev' does not exist"):
        split_scenes("dev", 10)


@pytest.mark.parametrize("split", SPLITS)
def test_arrays_and_boxes_line_up_with_scenes(dataset: Dataset, split: str) -> None:
    scenes, records = dataset.scenes(split), dataset.records(split)
    assert records["scene"].tolist() == scenes.tolist()
    for modality, channels, side in [("image", 3, 32), ("depth", 1, 32), ("radar", 1, 64)]:
        array = dataset.array(modality, split)
        assert array.dtype == np.uint8
        assert array.shape == (len(scenes), side, side, channels)
        boxes = dataset.boxes(modality, split)
        assert len(boxes) == len(scenes)
        for (box, label), record in zip(boxes, records, strict=True):
            prefix = "radar_" if modality == "radar" else ""
            boxed = record[f"has_{prefix}box"]
            np.testing.assert_array_equal(box, record[f"{prefix}box"][boxed])
            np.testing.assert_array_equal(label, record["label"][boxed])
            assert box.dtype == np.float32
            assert label.dtype == np.int64
            assert ((box >= 0) & (box <= side)).all()
            assert (box[:, 2:] > box[:, :2]).all()
    np.testing.assert_array_equal(dataset.array("image", split), records["image"])


@pytest.mark.parametrize("most", [0, 1, 3, 1000])
def test_the_first_scenes_of_a_split_are_read_from_their_shards_alone(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    opened: list[int] = []
    real = Dataset.shard

    def watched(self: Dataset, place: int) -> np.ndarray:
        opened.append(place)
        return real(self, place)

    for modality in ("image", "depth", "radar"):
        array, boxes = dataset.array(modality, "test"), dataset.boxes(modality, "test")
        monkeypatch.setattr(Dataset, "shard", watched)
        np.testing.assert_array_equal(dataset.array(modality, "test", most), array[:most])
        some = dataset.boxes(modality, "test", most)
        monkeypatch.undo()
        assert len(some) == len(boxes[:most])
        for (box, label), (box_, label_) in zip(some, boxes, strict=False):
            np.testing.assert_array_equal(box, box_)
            np.testing.assert_array_equal(label, label_)
    holding = {
        place
        for place, shard in enumerate(dataset.manifest.shards)
        for scene in dataset.scenes("test")[:most]
        if shard.first <= scene < shard.first + shard.count
    }
    assert set(opened) == (holding or {0})


def test_far_is_white_and_near_is_dark(dataset: Dataset) -> None:
    depth = dataset.array("depth", "train")[..., 0]
    records = dataset.records("train")
    assert (depth[records["depth"] == 65535] == 255).all()
    order = np.argsort(records["depth"], axis=None)
    assert (np.diff(depth.ravel()[order].astype(int)) >= 0).all()


def test_unknown_modality_and_folder(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="'lidar' is not in this dataset; choose one of image, depth, radar"
    ):
        dataset.array("lidar", "train")
    with pytest.raises(ValueError, match="is not a dataset"):
        open_dataset(tmp_path)


def test_the_card_states_what_is_there(dataset: Dataset, tmp_path: Path) -> None:
    text = write_card(dataset, tmp_path).read_text()
    assert dataset.manifest.sha256 in text
    labels = np.concatenate([b[1] for s in SPLITS for b in dataset.boxes("radar", s)])
    for number, name in enumerate(CLASSES):
        stated = int(text.split(f"| {name} | ")[1].split(" |")[0])
        assert stated >= (labels == number).sum()
    for plot in ("plots.png", "scenes.png"):
        assert cv2.imread(str(tmp_path / plot)).std() > 10


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"depth": {"near": 0.1, "far": 0.5}}, ["Boxes: none.", "Depth: none before the far"]),
        ({"depth": {"near": 900.0, "far": 1000.0}}, ["Boxes: none.", "nearest 900.00 m"]),
        ({"camera": {"look_height": 60.0}}, ["Boxes: none.", "Occlusion: none", "index: none"]),
        ({"count": 1}, [": 1 scenes", "| validation | 1 |", "1 to 1, mean 1.00"]),
    ],
    ids=["all too far", "all too near", "all out of sight", "one scene"],
)
def test_the_card_of_a_dataset_without_boxes_or_depth_says_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: list[str]
) -> None:
    """A run refuses params that show nothing at all; two scenes may have nothing by chance."""
    monkeypatch.setattr(generate, "blind_sensor", lambda params: None)
    render_dataset(tiny(**{"count": 2, **changes}), tmp_path, workers=1, progress=False)
    text = write_card(open_dataset(tmp_path), tmp_path / "card").read_text()
    for words in said:
        assert words in text
    assert "nan" not in text
    for plot in ("plots.png", "scenes.png"):
        assert cv2.imread(str(tmp_path / "card" / plot)).std() > 10


def test_a_card_replaces_a_card_and_nothing_else(dataset: Dataset, tmp_path: Path) -> None:
    first = write_card(dataset, tmp_path / "card").read_bytes()
    assert write_card(dataset, tmp_path / "card").read_bytes() == first
    for name in ("README.md", "plots.png"):
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_text("# My project")
        with pytest.raises(ValueError, match=f"{name}: is not of an earlier card; name another"):
            write_card(dataset, folder)
        assert [path.read_text() for path in folder.iterdir()] == ["# My project"]


@pytest.mark.parametrize("most", [10, 20, 1000])
def test_the_card_copies_no_more_scenes_than_it_checks(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Of shards of 16 scenes: some of one, of two, and all that there are."""
    whole = np.concatenate([dataset.shard(i) for i in range(3)])
    copied: list[np.ndarray] = []
    real = np.concatenate

    def watched(arrays: list[np.ndarray]) -> np.ndarray:
        joined = real(arrays)
        if joined.dtype == whole.dtype:
            copied.append(joined)
        return joined

    monkeypatch.setattr(card, "CHECKED_SCENES", most)
    monkeypatch.setattr(np, "concatenate", watched)
    card._gather(dataset)
    assert [scenes.tobytes() for scenes in copied] == [whole[:most].tobytes()]


def test_preview_draws_boxes_on_all_three(tmp_path: Path) -> None:
    preview(tiny(), [3, 4, 5], tmp_path / "sheet.png", side=96)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * 97, 2 * 3 * 97, 3)
    assert sheet[80:97, 2 * 97 + 40 : 2 * 97 + 55, 2].max() == 255  # the camera's red square


def test_commands_end_to_end(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "scenegen", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    folder, settings = tmp_path / "data", tmp_path / "params.json"
    settings.write_text(tiny(count=4).model_dump_json())
    made = run("render", str(folder), "--workers", "1", "--params", str(settings))
    assert made.returncode == 0, made.stderr
    assert "4 scenes" in made.stdout
    assert run("verify", str(folder)).returncode == 0
    exported = run("export", "coco", str(folder), str(tmp_path / "coco"), "--modality", "depth")
    assert exported.returncode == 0, exported.stderr
    (folder / "shard-00001.npy").write_bytes(b"")
    refused = run("verify", str(folder))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "shard-00001.npy" in refused.stderr
    spec, sheet = tmp_path / "scene.json", tmp_path / "one.png"
    spec.write_text(run("show", "--scene", "2").stdout)
    alone = run("preview", "--spec", str(spec), "--out", str(sheet))
    assert alone.returncode == 0, alone.stderr
    same = tmp_path / "same.png"
    assert run("preview", "--scene", "2", "--scenes", "1", "--out", str(same)).returncode == 0
    assert cv2.imread(str(sheet)).std() > 10
    assert sheet.read_bytes() == same.read_bytes()
    for wrong in (["--spec", str(tmp_path / "none.json")], ["--scenes", "0"]):
        refused = run("preview", *wrong, "--out", str(sheet))
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert wrong[1] in refused.stderr


def test_a_spec_is_drawn_whatever_the_params_allow(tmp_path: Path) -> None:
    """Three objects, two of kinds that the params do not draw."""
    spec = sample_scene(tiny(objects={"count": [3, 3], "scale": [0.4, 0.6]}), 1)
    assert len({thing.kind for thing in spec.objects}) == 3
    path, sheets = tmp_path / "scene.json", [tmp_path / "few.png", tmp_path / "all.png"]
    path.write_text(json.dumps(spec.to_dict()))
    for sheet, classes in zip(sheets, [[spec.objects[0].kind], CLASSES], strict=True):
        allowed = f"objects.classes={json.dumps(classes)}"
        command = ["preview", "--spec", str(path), "--out", str(sheet), "--set", allowed]
        assert main(command) == 0
    assert sheets[0].read_bytes() == sheets[1].read_bytes()
    assert cv2.imread(str(sheets[0])).std() > 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["objects"][0].update(kind="cone"), "objects.0.kind Input should be 'cube'"),
        (lambda d: d["objects"][0].update(scale=0), "objects.0.scale Input should be greater"),
        (lambda d: d["objects"][0].update(x="left"), "objects.0.x Input should be a valid number"),
        (lambda d: d["camera"].update(field_of_view=180), "camera.field_of_view Input should be"),
        (lambda d: d.update(light=[1, 2]), "light Input should be"),
        (lambda d: d.pop("floor_hsv"), "floor_hsv Field required"),
        (lambda d: d.update(walls=2), "walls Unexpected keyword argument"),
    ],
)
def test_a_spec_that_is_none_is_one_line_with_file_and_key(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], Any],
    said: str,
) -> None:
    data, path = sample_scene(tiny(), 0).to_dict(), tmp_path / "scene.json"
    change(data)
    path.write_text(json.dumps(data))
    assert main(["preview", "--spec", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: these data do not describe a scene: {said}")

"""The exports, read back by the libraries they are for; whole or not there at all."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import datasets
import matplotlib
import numpy as np
import pytest
import webdataset

from scenegen import exports
from scenegen.boxes import tight_box
from scenegen.camera import depth_metres
from scenegen.dataset import Dataset, open_dataset
from scenegen.exports import EXPORTS, export_coco, export_hf, export_webdataset, export_yolo
from scenegen.generate import render_dataset
from scenegen.params import CLASSES
from scenegen.splits import SPLITS
from tests.scenegen.conftest import tiny

pytestmark = pytest.mark.slow

SIDES = {"image": 32, "depth": 32, "radar": 64}


def masks(record: np.void) -> list[np.ndarray]:
    """What Blender's object index shows of each object with a box."""
    return [record["index"] == place + 1 for place in np.flatnonzero(record["has_box"])]


def assert_depth(
    dataset: Dataset, split: str, place: int, picture: Any, limits: list[float]
) -> None:
    """All bits of the shards, and with the limits the metres that they store."""
    assert picture.dtype == np.uint16
    stored = dataset.records(split)[place]["depth"]
    np.testing.assert_array_equal(picture, stored)
    assert (picture % 257).any()  # no 8 bits are behind them
    near, far = limits
    metres = near + picture / 65535 * (far - near)
    np.testing.assert_allclose(metres, depth_metres(stored, dataset.params.depth), atol=1e-9)


@pytest.mark.parametrize("modality", SIDES)
def test_coco_has_the_boxes_and_pictures(dataset: Dataset, tmp_path: Path, modality: str) -> None:
    from pycocotools.coco import COCO

    out = tmp_path / "coco"
    export_coco(dataset, out, modality)
    for split in SPLITS:
        coco = COCO(str(out / "annotations" / f"{split}.json"))
        assert sorted(coco.getImgIds()) == dataset.scenes(split).tolist()
        assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
        assert coco.getCatIds(supNms="shape") == [1, 2, 3, 4]
        boxes = dataset.boxes(modality, split)
        for scene, (box, label) in zip(dataset.scenes(split).tolist(), boxes, strict=True):
            found = coco.loadAnns(coco.getAnnIds(imgIds=[scene]))
            assert [a["category_id"] for a in found] == (label + 1).tolist()
            corners = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in found)]
            np.testing.assert_allclose(np.reshape(corners, (-1, 4)), box)
        name = coco.loadImgs([int(dataset.scenes(split)[0])])[0]["file_name"]
        picture = cv2.imread(str(out / split / name))[..., ::-1]
        stored = dataset.array(modality, split)[0]
        if modality == "depth":
            every = cv2.imread(str(out / split / name), cv2.IMREAD_UNCHANGED)
            assert_depth(
                dataset, split, 0, every, coco.dataset["info"]["depth_metres_at_0_and_65535"]
            )
            assert np.abs(picture.astype(int) - stored).max() <= 1  # OpenCV's own 8 bits
        else:
            np.testing.assert_array_equal(picture, np.broadcast_to(stored, picture.shape))


@pytest.mark.parametrize("modality", ["image", "depth"])
def test_coco_masks_are_the_object_index(dataset: Dataset, tmp_path: Path, modality: str) -> None:
    from pycocotools.coco import COCO

    export_coco(dataset, tmp_path / "coco", modality)
    coco = COCO(str(tmp_path / "coco" / "annotations" / "train.json"))
    for record in dataset.records("train"):
        found = coco.loadAnns(coco.getAnnIds(imgIds=[int(record["scene"])]))
        for one, mask in zip(found, masks(record), strict=True):
            np.testing.assert_array_equal(coco.annToMask(one), mask)
            assert one["area"] == mask.sum()


def test_coco_shapes_of_the_radar_are_its_boxes(dataset: Dataset, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    export_coco(dataset, tmp_path / "coco", "radar")
    coco = COCO(str(tmp_path / "coco" / "annotations" / "train.json"))
    for one in coco.dataset["annotations"]:
        x, y, width, height = one["bbox"]
        assert one["area"] == pytest.approx(width * height)
        drawn = np.array(tight_box(coco.annToMask(one) > 0))
        np.testing.assert_allclose(drawn, [x, y, x + width, y + height], atol=1)


@pytest.mark.parametrize("modality", ["image", "radar"])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_coco_is_scored_and_drawn_by_pycocotools(
    dataset: Dataset, tmp_path: Path, modality: str, kind: str
) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    export_coco(dataset, tmp_path / "coco", modality)
    coco = COCO(str(tmp_path / "coco" / "annotations" / "train.json"))
    coco.info()
    truth = coco.dataset["annotations"]
    keys = ("image_id", "category_id", "bbox", *(["segmentation"] if kind == "segm" else []))
    found = coco.loadRes([{**{key: one[key] for key in keys}, "score": 1.0} for one in truth])
    score = COCOeval(coco, found, kind)
    score.evaluate()
    score.accumulate()
    score.summarize()
    assert score.stats[1] == pytest.approx(1.0)
    matplotlib.use("agg")
    coco.showAnns(truth[:3], draw_bbox=True)


def test_an_object_that_the_index_lacks_has_its_box_for_a_mask(dataset: Dataset) -> None:
    record = dataset.records("train")[0].copy()
    record["index"] = 0
    place = np.flatnonzero(record["has_box"])[0]
    one = exports._annotation(dataset.sensor("image"), record, place)
    x0, y0, x1, y1 = record["box"][place].tolist()
    assert one["segmentation"] == [[x0, y0, x1, y0, x1, y1, x0, y1]]
    assert one["area"] == (x1 - x0) * (y1 - y0)


@pytest.mark.parametrize("modality", SIDES)
def test_yolo_loads_with_ultralytics_wherever_it_lies(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modality: str
) -> None:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    export_yolo(dataset, tmp_path / "made", modality)
    out = Path(shutil.move(tmp_path / "made", tmp_path / "moved"))
    for folder, name in ((tmp_path, str(out / "data.yaml")), (out, "data.yaml")):
        monkeypatch.chdir(folder)
        data = check_det_dataset(name, autodownload=False)
        assert list(data["names"].values()) == list(CLASSES)
        for key, split in zip(("train", "val", "test"), SPLITS, strict=True):
            assert Path(data[key]) == out / "images" / split
    loaded = YOLODataset(img_path=data["train"], data=data, imgsz=32, augment=False)
    boxes = dataset.boxes(modality, "train")
    assert len(loaded.labels) == len(boxes)
    scenes = [int(Path(one["im_file"]).stem) for one in loaded.labels]
    place = dataset.scenes("train").tolist().index(scenes[0])
    picture = loaded.load_image(0)[0]
    assert picture.dtype == np.uint8
    stored = dataset.array(modality, "train")[place]
    size = (stored.shape[1], stored.shape[0])
    shown = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)[..., ::-1]
    if modality == "image":
        np.testing.assert_array_equal(shown, stored)
    if modality == "depth":
        assert np.abs(shown.astype(int) - stored).max() <= 1
        every = cv2.imread(loaded.labels[0]["im_file"], cv2.IMREAD_UNCHANGED)
        assert_depth(dataset, "train", place, every, data["depth_metres_at_0_and_65535"])
    by_file = {Path(one["im_file"]).stem: one for one in loaded.labels}
    for scene, (box, label) in zip(dataset.scenes("train"), boxes, strict=True):
        one = by_file[f"{scene:06d}"]
        assert one["cls"].ravel().astype(int).tolist() == label.tolist()
        centre, size = (one["bboxes"][:, k : k + 2] * SIDES[modality] for k in (0, 2))
        np.testing.assert_allclose(np.c_[centre - size / 2, centre + size / 2], box, atol=1e-3)


def assert_facts(dataset: Dataset, split: str, place: int, row: dict[str, Any]) -> None:
    """What an export tells of a scene beside its pictures, as the shards have it."""
    record = dataset.records(split)[place]
    for prefix, modality in (("", "image"), ("radar_", "radar")):
        box, label = dataset.boxes(modality, split)[place]
        np.testing.assert_allclose(np.reshape(row[f"{prefix}boxes"], (-1, 4)), box)
        assert row[f"{prefix}labels"] == label.tolist()
    for name in ("position", "scale", "yaw", "hsv"):
        np.testing.assert_array_equal(row[name], record[name][record["has_box"]])
    for name in ("floor_hsv", "backdrop_hsv", "intrinsics", "camera_to_world"):
        np.testing.assert_array_equal(row[name], record[name])
    limits = dataset.params.depth
    assert (row["depth_near"], row["depth_far"]) == (limits.near, limits.far)


def test_hugging_face_loads_the_parquet(dataset: Dataset, tmp_path: Path) -> None:
    export_hf(dataset, tmp_path / "hf")
    files = {split: str(tmp_path / "hf" / f"{split}.parquet") for split in SPLITS}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert loaded["test"]["scene"][:] == dataset.scenes("test").tolist()
    for name in ("labels", "radar_labels"):
        assert loaded["train"].features[name].feature.names == list(CLASSES)
    row = loaded["train"][3]
    for modality in SIDES:
        if modality == "depth":
            limits = [row["depth_near"], row["depth_far"]]
            assert_depth(dataset, "train", 3, np.asarray(row["depth"]), limits)
            continue
        stored = dataset.array(modality, "train")[3]
        np.testing.assert_array_equal(np.asarray(row[modality]), stored.squeeze())
    assert_facts(dataset, "train", 3, row)


def test_hugging_face_metadata_name_no_type_that_earlier_releases_lack(
    dataset: Dataset, tmp_path: Path
) -> None:
    """Of `datasets` 3.6: it refuses a parquet file of any other type."""
    import pyarrow.parquet as pq

    export_hf(dataset, tmp_path / "hf")
    metadata = pq.read_schema(tmp_path / "hf" / "train.parquet").metadata[b"huggingface"]
    named = set(metadata.decode().split('"_type": "')[1:])
    known = {"Value", "Image", "ClassLabel", "Sequence"}
    assert {name.split('"')[0] for name in named} == known


@pytest.mark.parametrize("decoder", [(), ("pil",), ("rgb8",), ("torchrgb",), ("l8",)])
def test_webdataset_decodes_pictures_and_metres(
    dataset: Dataset, tmp_path: Path, decoder: tuple[str, ...]
) -> None:
    export_webdataset(dataset, tmp_path / "wds")
    tar = str(tmp_path / "wds" / "test-00000.tar")
    samples = list(webdataset.WebDataset(tar, shardshuffle=False).decode(*decoder))
    assert [int(s["__key__"]) for s in samples] == dataset.scenes("test").tolist()
    limits = dataset.params.depth
    for place, (sample, record) in enumerate(zip(samples, dataset.records("test"), strict=True)):
        kinds = {name for name in sample if not name.startswith("__")}
        assert kinds == {"image.png", "depth.png", "depth.npy", "radar.png", "json"}
        assert sample["depth.npy"].dtype == np.float32
        metres = limits.near + record["depth"] / 65535 * (limits.far - limits.near)
        np.testing.assert_allclose(sample["depth.npy"], metres, rtol=1e-6)
        assert_facts(dataset, "test", place, sample["json"])
        assert sample["json"]["classes"] == list(CLASSES)
        if decoder in (("pil",), ("rgb8",)):
            np.testing.assert_array_equal(np.asarray(sample["image.png"]), record["image"])
            np.testing.assert_array_equal(np.asarray(sample["radar.png"])[..., 0], record["radar"])
            shown = dataset.array("depth", "test")[place, ..., 0]
            np.testing.assert_array_equal(np.asarray(sample["depth.png"])[..., 0], shown)


@pytest.mark.parametrize("most", [1, 3, 8])
def test_tars_and_row_groups_share_the_scenes(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """The eight scenes of `test`, so many a file."""
    monkeypatch.setattr(exports, "SCENES_PER_FILE", most)
    export_webdataset(dataset, tmp_path / "wds")
    tars = sorted(map(str, (tmp_path / "wds").glob("test-*.tar")))
    assert len(tars) == -(-8 // most)
    samples = webdataset.WebDataset(tars, shardshuffle=False)
    assert [int(s["__key__"]) for s in samples] == dataset.scenes("test").tolist()
    export_hf(dataset, tmp_path / "hf")
    files = {"test": str(tmp_path / "hf" / "test.parquet")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert loaded["test"]["scene"][:] == dataset.scenes("test").tolist()


@pytest.mark.parametrize("name", EXPORTS)
def test_equal_data_give_equal_bytes(dataset: Dataset, tmp_path: Path, name: str) -> None:
    files = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        EXPORTS[name](dataset, folder, "image")
        made = [path for path in folder.rglob("*") if path.is_file()]
        files.append({path.relative_to(folder): path.read_bytes() for path in made})
    assert files[0] == files[1]


@pytest.mark.parametrize("name", EXPORTS)
def test_one_scene_is_exported_too(tmp_path: Path, name: str) -> None:
    """Scene 0 is of `validation`: the other splits are empty."""
    render_dataset(tiny(count=1), tmp_path / "data", workers=1, progress=False)
    out = tmp_path / "out"
    EXPORTS[name](open_dataset(tmp_path / "data"), out, "image")
    if name == "coco":
        for split in SPLITS:
            whole = json.loads((out / "annotations" / f"{split}.json").read_text())
            assert [one["id"] for one in whole["images"]] == ([0] if split == "validation" else [])
    if name == "hf":
        assert [path.name for path in out.iterdir()] == ["validation.parquet"]
        cache, file = str(tmp_path / "cache"), str(out / "validation.parquet")
        assert len(datasets.Dataset.from_parquet(file, cache_dir=cache)) == 1
    if name == "webdataset":
        assert [path.name for path in out.iterdir()] == ["validation-00000.tar"]
    if name == "yolo":
        assert {path.name for path in (out / "images").iterdir()} == set(SPLITS)


# --- whole or not there ------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_takes_no_folder_that_holds_something(
    dataset: Dataset, tmp_path: Path, name: str
) -> None:
    """Tools read all that lies there: pictures of an earlier export would be among it."""
    (tmp_path / "old.png").touch()
    with pytest.raises(ValueError, match="is not empty"):
        EXPORTS[name](dataset, tmp_path, "image")
    with pytest.raises(ValueError, match="is a file; name a new folder"):
        EXPORTS[name](dataset, tmp_path / "old.png", "image")
    with pytest.raises(
        ValueError, match=r"'lidar' is not in this dataset; choose one of image, depth"
    ):
        EXPORTS[name](dataset, tmp_path / "new", "lidar")
    assert [path.name for path in tmp_path.iterdir()] == ["old.png"]


def test_an_empty_folder_is_taken_unless_a_shell_is_in_it(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    with pytest.raises(ValueError, match="in use by the system; name a new folder in it"):
        export_hf(dataset, Path())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("out")
    export_hf(dataset, Path("link"))
    assert {path.name for path in out.iterdir()} == {f"{split}.parquet" for split in SPLITS}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "link"}


def command(dataset: Dataset, name: str, out: Path, before: str = "") -> list[str]:
    words = f"{sys.executable} -m scenegen export {name} {dataset.folder} {out}"
    return ["bash", "-c", f"{before}exec {words}"]


@pytest.mark.parametrize("name", EXPORTS)
def test_a_full_disk_leaves_nothing_and_says_so(
    dataset: Dataset, tmp_path: Path, name: str
) -> None:
    """Of kibibytes a file may have: none at all for pictures, some for the files of many."""
    limit = f"ulimit -f {0 if name in ('coco', 'yolo') else 8}; "
    full = command(dataset, name, tmp_path / "out", limit)
    ran = subprocess.run(full, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr == f"{tmp_path / 'out'}: File too large; nothing is written\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", EXPORTS)
def test_a_killed_export_does_not_look_finished(
    dataset: Dataset, tmp_path: Path, name: str
) -> None:
    """Killed in the middle; the same command then makes it whole and clears what was left."""
    script = (
        "import os, signal, sys\nfrom scenegen import __main__, exports\n"
        "real, calls = exports.encode_png, iter(range(10**9))\n"
        "def dying(picture):\n"
        "    if next(calls) == 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(picture)\n"
        "exports.encode_png = dying\n"
        f"sys.exit(__main__.main(['export', {name!r}, *sys.argv[1:]]))\n"
    )
    out = tmp_path / "out"
    dying = [sys.executable, "-c", script, str(dataset.folder), str(out)]
    assert subprocess.run(dying, check=False).returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    (tmp_path / ".out.partial" / "stale.png").touch()
    subprocess.run(command(dataset, name, out), check=True, capture_output=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    EXPORTS[name](dataset, tmp_path / "unbroken", "image")
    one, two = (
        {path.relative_to(folder) for path in folder.rglob("*")}
        for folder in (out, tmp_path / "unbroken")
    )
    assert one == two


def test_two_exports_into_one_folder_do_not_meet(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with exports._whole(dataset, out, "image") as folder:
        (folder / "mine.png").touch()
        with pytest.raises(ValueError, match="another export is writing it"):
            export_hf(dataset, out)
    assert [path.name for path in out.iterdir()] == ["mine.png"]

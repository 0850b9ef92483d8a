"""A dataset in the formats that other tools read: COCO, YOLO, Hugging Face and WebDataset.

Every export has one sensor's pictures (for `hf` and `webdataset`, all of them) and the boxes that
belong to them. Depth has the 16 bits of the shards, with its limits in metres. Exports are copies
for other tools; the shards stay the dataset. An export goes into a folder of its own: tools read
all that lies there, an earlier export's pictures among it. The folder appears when the export is
whole: what was killed or found no room leaves none.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import itertools
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from base.files import PARTIAL, npy_bytes
from scenegen.camera import depth_metres
from scenegen.dataset import Dataset
from scenegen.preview import encode_png
from scenegen.sensors import Sensor

__all__ = ["EXPORTS", "export_coco", "export_hf", "export_webdataset", "export_yolo"]

SCENES_PER_FILE = 1000  # of a tar, and of a row group
DEPTH_LIMITS = "depth_metres_at_0_and_65535"
Picture = NDArray[np.uint8]
T = TypeVar("T")


def export_coco(dataset: Dataset, out: Path, modality: str = "image") -> None:
    """`SPLIT/000012.png` and `annotations/SPLIT.json`, categories and annotations from 1.

    Boxes are x, y, width, height. Segmentations are masks (uncompressed run lengths) of what
    Blender's object index shows; for a sensor with a plane of its own they are the boxes.

    Raises:
        ValueError: no such modality, a damaged shard, or `out` cannot become a new folder.
    """
    with _whole(dataset, out, modality) as folder:
        for split in dataset.splits:
            whole = _coco(dataset, split, modality, folder / split)
            _write(folder / "annotations" / f"{split}.json", json.dumps(whole).encode())


def _coco(dataset: Dataset, split: str, modality: str, folder: Path) -> dict[str, Any]:
    """Write a split's pictures; returns its annotation file."""
    sensor = dataset.sensor(modality)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in _records(dataset, split):
        scene, picture = int(record["scene"]), _picture(dataset, record, modality)
        name, (height, width) = f"{scene:06d}.png", picture.shape[:2]
        _write(folder / name, encode_png(picture))
        images.append({"id": scene, "file_name": name, "width": width, "height": height})
        for place in np.flatnonzero(record[sensor.box_fields[0]]):
            number = len(annotations) + 1  # pycocotools takes 0 for "no match"
            annotations.append({"id": number, **_annotation(sensor, record, place)})
    return {
        "info": _coco_info(dataset, modality),
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": i + 1, "name": name, "supercategory": "shape"}
            for i, name in enumerate(dataset.classes)
        ],
    }


def _coco_info(dataset: Dataset, modality: str) -> dict[str, Any]:
    """No date: equal data give equal bytes."""
    return {
        "description": f"{len(dataset)} rendered scenes: {modality}",
        "version": dataset.manifest.sha256,
        DEPTH_LIMITS: _limits(dataset),
    }


def _annotation(sensor: Sensor, record: np.void, place: np.intp) -> dict[str, Any]:
    x0, y0, x1, y1 = record[sensor.box_fields[1]][place].tolist()
    shown = record["index"] == place + 1
    masked = sensor.traits.plane == "picture" and shown.any()
    return {
        "image_id": int(record["scene"]),
        "category_id": int(record["label"][place]) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(shown.sum()) if masked else (x1 - x0) * (y1 - y0),
        "segmentation": _run_lengths(shown) if masked else [[x0, y0, x1, y0, x1, y1, x0, y1]],
        "iscrowd": 0,
    }


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's uncompressed run lengths: down the columns, first the pixels that are not set."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, mask.size]).tolist()}


def export_yolo(dataset: Dataset, out: Path, modality: str = "image") -> None:
    """`images/SPLIT/000012.png`, `labels/SPLIT/000012.txt` and `data.yaml` for ultralytics.

    The folder may be moved: `data.yaml` has no `path`, which stands for its own folder. It has the
    metres that 0 and 65535 of a depth picture stand for; ultralytics takes its upper 8 bits.

    Raises:
        ValueError: no such modality, a damaged shard, or `out` cannot become a new folder.
    """
    with _whole(dataset, out, modality) as folder:
        for split in dataset.splits:
            for kind in ("images", "labels"):  # ultralytics wants a split's folders, if empty
                (folder / kind / split).mkdir(parents=True)
            for record in _records(dataset, split):
                name, picture = f"{record['scene']:06d}", _picture(dataset, record, modality)
                _write(folder / "images" / split / f"{name}.png", encode_png(picture))
                fields = dataset.sensor(modality).box_fields
                text = _yolo_lines(record, fields, *picture.shape[:2])
                _write(folder / "labels" / split / f"{name}.txt", text.encode())
        names = "".join(f"  {i}: {name}\n" for i, name in enumerate(dataset.classes))
        splits = "train: images/train\nval: images/validation\ntest: images/test\n"
        limits = f"{DEPTH_LIMITS}: {_limits(dataset)}\n"
        _write(folder / "data.yaml", f"{splits}{limits}names:\n{names}".encode())


def _yolo_lines(record: np.void, fields: tuple[str, str], height: int, width: int) -> str:
    """A line per box: class, centre and size as shares of the picture."""
    has = record[fields[0]]
    x0, y0, x1, y1 = (record[fields[1]][has] / [width, height, width, height]).T
    rows = np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1)
    return "".join(
        f"{label} {' '.join(f'{v:.6f}' for v in row)}\n"
        for label, row in zip(record["label"][has], rows, strict=True)
    )


def export_hf(dataset: Dataset, out: Path, modality: str = "image") -> None:
    """`SPLIT.parquet` for Hugging Face `datasets`: all pictures and what is known of them.

    `datasets.load_dataset("parquet", data_files={"train": "OUT/train.parquet"})` reads them with
    pictures decoded and class names attached. Depth has 16 bits over [depth_near, depth_far].

    Raises:
        ValueError: pyarrow is not installed, no such modality, a damaged shard, or `out` cannot
            become a new folder.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError(
            "this export needs pyarrow; install it with: pip install pyarrow"
        ) from None
    fields, features = _hf_columns(dataset)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema(fields, metadata=metadata)
    with _whole(dataset, out, modality) as folder:
        for split in dataset.splits:
            rows = (_hf_row(dataset, record, modality) for record in _records(dataset, split))
            tables = (pa.Table.from_pylist(some, schema=schema) for some in _batches(rows))
            if first := next(tables, None):  # `datasets` refuses a file without rows
                with (
                    (folder / f"{split}.parquet").open("wb") as file,
                    pq.ParquetWriter(file, schema) as writer,
                ):
                    for table in itertools.chain([first], tables):
                        writer.write_table(table)


def _hf_columns(dataset: Dataset) -> tuple[list[tuple[str, Any]], dict[str, Any]]:
    """Every column's type, for pyarrow and in the words of `datasets`' own metadata.

    Lists are `Sequence` there: releases before 4 do not know `List`, later ones know both.
    """
    import pyarrow as pa

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns: dict[str, tuple[Any, dict[str, Any]]] = {
        "scene": (pa.int64(), {"dtype": "int64", "_type": "Value"}),
        **{m: (picture, {"_type": "Image"}) for m in dataset.modalities},
    }
    number = (pa.float64(), {"dtype": "float64", "_type": "Value"})
    labels = _list_of((pa.int64(), {"names": list(dataset.classes), "_type": "ClassLabel"}))
    boxes = _list_of(_list_of((pa.float32(), {"dtype": "float32", "_type": "Value"}), 4))
    vector, colour = _list_of(number), _list_of(number, 3)
    columns |= {"boxes": boxes, "labels": labels}
    for name in _own_planes(dataset):
        columns |= {f"{name}_boxes": boxes, f"{name}_labels": labels}
    columns |= {"position": _list_of(_list_of(number, 2)), "scale": vector, "yaw": vector}
    columns |= {"hsv": _list_of(colour), "floor_hsv": colour, "backdrop_hsv": colour}
    columns |= {"intrinsics": _list_of(_list_of(number, 3), 3)}
    columns |= {"camera_to_world": _list_of(_list_of(number, 4), 4)}
    columns |= {"depth_near": number, "depth_far": number}
    arrow = [(name, kind) for name, (kind, _) in columns.items()]
    return arrow, {name: feature for name, (_, feature) in columns.items()}


def _list_of(column: tuple[Any, dict[str, Any]], length: int = -1) -> tuple[Any, dict[str, Any]]:
    import pyarrow as pa

    kind, feature = column
    return pa.list_(kind, length), {"feature": feature, "length": length, "_type": "Sequence"}


def _hf_row(dataset: Dataset, record: np.void, modality: str) -> dict[str, Any]:
    pictures = {
        m: {"bytes": encode_png(_picture(dataset, record, m)), "path": None}
        for m in dataset.modalities
    }
    return {**pictures, **_facts(dataset, record, modality)}


def export_webdataset(dataset: Dataset, out: Path, modality: str = "image") -> None:
    """`SPLIT-00000.tar` with, per scene, `000012.SENSOR.png`, `000012.depth.npy`, `000012.json`.

    The array is float32 metres [H, W]: webdataset's own decoders squash a picture of 16 bits, so
    that the one of depth has 8. The JSON has the class names, boxes and labels of the modality, and
    what else is known of a scene.

    Raises:
        ValueError: no such modality, a damaged shard, or `out` cannot become a new folder.
    """
    with _whole(dataset, out, modality) as folder:
        for split in dataset.splits:
            for part, records in enumerate(_batches(_records(dataset, split))):
                with tarfile.open(folder / f"{split}-{part:05d}.tar", "w") as tar:
                    for record in records:
                        for name, data in _sample(dataset, record, modality).items():
                            _add_to_tar(tar, f"{record['scene']:06d}.{name}", data)


def _sample(dataset: Dataset, record: np.void, modality: str) -> dict[str, bytes]:
    metres = depth_metres(record["depth"], dataset.params.depth).astype(np.float32)
    about = {"classes": list(dataset.classes), **_facts(dataset, record, modality)}
    pictures = {f"{m}.png": encode_png(_shown(dataset, record, m)) for m in dataset.modalities}
    return {**pictures, "depth.npy": npy_bytes(metres), "json": json.dumps(about).encode()}


def _add_to_tar(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # its time stays 0, so that equal data give equal bytes
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _facts(dataset: Dataset, record: np.void, modality: str) -> dict[str, Any]:
    """What is known of a scene, as numbers and lists; rows of objects are those of `boxes`."""
    field, box = dataset.sensor(modality).box_fields
    has = record[field]
    objects = {name: record[name][has].tolist() for name in ("position", "scale", "yaw", "hsv")}
    own: dict[str, Any] = {}
    for name in _own_planes(dataset):
        there = record[f"has_{name}_box"]
        own[f"{name}_boxes"] = record[f"{name}_box"][there].tolist()
        own[f"{name}_labels"] = record["label"][there].tolist()
    whole = ("floor_hsv", "backdrop_hsv", "intrinsics", "camera_to_world")
    return {
        "scene": int(record["scene"]),
        "boxes": record[box][has].tolist(),
        "labels": record["label"][has].tolist(),
        **objects,
        **own,
        **{name: record[name].tolist() for name in whole},
        "depth_near": dataset.params.depth.near,
        "depth_far": dataset.params.depth.far,
    }


def _records(dataset: Dataset, split: str) -> Iterator[np.void]:
    """The records of a split, in order, read shard by shard."""
    scenes = dataset.scenes(split)
    for place, shard in enumerate(dataset.manifest.shards):
        rows = scenes[(scenes >= shard.first) & (scenes < shard.first + shard.count)] - shard.first
        records = dataset.shard(place)
        yield from (records[row] for row in rows.tolist())


def _batches(items: Iterator[T]) -> Iterator[list[T]]:
    while some := list(itertools.islice(items, SCENES_PER_FILE)):
        yield some


def _limits(dataset: Dataset) -> list[float]:
    """Metres at the least and the most of a stored depth."""
    return [dataset.params.depth.near, dataset.params.depth.far]


def _picture(dataset: Dataset, record: np.void, modality: str) -> Picture | NDArray[np.uint16]:
    """As `_shown`, but with all bits where the shards have 16 of them."""
    if modality in (record.dtype.names or ()) and record[modality].dtype == np.uint16:
        fine: NDArray[np.uint16] = record[modality]
        return fine
    return _shown(dataset, record, modality)


def _shown(dataset: Dataset, record: np.void, modality: str) -> Picture:
    """What networks see, without a channel if there is but one: [H, W, 3] or [H, W]."""
    picture = dataset.sensor(modality).picture(record, dataset.params)
    return picture if picture.shape[2] > 1 else picture[..., 0]


def _own_planes(dataset: Dataset) -> list[str]:
    """The sensors whose boxes are not the frame's."""
    return [name for name in dataset.modalities if dataset.sensor(name).own_boxes]


@contextlib.contextmanager
def _whole(dataset: Dataset, out: Path, modality: str) -> Iterator[Path]:
    """A folder to fill beside `out`, which becomes `out` when all is in it, or goes.

    Raises:
        ValueError: no such modality, `out` cannot become a new folder, or there is no room.
    """
    dataset.sensor(modality)
    out = Path(out).resolve()
    beside = out.with_name(f".{out.name}{PARTIAL}")
    try:
        _check_new(out)
        beside.mkdir(parents=True, exist_ok=True)
        with _alone(beside, out):
            _clear(beside)  # of what a killed export left
            try:
                yield beside
                beside.rename(out)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
    except OSError as error:
        raise ValueError(f"{out}: {error.strerror or error}; nothing is written") from None


def _check_new(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: is a file; name a new folder")
    if out.is_dir() and any(out.iterdir()):
        raise ValueError(f"{out}: is not empty; remove it, or name a new folder")
    if out.is_dir() and (os.path.ismount(out) or out == Path.cwd()):
        raise ValueError(f"{out}: is in use by the system; name a new folder in it")


@contextlib.contextmanager
def _alone(beside: Path, out: Path) -> Iterator[None]:
    """Hold the folder, so that two exports cannot remove each other's files."""
    handle = os.open(beside, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{out}: another export is writing it; wait for it") from None
        yield
    finally:
        os.close(handle)


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


EXPORTS: dict[str, Callable[[Dataset, Path, str], None]] = {
    "coco": export_coco,
    "yolo": export_yolo,
    "hf": export_hf,
    "webdataset": export_webdataset,
}

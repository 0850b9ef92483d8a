"""A dataset in the formats that other tools read: COCO, YOLO, Hugging Face and WebDataset.

Every export has one modality's pictures (for `hf` and `webdataset`, all three) and the boxes that
belong to them. Exports are copies for other tools; the shards stay the dataset. An export goes into
a folder of its own: tools read all that lies there, an earlier export's pictures among it.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from base.files import write_bytes
from scenegen.dataset import Boxes, Dataset
from scenegen.preview import encode_png

__all__ = ["EXPORTS", "export_coco", "export_hf", "export_webdataset", "export_yolo"]

SCENES_PER_TAR = 1000


def export_coco(dataset: Dataset, out: Path, modality: str = "image") -> None:
    """`SPLIT/000012.png` and `annotations/SPLIT.json` with boxes as x, y, width, height."""
    _own(out)
    categories = [{"id": i, "name": name} for i, name in enumerate(dataset.classes)]
    for split in dataset.splits:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for scene, picture, (boxes, labels) in _scenes(dataset, split, modality):
            name = f"{scene:06d}.png"
            _write(out / split / name, encode_png(picture))
            height, width = picture.shape[:2]
            images.append({"id": scene, "file_name": name, "width": width, "height": height})
            for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist(), strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # pycocotools takes 0 for "no match"
                        "image_id": scene,
                        "category_id": label,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": 0,
                    }
                )
        whole = {"images": images, "annotations": annotations, "categories": categories}
        _write(out / "annotations" / f"{split}.json", json.dumps(whole).encode())


def export_yolo(dataset: Dataset, out: Path, modality: str = "image") -> None:
    """`images/SPLIT/000012.png`, `labels/SPLIT/000012.txt` and `data.yaml` for ultralytics."""
    _own(out)
    for split in dataset.splits:
        for scene, picture, (boxes, labels) in _scenes(dataset, split, modality):
            _write(out / "images" / split / f"{scene:06d}.png", encode_png(picture))
            height, width = picture.shape[:2]
            lines = []
            for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist(), strict=True):
                centre = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
                size = (x1 - x0) / width, (y1 - y0) / height
                lines.append(" ".join([str(label), *(f"{v:.6f}" for v in (*centre, *size))]))
            text = "".join(f"{line}\n" for line in lines)
            _write(out / "labels" / split / f"{scene:06d}.txt", text.encode())
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(dataset.classes))
    splits = "train: images/train\nval: images/validation\ntest: images/test\n"
    head = f"path: {json.dumps(str(out.resolve()))}\n{splits}"
    _write(out / "data.yaml", f"{head}names:\n{names}".encode())


def export_hf(dataset: Dataset, out: Path, modality: str = "image") -> None:
    """`SPLIT.parquet` for Hugging Face `datasets`: the three pictures and the modality's boxes.

    `datasets.load_dataset("parquet", data_files={"train": "OUT/train.parquet"})` reads them with
    pictures decoded and class names attached.

    Raises:
        ValueError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError(
            "this export needs pyarrow; install it with: pip install pyarrow"
        ) from None
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [("scene", pa.int64()), *((m, picture) for m in dataset.modalities)]
    fields += [("boxes", pa.list_(pa.list_(pa.float32(), 4))), ("labels", pa.list_(pa.int64()))]
    features: dict[str, Any] = {
        "scene": {"dtype": "int64", "_type": "Value"},
        **{m: {"_type": "Image"} for m in dataset.modalities},
        "boxes": _list_of(_list_of({"dtype": "float32", "_type": "Value"}, 4)),
        "labels": _list_of({"names": list(dataset.classes), "_type": "ClassLabel"}),
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema(fields, metadata=metadata)
    _own(out)
    for split in dataset.splits:
        rows = list(_all_modalities(dataset, split, modality))
        table = pa.Table.from_pylist(rows, schema=schema)
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        write_bytes(out / f"{split}.parquet", buffer.getvalue())


def _list_of(feature: dict[str, Any], length: int = -1) -> dict[str, Any]:
    """A list feature in the words of `datasets`' own metadata."""
    return {"feature": feature, "length": length, "_type": "List"}


def _all_modalities(dataset: Dataset, split: str, modality: str) -> Iterator[dict[str, Any]]:
    arrays = {m: dataset.array(m, split) for m in dataset.modalities}
    boxes = dataset.boxes(modality, split)
    for i, scene in enumerate(dataset.scenes(split).tolist()):
        pictures = {
            m: {"bytes": encode_png(_squeeze(a[i])), "path": None} for m, a in arrays.items()
        }
        box, label = boxes[i]
        yield {"scene": scene, **pictures, "boxes": box.tolist(), "labels": label.tolist()}


def export_webdataset(dataset: Dataset, out: Path, modality: str = "image") -> None:
    """`SPLIT-00000.tar` with, per scene, `000012.image.png`, `.depth.png` (16 bits), `.radar.png`
    and `.json` (boxes and labels of the modality, K, camera to world)."""
    _own(out)
    for split in dataset.splits:
        records, boxes = dataset.records(split), dataset.boxes(modality, split)
        for part, start in enumerate(range(0, len(records), SCENES_PER_TAR)):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                for i in range(start, min(start + SCENES_PER_TAR, len(records))):
                    for name, data in _sample(records[i], boxes[i]).items():
                        _add_to_tar(tar, f"{records[i]['scene']:06d}.{name}", data)
            write_bytes(out / f"{split}-{part:05d}.tar", buffer.getvalue())


def _sample(record: np.void, boxes: Boxes) -> dict[str, bytes]:
    about = {
        "boxes": boxes[0].tolist(),
        "labels": boxes[1].tolist(),
        "intrinsics": record["intrinsics"].tolist(),
        "camera_to_world": record["camera_to_world"].tolist(),
    }
    pictures = {f"{m}.png": encode_png(record[m]) for m in ("image", "depth", "radar")}
    return {**pictures, "json": json.dumps(about).encode()}


def _add_to_tar(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # its time stays 0, so that equal data give equal bytes
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _scenes(
    dataset: Dataset, split: str, modality: str
) -> Iterator[tuple[int, NDArray[np.uint8], Boxes]]:
    pictures = dataset.array(modality, split)
    boxes = dataset.boxes(modality, split)
    for i, scene in enumerate(dataset.scenes(split).tolist()):
        yield scene, _squeeze(pictures[i]), boxes[i]


def _squeeze(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture[..., 0] if picture.shape[-1] == 1 else picture


def _own(out: Path) -> None:
    """Make the export's folder.

    Raises:
        ValueError: there is something in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise ValueError(f"{out}: is not empty; remove it, or name a new folder")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


EXPORTS: dict[str, Callable[[Dataset, Path, str], None]] = {
    "coco": export_coco,
    "yolo": export_yolo,
    "hf": export_hf,
    "webdataset": export_webdataset,
}

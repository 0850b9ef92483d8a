"""Stage `scenes`: rendered scenes with ten captions each, in CUB's own folder layout.

A scene's class is the shape and colour of the object that shows most, as a photograph's is its
bird's species; captions say more than that, and each leaves something out.
"""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import contextlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.running import stage
from scenegen.dataset import open_dataset
from scenegen.executors import RenderError
from scenegen.generate import render_dataset
from scenegen.manifest import read_manifest
from scenegen.params import CLASSES, ImageParams, ObjectParams, SceneParams
from studies.cub import CUB
from studies.cub.layout import CAPTIONS
from studies.cub.params import DataParams, SceneCount

__all__ = ["COLOURS", "FOLDER", "caption", "colour", "main", "write_layout"]

FOLDER = CUB.data / "scenes"
SHARDS = stage.CHECKPOINTS / CUB.name / "shards"  # outside DVC: a killed render is resumed
COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")  # sixths of the colour wheel
LARGE = 0.9  # scale from which an object is large


def colour(hue: float) -> str:
    """The name of a hue in [0, 1]: the nearest of six evenly spaced ones."""
    return COLOURS[round(hue * len(COLOURS)) % len(COLOURS)]


def scene_params(params: SceneCount) -> SceneParams:
    """One or two objects, small and large; everything else as the scenes of the root pipeline."""
    return SceneParams(
        seed=params.seed,
        count=params.count,
        shard_size=250,
        image=ImageParams(width=params.side, height=params.side, samples=4),
        objects=ObjectParams(count=(1, 2), scale=(0.6, 1.2)),
    )


def _thing(record: np.void, place: int, draws: np.random.Generator) -> str:
    """An object in words: its size most often, always its colour and shape."""
    large = record["scale"][place] >= LARGE
    words = [] if draws.random() < 0.2 else [str(draws.choice(SIZES[large]))]
    kind = CLASSES[int(record["label"][place])]
    return " ".join(["a", *words, colour(record["hsv"][place][0]), kind])


SIZES = {False: ("small", "little", "tiny"), True: ("large", "big")}


def _relation(record: np.void, place: int, other: int) -> str:
    """Where one object stands from another, along the axis in which they differ more."""
    x, y = record["position"][place] - record["position"][other]
    if abs(x) >= abs(y):
        return "left of" if x < 0 else "right of"
    return "in front of" if y < 0 else "behind"


def order(record: np.void) -> list[int]:
    """Places of the objects with a box, the one that shows most first."""
    places = np.flatnonzero(record["has_box"])
    return [int(p) for p in sorted(places, key=lambda p: -record["visible"][p])]


def caption(record: np.void, draws: np.random.Generator) -> str:
    """One sentence about a scene: `a small red cube left of a blue sphere on a green floor`."""
    main, *rest = order(record)
    floor = colour(record["floor_hsv"][0])
    words = _thing(record, main, draws)
    if rest and draws.random() < 0.8:
        words += f" {_relation(record, main, rest[0])} {_thing(record, rest[0], draws)}"
    end = draws.random()
    if end < 0.5:
        words += f" on a {floor} floor"
    elif end < 0.75:
        words = f"on a {floor} floor there is {words}"
    elif end < 0.9:
        words = f"there is {words}"
    return words


def class_name(record: np.void) -> str:
    """Shape and colour of the object that shows most."""
    main = order(record)[0]
    return f"{CLASSES[int(record['label'][main])]}_{colour(record['hsv'][main][0])}"


def write_layout(records: np.ndarray, folder: Path, seed: int) -> int:
    """Write scenes as `CUB_200_2011/` and `text_c10/`; how many had an object to speak of."""
    records = records[[bool(r["has_box"].any()) for r in records]]
    names = [class_name(r) for r in records]
    classes = {name: number for number, name in enumerate(sorted(set(names)), start=1)}
    root, rows, labels = folder / "CUB_200_2011", [], []
    for number, (record, name) in enumerate(zip(records, names, strict=True), start=1):
        relative = f"{classes[name]:03d}.{name}/scene_{int(record['scene']):06d}"
        draws = np.random.default_rng([seed, int(record["scene"])])
        lines = [caption(record, draws) for _ in range(CAPTIONS)]
        for path in (root / "images" / relative, folder / "text_c10" / relative):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(record["image"]).save(root / f"images/{relative}.jpg", quality=95)
        (folder / f"text_c10/{relative}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        rows.append(f"{number} {relative}.jpg\n")
        labels.append(f"{number} {classes[name]}\n")
    (root / "images.txt").write_text("".join(rows), encoding="utf-8")
    (root / "image_class_labels.txt").write_text("".join(labels), encoding="utf-8")
    listed = (f"{number} {number:03d}.{name}\n" for name, number in classes.items())
    (root / "classes.txt").write_text("".join(listed), encoding="utf-8")
    return len(records)


def main() -> None:
    """Render, or leave an empty folder where CUB's own files are asked for."""
    params = CUB.section("data", DataParams)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if params.source == "files":
        stage.write_bytes(FOLDER / "source", b"files\n")
        return
    try:
        render_dataset(scene_params(params.embedded), SHARDS)
    except RenderError as error:
        stage.fail(str(error))
    dataset = open_dataset(SHARDS)
    records = np.concatenate([dataset.records(split) for split in dataset.splits])
    records = records[np.argsort(records["scene"])]
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as scratch:
        whole = Path(scratch) / FOLDER.name
        count = write_layout(records, whole, params.embedded.seed)
        shutil.rmtree(FOLDER)
        whole.rename(FOLDER)
    print(f"{count:,} scenes, {count * CAPTIONS:,} captions")


def kept() -> str:
    """What an interrupted render keeps."""
    scenes = 0
    with contextlib.suppress(ValueError):  # nothing rendered yet
        scenes = sum(shard.count for shard in read_manifest(SHARDS).shards)
    return f"{scenes} scenes are kept in {SHARDS}, and the next run adds the rest"


if __name__ == "__main__":
    with CUB.running("scenes", kept):
        main()

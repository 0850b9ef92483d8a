"""A manifest that does not hold together is refused with one line that names file and key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenegen.dataset import open_dataset
from scenegen.layout import record_dtype
from scenegen.manifest import MANIFEST, Shard, make_manifest, read_manifest
from scenegen.params import SceneParams

PARAMS = SceneParams.model_validate({"count": 40, "shard_size": 16, "image": {"samples": 1}})
Content = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of forty black scenes, which nothing rendered."""
    shards = []
    for place, first in enumerate(range(0, PARAMS.count, PARAMS.shard_size)):
        records = np.zeros(min(PARAMS.shard_size, PARAMS.count - first), record_dtype(PARAMS))
        records["scene"] = first + np.arange(len(records))
        path = tmp_path / f"shard-{place:05d}.npy"
        np.save(path, records)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        shards.append(
            Shard(
                file=path.name,
                first=first,
                count=len(records),
                sha256=digest,
                fingerprint="0" * 64,
            )
        )
    make_manifest(PARAMS, "5.0.1", shards).write(tmp_path)
    return tmp_path


def edit(folder: Path, change: Callable[[Content], Any]) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


def test_what_is_written_is_read(folder: Path) -> None:
    dataset = open_dataset(folder)
    scenes = np.concatenate([dataset.records(split)["scene"] for split in dataset.splits])
    assert sorted(scenes.tolist()) == list(range(40))


def put(place: int, key: str, value: Any) -> Callable[[Content], Any]:
    return lambda content: content["shards"][place].update({key: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(format=1), "format = 1: "),
        (lambda m: m.update(count=-40), "count = -40: must be 40"),
        (lambda m: m.update(count="40"), "count = '40': "),
        (lambda m: m["params"].update(count=10**12), "params.count = 1000000000000: "),
        (lambda m: m.update(complete=False), "complete = False: must be True"),
        (lambda m: m.update(splits={"train": 40}), "splits = {'train': 40}: must be {'train': 30"),
        (lambda m: m.update(classes=["cube", "cone"]), "classes = ('cube', 'cone'): must be ("),
        (lambda m: m.update(sha256="0" * 64), "sha256 = '0000"),
        (lambda m: m.update(sha256="none"), "sha256 = 'none': "),
        (lambda m: m.update(more=1), "more = 1: "),
        (lambda m: m.pop("blender"), "blender: "),
        (lambda m: m["shards"].pop(1), "complete = True: must be False"),
        (lambda m: m["shards"].reverse(), "shards.1: scenes 16 to 31; must lie within 40 to 39"),
        (put(1, "first", 15), "shards.1: scenes 15 to 30; must lie within 16 to 39"),
        (put(2, "count", 10**18), "shards.2: scenes 32 to 1000000000000000031; must lie within 32"),
        (put(1, "count", -16), "shards.1.count = -16: "),
        (put(1, "count", 0), "shards.1.count = 0: "),
        (put(0, "first", True), "shards.0.first = True: "),
        (put(0, "sha256", "xyz"), "shards.0.sha256 = 'xyz': "),
        (put(0, "fingerprint", None), "shards.0.fingerprint: "),
        (put(0, "file", "../shard-00000.npy"), "shards.0.file = '../shard-00000.npy': "),
        (put(0, "file", "/etc/passwd"), "shards.0.file = '/etc/passwd': "),
        (put(1, "file", "shard-00000.npy"), "shards.1.file = 'shard-00000.npy': an earlier"),
    ],
)
def test_a_wrong_value_is_named(folder: Path, change: Callable[[Content], Any], said: str) -> None:
    edit(folder, change)
    with pytest.raises(ValueError, match="is not readable") as error:
        read_manifest(folder)
    told = str(error.value)
    assert told.startswith(f"{folder / MANIFEST} is not readable: {said}"), told
    assert told.endswith("; render anew")
    assert "\n" not in told


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"null"])
def test_what_is_no_manifest_at_all_is_named(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(ValueError, match=r"is not readable: .+; render anew$"):
        read_manifest(folder)


def other_type(folder: Path) -> None:
    """Scenes of another size of picture, in a file of the right name, length and hash."""
    small = PARAMS.model_copy(update={"radar": PARAMS.radar.model_copy(update={"width": 32})})
    replace(folder, np.zeros(16, record_dtype(small)))


def replace(folder: Path, records: np.ndarray) -> None:
    np.save(folder / "shard-00000.npy", records)
    content = json.loads((folder / MANIFEST).read_text())
    digests = [shard["sha256"] for shard in content["shards"]]
    digests[0] = hashlib.sha256((folder / "shard-00000.npy").read_bytes()).hexdigest()
    whole = hashlib.sha256("".join(digests).encode()).hexdigest()
    edit(folder, put(0, "sha256", digests[0]))
    edit(folder, lambda content: content.update(sha256=whole))


@pytest.mark.parametrize(
    "spoil",
    [
        other_type,
        lambda folder: replace(folder, np.zeros(15, record_dtype(PARAMS))),
        lambda folder: replace(folder, np.zeros((16, 2))),
    ],
    ids=["type", "length", "shape"],
)
def test_a_shard_of_something_else_is_named(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    with pytest.raises(ValueError, match=r"shard-00000\.npy holds .* render anew$"):
        open_dataset(folder)
    with pytest.raises(ValueError, match=r"shard-00000\.npy holds .* render anew$"):
        open_dataset(folder, verify=False).records("train")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_a_shard_that_is_no_array_is_named(folder: Path, content: bytes) -> None:
    (folder / "shard-00000.npy").write_bytes(content)
    dataset = open_dataset(folder, verify=False)
    with pytest.raises(ValueError, match=r"shard-00000\.npy is missing or damaged .*render anew$"):
        dataset.records("train")

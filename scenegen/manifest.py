"""The manifest: what the shards hold, what they were made from, and their hashes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from base.files import write_bytes
from scenegen.params import CLASSES, SceneParams
from scenegen.splits import SPLITS, split_scenes

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Manifest",
    "Shard",
    "fingerprint",
    "make_manifest",
    "read_manifest",
]

MANIFEST = "manifest.json"
FORMAT = 2  # raise it when the layout of the files changes


class Shard(BaseModel):
    """One file with the scenes `first` to `first + count - 1`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    first: int
    count: int
    sha256: str
    fingerprint: str


class Manifest(BaseModel):
    """A dataset folder, in one file. `complete` is false until every shard is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: int
    complete: bool
    sha256: str
    count: int
    splits: dict[str, int]
    classes: tuple[str, ...]
    blender: str
    params: SceneParams
    shards: tuple[Shard, ...]

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder, atomically."""
        write_bytes(folder / MANIFEST, (self.model_dump_json(indent=1) + "\n").encode())


def make_manifest(params: SceneParams, blender: str, shards: list[Shard]) -> Manifest:
    """A manifest of the shards that exist, in order of their scenes."""
    ordered = sorted(shards, key=lambda s: s.first)
    digest = hashlib.sha256("".join(s.sha256 for s in ordered).encode()).hexdigest()
    return Manifest(
        format=FORMAT,
        complete=sum(s.count for s in ordered) == params.count,
        sha256=digest,
        count=params.count,
        splits={s: len(split_scenes(s, params.count)) for s in SPLITS},
        classes=CLASSES,
        blender=blender,
        params=params,
        shards=tuple(ordered),
    )


def fingerprint(params: SceneParams, blender: str, code: str) -> str:
    """Tells what a shard was made from: all params but the count, Blender, and our own code.

    Args:
        blender: its version.
        code: the digest of what turns params into records, `worker.CODE`.
    """
    source: dict[str, Any] = {
        "format": FORMAT,
        "blender": blender,
        "code": code,
        "params": params.model_dump(mode="json", exclude={"count"}),
    }
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read a dataset's manifest.

    Raises:
        ValueError: it is missing, or does not hold what this version writes.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a dataset: it has no {MANIFEST}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise ValueError(f"{path} is not readable: {where} {first['msg']}; render anew") from None

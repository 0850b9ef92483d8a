"""The manifest: what the shards hold, what they were made from, and their hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from base.files import write_bytes
from base.params import Section
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
FORMAT: Final = 2  # raise it when the layout of the files changes


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^\w[\w.-]*$", description="of a file in the same folder")]


class Shard(Section):
    """One file with the scenes `first` to `first + count - 1`."""

    file: Name
    first: int = Field(ge=0)
    count: int = Field(ge=1)
    sha256: Digest
    fingerprint: Digest


class Manifest(Section):
    """A dataset folder, in one file. `complete` is false until every shard is there.

    Shards are in order of their scenes, and no scene is in two; there may be gaps until then.
    """

    format: Literal[2]  # FORMAT
    complete: bool
    sha256: Digest
    count: int
    splits: dict[str, int]
    classes: tuple[str, ...]
    blender: str
    params: SceneParams
    shards: tuple[Shard, ...]

    @model_validator(mode="after")
    def _shards_in_order(self) -> Self:
        end, names = 0, set[str]()
        for place, shard in enumerate(self.shards):
            if not end <= shard.first <= self.params.count - shard.count:
                raise ValueError(
                    f"shards.{place}: scenes {shard.first} to {shard.first + shard.count - 1}; "
                    f"must lie within {end} to {self.params.count - 1}"
                )
            if shard.file in names:
                raise ValueError(f"shards.{place}.file = {shard.file!r}: an earlier shard's file")
            end = shard.first + shard.count
            names.add(shard.file)
        return self

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        count = self.params.count
        for key, wanted in {
            "count": count,
            "splits": _splits(count),
            "classes": CLASSES,
            "complete": sum(shard.count for shard in self.shards) == count,
            "sha256": _digest(self.shards),
        }.items():
            if (value := getattr(self, key)) != wanted:
                raise ValueError(f"{key} = {value!r}: must be {wanted!r}")
        return self

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder, atomically."""
        write_bytes(folder / MANIFEST, (self.model_dump_json(indent=1) + "\n").encode())


def make_manifest(params: SceneParams, blender: str, shards: list[Shard]) -> Manifest:
    """A manifest of the shards that exist, in order of their scenes."""
    ordered = sorted(shards, key=lambda s: s.first)
    return Manifest(
        format=FORMAT,
        complete=sum(s.count for s in ordered) == params.count,
        sha256=_digest(ordered),
        count=params.count,
        splits=_splits(params.count),
        classes=CLASSES,
        blender=blender,
        params=params,
        shards=tuple(ordered),
    )


def _digest(shards: Iterable[Shard]) -> str:
    return hashlib.sha256("".join(shard.sha256 for shard in shards).encode()).hexdigest()


def _splits(count: int) -> dict[str, int]:
    return {split: len(split_scenes(split, count)) for split in SPLITS}


def fingerprint(params: SceneParams, blender: str, code: str) -> str:
    """Tells what a shard was made from: all params but the count, Blender, and our own code.

    Args:
        blender: its version.
        code: the digest of what turns params into records, `worker.code_of`.
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
        ValueError: it is missing, or does not hold what this version writes; names file and key.
    """
    path = folder / MANIFEST
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{folder} is not a dataset: it has no {MANIFEST}") from None
    except OSError as error:
        raise ValueError(f"{path} is not readable: {error.strerror}") from None
    except ValidationError as error:
        raise ValueError(f"{path} is not readable: {_explained(error)}; render anew") from None


def _explained(error: ValidationError) -> str:
    """The first mistake: its key, the value, what is allowed."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    value = first["input"]
    shown = f" = {value!r}" if isinstance(value, str | int | float) and where else ""
    return f"{where}{shown[:80]}: {what}".removeprefix(": ")

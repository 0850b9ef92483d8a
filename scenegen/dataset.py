"""Reading a dataset: numpy arrays by split and sensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from base.files import sha256_file
from scenegen import sensors
from scenegen.layout import record_dtype
from scenegen.manifest import MANIFEST, Manifest, Shard, read_manifest
from scenegen.sensors import Sensor
from scenegen.splits import SPLITS, split_scenes

__all__ = ["Boxes", "Dataset", "open_dataset"]

Boxes = tuple[NDArray[np.float32], NDArray[np.int64]]


def open_dataset(folder: Path, verify: bool = True) -> Dataset:
    """Open a finished dataset.

    Args:
        verify: compare every shard with the hash in the manifest

    Raises:
        ValueError: not a dataset, unfinished, or a shard is missing, truncated or altered.
    """
    manifest = read_manifest(Path(folder))
    if not manifest.complete:
        done = sum(s.count for s in manifest.shards)
        raise ValueError(
            f"{folder} is unfinished: {done} of {manifest.count} scenes; run the render again"
        )
    dataset = Dataset(Path(folder), manifest)
    if verify:
        dataset.verify()
    return dataset


class Dataset:
    """A finished dataset. Arrays are made on request; shards are memory-mapped."""

    splits = SPLITS

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.params = manifest.params

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is an index into them."""
        return self.manifest.classes

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of its sensors."""
        return self.params.sensors

    def __len__(self) -> int:
        return self.manifest.count

    def scenes(self, split: str) -> NDArray[np.int64]:
        """Scene numbers of a split, ascending: [N]."""
        return split_scenes(split, self.manifest.count)

    def shard(self, place: int) -> NDArray[np.void]:
        """The records of one shard, memory-mapped and read-only: [n] of `record_dtype(params)`.

        Raises:
            ValueError: the file is missing, damaged, or holds something else.
        """
        shard = self.manifest.shards[place]
        path = self.folder / shard.file
        try:
            records = np.lib.format.open_memmap(path, mode="r")
        except Exception as error:  # NumPy evaluates a damaged header, and raises what comes
            raise ValueError(f"{path} is missing or damaged ({error}); render anew") from None
        if records.dtype != record_dtype(self.params) or records.shape != (shard.count,):
            raise ValueError(
                f"{path} holds {records.dtype.name} {list(records.shape)}, "
                f"not the {shard.count} scenes of {MANIFEST}; render anew"
            )
        return records

    def records(self, split: str) -> NDArray[np.void]:
        """Everything stored about the scenes of a split, in RAM: [N] of the record dtype."""
        return np.concatenate([r[rows] for r, rows in self._parts(split)])

    def array(self, modality: str, split: str, most: int | None = None) -> NDArray[np.uint8]:
        """What networks see: uint8 [N, H, W, C].

        Args:
            most: only the first scenes of the split, so many; all by default.

        Raises:
            ValueError: no such modality or split.
        """
        sensor, parts = self.sensor(modality), self._parts(split, most)
        if sensor.traits.stored:
            values = np.concatenate([records[modality][rows] for records, rows in parts])
        else:
            values = np.array(
                [sensor.picture(r[row], self.params) for r, rows in parts for row in rows], np.uint8
            )
        return values.reshape(-1, *sensor.shape(self.params))

    def boxes(self, modality: str, split: str, most: int | None = None) -> list[Boxes]:
        """Per scene: boxes float32 [n, 4] (x0 y0 x1 y1, pixels of the modality), labels [n].

        Of the first `most` scenes of the split; all by default.
        """
        fields = [*self.sensor(modality).box_fields, "label"]
        parts = [tuple(r[f][rows] for f in fields) for r, rows in self._parts(split, most)]
        has, box, label = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return [(b[h], c[h].astype(np.int64)) for h, b, c in zip(has, box, label, strict=True)]

    def verify(self) -> None:
        """Compare every shard with its hash.

        Raises:
            ValueError: names the first shard that is missing, truncated or altered.
        """
        for place, shard in enumerate(self.manifest.shards):
            self._verify(shard)
            self.shard(place)  # a hash alone says nothing of what the manifest's writer hashed

    def _verify(self, shard: Shard) -> None:
        path = self.folder / shard.file
        if not path.is_file():
            raise ValueError(f"{path} is missing; render anew")
        if sha256_file(path) != shard.sha256:
            raise ValueError(f"{path} is truncated or altered; render anew")

    def _parts(
        self, split: str, most: int | None = None
    ) -> list[tuple[NDArray[np.void], NDArray[np.int64]]]:
        """The shards with the split's first `most` scenes, each with the rows of these in it."""
        scenes = self.scenes(split)[:most]
        parts: list[tuple[NDArray[np.void], NDArray[np.int64]]] = []
        for place, shard in enumerate(self.manifest.shards):
            inside = (scenes >= shard.first) & (scenes < shard.first + shard.count)
            if inside.any() or not parts:  # one at least, for the arrays' shape and type
                parts.append((self.shard(place), scenes[inside] - shard.first))
        return parts

    def sensor(self, modality: str) -> Sensor:
        """One of its sensors.

        Raises:
            ValueError: the dataset has none of that name; says which it has.
        """
        if modality not in self.modalities:
            raise ValueError(
                f"modality {modality!r:.60} is not in this dataset; choose one of "
                f"{', '.join(self.modalities)}"
            )
        return sensors.get(modality)

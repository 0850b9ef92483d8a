"""One model of a grid: its name, and the files that it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """A cell of a grid, or a modality alone, trained with a seed; written as poe-ecg-0.

    Attributes:
        cell: the cell's name, or the modality's.
    """

    cell: str
    seed: int

    @classmethod
    def parse(cls, name: str) -> Run:
        """The run that has this name.

        Raises:
            ValueError: it is no run's.
        """
        cell, _, seed = name.rpartition("-")
        if not cell or not seed.isdecimal() or seed != str(int(seed)):
            raise ValueError(f"{name}: is not CELL-SEED, as poe-ecg-0 is")
        return cls(cell, int(seed))

    def __str__(self) -> str:
        return f"{self.cell}-{self.seed}"

    def model(self, data: Path) -> Path:
        """Where the trained model lies, below the folder of a study's data."""
        return data / f"models/{self}.safetensors"

    def curves(self, data: Path) -> Path:
        """The learning curves: a folder as DVCLive lays it out."""
        return data / f"curves/{self}"

    def samples(self, data: Path) -> Path:
        """What the model generated, for pictures."""
        return data / f"samples/{self}.npz"

    def bootstrap(self, data: Path) -> Path:
        """The scores on every resample."""
        return data / f"bootstrap/{self}.npz"

    def faults(self, data: Path) -> Path:
        """The scores under faults."""
        return data / f"faults/{self}.npz"

    def training(self, results: Path) -> Path:
        """What the training came to, below the folder of a study's results."""
        return results / f"models/{self}.json"

    def times(self, results: Path) -> Path:
        """How long the training took, the one result that another machine has otherwise."""
        return results / f"times/{self}.json"

    def scores(self, results: Path) -> Path:
        """The scores."""
        return results / f"scores/{self}.json"

    def checkpoints(self, folder: Path) -> Path:
        """The training's checkpoints, below the folder of a study's."""
        return folder / str(self)

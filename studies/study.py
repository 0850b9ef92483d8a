"""Where a study's params, data and results lie, and its grid of cells."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel

from pipeline.run import Run
from pipeline.running import stage

__all__ = ["CUB", "MNIST_SVHN", "STUDIES", "Study", "device"]

Loaded = TypeVar("Loaded", bound=BaseModel)
Found = TypeVar("Found")


def device() -> str:
    """The device that DEVICE names in the environment, else a GPU if there is one."""
    import torch  # seconds that checks and reports do without

    return stage.device() or ("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Study:
    """One study: its name is that of its folder.

    Attributes:
        modalities: names of the two modalities, in the models' order.
    """

    name: str
    modalities: tuple[str, str]

    @property
    def home(self) -> Path:
        """What is in git: dvc.yaml, params.yaml, code, results."""
        return Path("studies") / self.name

    @property
    def params(self) -> Path:
        """The study's own params.yaml."""
        return self.home / "params.yaml"

    @property
    def results(self) -> Path:
        """Tables, scores, pictures and the page, which are kept in git."""
        return self.home / "results"

    @property
    def data(self) -> Path:
        """DVC's outputs, which are not in git."""
        return Path("data/studies") / self.name

    @property
    def checkpoints(self) -> Path:
        """Outside every output: DVC deletes outputs before a run."""
        return stage.CHECKPOINTS / self.name

    @property
    def again(self) -> str:
        """The command that goes on, and makes what is missing."""
        return f"dvc repro {self.home}/dvc.yaml"

    def alone(self, run: Run) -> bool:
        """Whether the run is that of a single modality, as text-0 is."""
        return run.cell in self.modalities

    def section(self, name: str, schema: type[Loaded]) -> Loaded:
        """Section `name` of the study's params; one line per mistake and exit code 2."""
        return stage.section(name, schema, self.params)

    def load(self, schema: type[Loaded]) -> Loaded:
        """The whole of the study's params; one line per mistake and exit code 2."""
        return stage.whole(schema, self.params)

    def grid(self) -> dict[str, Any]:
        """The cells, by name, and the seeds; one line per mistake and exit code 2."""
        return self.section("grid", stage.Runs).model_dump()

    def running(self, name: str, kept: Callable[[], str]) -> AbstractContextManager[None]:
        """One run of the study's stage `name`, as `stage.running`.

        Its lock is `cub/train_vae@poe-ecg-0`, so that no study's stage waits for another's, nor
        for the root's of the same name.
        """
        return stage.running(f"{self.name}/{name}", kept, self.again, self.params)

    def asked_run(self, about: str | None) -> Run:
        """The run that a stage's command line names, as `stage.asked_run`."""
        parser = argparse.ArgumentParser(description=about)
        run: Run = stage.asked_run(parser, self.params, self.modalities).run
        return run

    def read(self, path: Path, how: Callable[[Path], Found]) -> Found:
        """As `stage.read`, of what this study's stages write."""
        return stage.read(path, how, self.again)

    def read_json(self, path: Path) -> Any:
        """As `stage.read_json`, of what this study's stages write."""
        return stage.read_json(path, self.again)

    def read_arrays(
        self, path: Path, names: Iterable[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """As `stage.read_arrays`, of what this study's stages write."""
        return stage.read_arrays(path, names, self.again)


MNIST_SVHN = Study("mnist_svhn", ("mnist", "svhn"))
CUB = Study("cub", ("image", "text"))
STUDIES = {study.name: study for study in (MNIST_SVHN, CUB)}

"""What the stages are told apart by: a study's params, data, results, and modules of its own.

A study is a folder in `studies/` and is found by its name. The root's is Shapes 3D: its dvc.yaml,
params.yaml and results are the project's own.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.run import Run
from pipeline.running import stage

__all__ = ["FOLDER", "ROOT", "STUDIES", "Study", "asked_run", "asked_study", "device"]

FOLDER = Path(__file__).parents[1] / "studies"

Loaded = TypeVar("Loaded", bound=BaseModel)
Found = TypeVar("Found")


def device() -> str:
    """The device that DEVICE names in the environment, else a GPU if there is one."""
    import torch  # seconds that checks and reports do without

    return stage.device() or ("cuda" if torch.cuda.is_available() else "cpu")


def asked_study(about: str | None) -> Study:
    """The study that a stage's command line names; the stage does what `about` says."""
    parser = argparse.ArgumentParser(description=about)
    _add_study(parser)
    return STUDIES[parser.parse_args().study]


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--study", choices=STUDIES, default=ROOT.name, help="whose (default: %(default)s)"
    )


def asked_run(about: str | None, of: Study | None = None) -> tuple[Study, Run]:
    """The study and the run that a stage's command line names.

    One line and exit code 2 if the study's params ask for no such run.

    Args:
        about: what the stage does.
        of: the only study that the stage knows; it then has no option `--study`.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("run", help="a cell or a modality, and its seed, as in poe-ecg-0")
    if of is None:
        _add_study(parser)
    options = parser.parse_args()
    study = of or STUDIES[options.study]
    grid = study.section("grid", stage.Runs)
    names = (*grid.cells, *study.modalities)
    try:
        run = Run.parse(options.run)
    except ValueError:
        run = None
    if run is None or run.cell not in names or run.seed not in grid.seeds:
        stage.fail(
            f"{stage.cut(options.run)}: not a run of {study.params}; a run is NAME-SEED, NAME one "
            f"of {stage.cut(', '.join(names), 300)}, SEED one of {stage.cut(str(grid.seeds))}"
        )
    return study, run


class Modalities(BaseModel):
    """What of the `vae:` section names the modalities."""

    model_config = ConfigDict(strict=True)

    modalities: dict[str, Any] = Field(min_length=1)


@dataclass(frozen=True)
class Study:
    """One study: its name is that of its folder in `studies/`. All paths are from the root."""

    name: str

    @property
    def home(self) -> Path:
        """Where dvc.yaml, params.yaml and results lie, which are in git."""
        return Path() if self.name == "shapes3d" else Path("studies") / self.name

    @property
    def params(self) -> Path:
        """The study's own params.yaml."""
        return self.home / "params.yaml"

    @property
    def definition(self) -> Path:
        """The study's own dvc.yaml."""
        return self.home / "dvc.yaml"

    @property
    def presets(self) -> Path:
        """A file of values for each preset."""
        return FOLDER / self.name / "presets"

    @property
    def results(self) -> Path:
        """Tables, scores, pictures and the page, which are kept in git."""
        return self.home / "results"

    @property
    def data(self) -> Path:
        """DVC's outputs, which are not in git."""
        return Path("data") / self.home

    @property
    def checked(self) -> Path:
        """What `check` writes: the digest of the code of each stage, cell and detector."""
        return self.data / "checked"

    @property
    def checkpoints(self) -> Path:
        """Outside every output: DVC deletes outputs before a run."""
        return stage.CHECKPOINTS / self.scope

    @property
    def scope(self) -> str:
        """What a stage's name begins with, so that no study's waits for another's: `cub/`."""
        return "" if self.home == Path() else f"{self.name}/"

    @property
    def again(self) -> str:
        """The command that goes on, and makes what is missing."""
        return "dvc repro" if self.home == Path() else f"dvc repro {self.definition}"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that the params ask for, in their order."""
        return tuple(self.section("vae", Modalities).modalities)

    def part(self, name: str) -> ModuleType:
        """A module that the study is made of, such as its loader."""
        return importlib.import_module(f"studies.{self.name}.{name}")

    def alone(self, run: Run) -> bool:
        """Whether the run is that of a single modality, as text-0 is."""
        return run.cell in self.modalities

    def section(self, name: str, schema: type[Loaded]) -> Loaded:
        """Section `name` of the study's params; one line per mistake and exit code 2."""
        return stage.section(name, schema, self.params)

    def load(self, schema: type[Loaded]) -> Loaded:
        """The whole of the study's params; one line per mistake and exit code 2."""
        return stage.whole(schema, self.params)

    def running(
        self, name: str, kept: Callable[[], str], onward: str | None = None
    ) -> AbstractContextManager[None]:
        """One run of the study's stage `name`, as `stage.running`."""
        return stage.running(self.scope + name, kept, onward or self.again, self.params)

    def note(self, name: str) -> dict[str, Any] | None:
        """What the last run of a stage noted of itself, as `stage.read_run`."""
        return stage.read_run(stage.RUNS / f"{self.scope}{name}.json")

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


ROOT = Study("shapes3d")
STUDIES = {
    file.parent.name: Study(file.parent.name) for file in sorted(FOLDER.glob("*/__init__.py"))
}

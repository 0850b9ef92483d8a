"""`pip install .`: the generator, the models and the detector as a library, from any folder."""

from __future__ import annotations

import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT, clone, run

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RANGES = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]

USE = """
from pathlib import Path
import torch
from detector import kinds
from detector.params import DetectorParams
from models.params import Cell, ModalityParams, NetworkParams, TrainingParams, VAEParams
from models.training import train
from models.vae import MultimodalVAE
from scenegen.dataset import open_dataset
from scenegen.generate import render_dataset
from scenegen.params import SceneParams

if __name__ == "__main__":
    image = {"width": 32, "height": 32, "samples": 1}
    scenes = SceneParams.model_validate({"count": 10, "image": image})
    render_dataset(scenes, Path("scenes"), workers=1, progress=False)
    pictures = {"image": open_dataset(Path("scenes")).array("image", "train")}
    params = VAEParams(
        modalities={"image": ModalityParams()},
        latent=2,
        network=NetworkParams(width=8, blocks=1),
        training=TrainingParams(steps=1, batch=2, threads=1),
    )
    cell = Cell(fusion="poe", objective="none")
    train(params, cell, pictures, pictures, seed=0, out=Path("vae"), checkpoints=Path("kept"))
    vae = MultimodalVAE.load(Path("vae"))
    kinds.load("yolov3-tiny")
    print(tuple(vae.sample(1, torch.Generator().manual_seed(0))["image"].shape))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what pip installs, and nothing else."""
    folder = tmp_path_factory.mktemp("install")
    project = clone(folder / "project")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    wheels = ("--no-deps", "--no-build-isolation", "--no-index")
    run(project, *pip, "wheel", "-q", *wheels, "-w", str(folder), ".")
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    run(folder, *pip, "install", "-q", *wheels, "--target", str(target), str(wheel))
    return target


def test_all_code_of_its_packages_is_installed_and_nothing_else(installed: Path) -> None:
    rooms = ("base", "detector", "models", "scenegen")
    ours = {str(f.relative_to(ROOT)) for room in rooms for f in (ROOT / room).rglob("*.py")}
    found = {str(f.relative_to(installed)) for f in installed.rglob("*.py")}
    assert found == ours
    assert {p.name for p in installed.iterdir() if not p.name.endswith(".dist-info")} == set(rooms)


def test_it_renders_trains_and_loads_in_another_folder(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE)
    done = run(tmp_path, sys.executable, "use.py", PYTHONPATH=str(installed))
    assert done.stdout.splitlines()[-1] == "(1, 3, 32, 32)"


@pytest.mark.parametrize("text", RANGES)
def test_what_is_pinned_is_in_the_librarys_range(text: str) -> None:
    asked = Requirement(text)
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.M))
    assert asked.specifier.contains(pins[asked.name])

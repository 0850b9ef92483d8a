"""Stage `check`: validate the whole of params.yaml before any other stage touches anything.

DVC deletes a stage's outputs before it runs its command, so a stage that refuses its own params
has already lost its last result. Every other stage depends on this one's constant output instead.

It also writes which code decides each stage, each cell of the grid and each detector
(`base/code.py`). A stage depends on these files and on no code, so that an edited fusion makes its
own cells stale and no others, and an edited docstring nothing.
"""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

from pathlib import Path

from base import lockfile
from base.files import explained
from models.params import Cell
from pipeline import params
from pipeline.cells import checked, write_checked
from pipeline.running.stage import PARAMS, fail
from scenegen.params import SceneParams
from scenegen.sight import blind_sensor

__all__ = ["check_sensors", "looked_up", "main", "wanted"]

FOLDER, DEFINITION = Path("data/checked"), Path("dvc.yaml")


def check_sensors(scenes: SceneParams) -> None:
    """One line and exit code 2 if a sensor would show no object."""
    if blind := blind_sensor(scenes):
        fail(f"{PARAMS}: scenes.{blind}")


def looked_up(config: params.Params) -> tuple[dict[str, Cell], dict[str, str], tuple[str, ...]]:
    """What a stage finds by a name: the cells, each modality's kind of detector, the sensors."""
    kinds = {
        modality: getattr(config.detector, modality).network for modality in config.vae.modalities
    }
    return {**config.grid.cells, "unimodal": config.grid.unimodal}, kinds, config.scenes.sensors


def wanted() -> dict[str, bytes]:
    """What it writes: file below `FOLDER` -> content, which changes if what it stands for does."""
    config = params.load()
    check_sensors(config.scenes)
    return checked(DEFINITION, *looked_up(config))


def main() -> None:
    """Check params.yaml, then write what the other stages depend on."""
    write_checked(FOLDER, wanted())


if __name__ == "__main__":
    lockfile.keep()
    try:
        main()
    except OSError as error:
        fail(f"check: {explained(error)}; what is finished is kept. To go on: dvc repro")
    lockfile.hand_over()

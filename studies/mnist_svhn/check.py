"""Stage `check`: validate the whole of the study's params before any stage touches anything."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

from pydantic import model_validator

from base import lockfile
from base.params import Section
from models.params import VAEParams
from pipeline.cells import GridParams, check_cells, checked, write_checked
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.params import ClassifierParams, DataParams, ReportParams
from studies.scoring import ScoreParams

__all__ = ["Params", "main", "wanted"]

MODALITIES = ("mnist", "svhn")


class Params(Section):
    """The whole of studies/mnist_svhn/params.yaml."""

    data: DataParams
    classifier: ClassifierParams
    vae: VAEParams
    grid: GridParams
    score: ScoreParams
    report: ReportParams

    @model_validator(mode="after")
    def _sections_agree(self) -> Params:
        if set(self.vae.modalities) != set(MODALITIES):
            names = sorted(self.vae.modalities)
            raise ValueError(f"vae.modalities = {names}: must be {sorted(MODALITIES)}")
        check_cells(self.vae, self.grid)
        return self


def wanted() -> dict[str, bytes]:
    """What it writes: file below the folder of what is checked -> content."""
    grid = MNIST_SVHN.load(Params).grid
    return checked(MNIST_SVHN.definition, {**grid.cells, "unimodal": grid.unimodal})


def main() -> None:
    """Check the params, then write what the other stages depend on."""
    write_checked(MNIST_SVHN.checked, wanted())


if __name__ == "__main__":
    lockfile.keep()
    main()
    lockfile.hand_over()

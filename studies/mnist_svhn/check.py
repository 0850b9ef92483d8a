"""Stage `check`: validate the whole of the study's params before any stage touches anything."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

from pydantic import model_validator

from base import lockfile
from base.params import Section
from models.params import VAEParams
from pipeline.cells import write_checked
from studies.checked import StudyGrid, check_cells
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.params import ClassifierParams, DataParams, ReportParams, ScoreParams

__all__ = ["Params", "main"]


class Params(Section):
    """The whole of studies/mnist_svhn/params.yaml."""

    data: DataParams
    classifier: ClassifierParams
    vae: VAEParams
    grid: StudyGrid
    score: ScoreParams
    report: ReportParams

    @model_validator(mode="after")
    def _sections_agree(self) -> Params:
        check_cells(MNIST_SVHN, self.vae, self.grid)
        return self


def main() -> None:
    """Check the params, then write what the other stages depend on."""
    grid = MNIST_SVHN.load(Params).grid
    cells = {**grid.cells, "unimodal": grid.unimodal}
    write_checked(MNIST_SVHN.data / "checked", MNIST_SVHN.home / "dvc.yaml", cells)


if __name__ == "__main__":
    lockfile.keep()
    main()
    lockfile.hand_over()

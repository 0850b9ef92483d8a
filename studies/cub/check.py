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
from studies.cub import CUB
from studies.cub.params import (
    CCAParams,
    DataParams,
    FeatureParams,
    ReportParams,
    TextParams,
)
from studies.scoring import ScoreParams

__all__ = ["Params", "main", "wanted"]

MODALITIES = ("image", "text")


class Params(Section):
    """The whole of studies/cub/params.yaml."""

    data: DataParams
    features: FeatureParams
    text: TextParams
    cca: CCAParams
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
        width = 2048 if self.features.extractor == "resnet101" else self.features.size
        if self.cca.size > min(width, self.text.size):
            raise ValueError(
                f"cca.size = {self.cca.size}: must be at most {min(width, self.text.size)}, the "
                "lesser of the numbers per picture and per word"
            )
        return self


def wanted() -> dict[str, bytes]:
    """What it writes: file below the folder of what is checked -> content."""
    grid = CUB.load(Params).grid
    return checked(CUB.definition, {**grid.cells, "unimodal": grid.unimodal})


def main() -> None:
    """Check the params, then write what the other stages depend on."""
    write_checked(CUB.checked, wanted())


if __name__ == "__main__":
    lockfile.keep()
    main()
    lockfile.hand_over()

"""The root's params.yaml, as the stage `check` looks at it."""

from __future__ import annotations

from pipeline import params
from pipeline.cells import LookedUp, fused
from pipeline.running.stage import PARAMS, fail
from pipeline.scoring.params import ScoreParams
from scenegen.sight import blind_sensor

__all__ = ["Params", "ScoreParams"]


class Params(params.Params):
    """The whole of params.yaml."""

    def looked_up(self) -> LookedUp:
        """What a stage finds by a name: the cells and what they fuse, detectors, sensors.

        One line and exit code 2 if a sensor would show no object.
        """
        if blind := blind_sensor(self.scenes):
            fail(f"{PARAMS}: scenes.{blind}")
        detectors = {m: self.detector.of(m) for m in self.vae.modalities}
        cells = {**self.grid.cells, "unimodal": self.grid.unimodal}
        return LookedUp(cells, fused(self.vae, self.grid), detectors, self.scenes.sensors)

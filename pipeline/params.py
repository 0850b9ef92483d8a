"""params.yaml as a whole: every room's section, typed, and the contradictions between rooms."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np
from pydantic import model_validator

from base.params import Section
from detector.params import Detectors
from models.params import VAEParams
from pipeline.cells import GridParams, check_cells
from pipeline.reporting.params import ReportParams
from pipeline.running.stage import PARAMS, cut, shown, whole
from pipeline.scoring.params import ScoreParams
from scenegen import sensors
from scenegen.geometry import centre_height
from scenegen.params import SceneParams
from scenegen.splits import split_scenes

__all__ = ["Params", "load"]


class Params(Section):
    """The whole of params.yaml."""

    scenes: SceneParams
    detector: Detectors
    vae: VAEParams
    grid: GridParams
    score: ScoreParams
    report: ReportParams

    @model_validator(mode="after")
    def _rooms_agree(self) -> Params:
        scored = list(self.vae.modalities)
        if len(scored) < 2 or not set(scored) <= set(self.scenes.sensors):
            raise ValueError(
                f"vae.modalities = {shown(scored)}: must be two or more of scenes.sensors, "
                f"{', '.join(self.scenes.sensors)}"
            )
        if unknown := set(self.detector.model_extra or {}) - set(sensors.names()):
            raise ValueError(
                f"detector.{cut(min(unknown))}: is no sensor; there are default, "
                f"{', '.join(sensors.names())}"
            )
        for name in scored:
            for key in self.detector.of(name).augmentation.colour_keys():
                if sensors.get(name).traits.channels == 1:
                    value = getattr(self.detector.of(name).augmentation, key)
                    raise ValueError(
                        f"detector.{name}.augmentation.{key} = {value}: must be 0: "
                        f"{name} has one channel and no colour"
                    )
            if self.vae.training.mirror and not sensors.get(name).traits.mirrors:
                raise ValueError(
                    f"vae.training.mirror = true: must be false with {name}, to which a mirrored "
                    "scene is not the mirror image"
                )
        for key, cell in self.grid.cells.items():
            fused = list(cell.sensors or ())
            if lacking := list(filter(None, map(self._lacking, fused))):
                raise ValueError(f"grid.cells.{key}.sensors = {shown(fused)}: {lacking[0]}")
        check_cells(self.vae, self.grid)
        if len(split_scenes("validation", self.scenes.count)) < 2:
            raise ValueError(
                f"scenes.count = {self.scenes.count}: must be 21 or more, "
                "which leaves two scenes for validation (one in twenty)"
            )
        test_scenes = len(split_scenes("test", self.scenes.count))
        for key, asked in (
            ("score.scenes", self.score.scenes),
            ("score.faults.scenes", self.score.faults.scenes),
        ):
            if asked > test_scenes:
                raise ValueError(
                    f"{key} = {asked}: scenes.count = {self.scenes.count} "
                    f"leaves {test_scenes} test scenes (one in five)"
                )
        return self

    def _lacking(self, name: str) -> str:
        """What a cell that names this sensor lacks; "" if nothing."""
        if name in self.vae.modalities:
            return ""
        if name not in sensors.names():
            return f"{shown(name)} is no sensor; there are {', '.join(self.vae.modalities)}"
        if name not in self.scenes.sensors:
            return f"{name} is not made; name it in scenes.sensors and in vae.modalities"
        return f"{name} is not one of vae.modalities, {', '.join(self.vae.modalities)}"

    @model_validator(mode="after")
    def _objects_are_seen(self) -> Params:
        """No object's middle is out of depth."""
        scenes, depths = self.scenes, []
        middles = [centre_height(name) for name in scenes.objects.classes]
        low, high = (math.radians(angle) for angle in scenes.camera.azimuth)
        for distance, up, azimuth, x, y, z in product(
            scenes.camera.distance,
            scenes.camera.height,
            np.linspace(low, high, 9),
            scenes.objects.area_x,
            scenes.objects.area_y,
            (min(middles) * scenes.objects.scale[0], max(middles) * scenes.objects.scale[1]),
        ):
            camera = np.array([distance * math.sin(azimuth), -distance * math.cos(azimuth), up])
            axis = np.array([0.0, 0.0, scenes.camera.look_height]) - camera
            depths.append(float((np.array([x, y, z]) - camera) @ axis / np.linalg.norm(axis)))
        if min(depths) < scenes.depth.near or max(depths) > scenes.depth.far:
            raise ValueError(
                f"scenes.depth = near {scenes.depth.near}, far {scenes.depth.far}: the middle of "
                f"an object may be {min(depths):.1f} to {max(depths):.1f} m away along the "
                "camera's axis, which must lie between them"
            )
        return self

    @model_validator(mode="after")
    def _networks_fit_the_data(self) -> Params:
        step = 16 if self.vae.network.kind == "cnn" else 8
        for name, modality in self.vae.modalities.items():
            height, width, _ = sensors.get(name).shape(self.scenes)
            for key, side in (("width", width), ("height", height)):
                if side % step:
                    raise ValueError(
                        f"scenes.{name}: the picture's {key} = {side}: must be a multiple of "
                        f"{step} for vae.network.kind = {self.vae.network.kind!r}"
                    )
            if modality.likelihood == "categorical":
                raise ValueError(
                    f"vae.modalities.{name}.likelihood = 'categorical': images are grey levels; "
                    "must be normal, laplace or bernoulli"
                )
        return self


def load(path: Path = PARAMS) -> Params:
    """Read and check params.yaml; one line per mistake and exit code 2."""
    return whole(Params, path)

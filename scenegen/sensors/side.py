"""A second colour camera, the same model as the first, further around the middle of the scene.

The scene is rendered once more from there: what hides behind an object from the first camera may
be seen. Boxes are told from depth of its own view, as the first camera's are from that of its own.

Left out: what the first camera leaves out, and time between the two shutters.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from base.params import Section
from scenegen.frame import Frame
from scenegen.params import SceneParams
from scenegen.scene import CameraSpec, SceneSpec
from scenegen.sensors import Boxes, Traits

TRAITS = Traits(letter="S", channels=3, plane="own", mirrors=False)


class Options(Section):
    """Where it stands."""

    azimuth: float = Field(
        default=60.0,
        ge=-180.0,
        le=180.0,
        description="degrees around the middle from the first camera, as camera.azimuth turns, "
        "-180 to 180",
    )


def camera(spec: SceneSpec, options: Options) -> CameraSpec:
    """The first camera turned about the vertical through the middle of the scene."""
    x, y, z = spec.camera.location
    angle = math.radians(options.azimuth)
    cos, sin = math.cos(angle), math.sin(angle)
    return replace(spec.camera, location=(cos * x - sin * y, sin * x + cos * y, z))


def observe(frame: Frame, options: Options, draws: np.random.Generator) -> NDArray[np.uint8]:
    """The picture from there, sRGB: [H, W, 3]."""
    return frame.image


def boxes(frame: Frame, options: Options) -> Boxes:
    """Those of its own view."""
    return frame.boxed, frame.box


def refuse(options: Options, scenes: SceneParams) -> str:
    """From behind the wall it would see no object."""
    farthest, wall = scenes.camera.distance[1], scenes.backdrop.distance
    if farthest < wall:
        return ""
    most = math.degrees(math.acos(-wall / farthest))
    turned = [options.azimuth + azimuth for azimuth in scenes.camera.azimuth]
    if all(abs((angle + 180.0) % 360.0 - 180.0) < most for angle in turned):
        return ""
    return (
        f"azimuth: {options.azimuth} puts the second camera behind the backdrop; allowed here: "
        f"{-most - scenes.camera.azimuth[0]:.1f} to {most - scenes.camera.azimuth[1]:.1f}"
    )

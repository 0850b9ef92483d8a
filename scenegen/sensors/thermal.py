"""A thermal camera: each object has a temperature of its own, drawn for the scene.

Temperatures follow neither colour nor light nor class, so that no other sensor tells them. The
lens blurs (a Gaussian), the detector adds noise of one standard deviation everywhere, and the grey
level is linear in the temperature.

Left out: emissivity and its fall at grazing angles, reflections, gradients within an object, heat
that flows into the floor, and drift of the detector. Floor and backdrop have one temperature.
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from base.params import Section
from scenegen.frame import Frame
from scenegen.params import Pair, within
from scenegen.sensors import Traits

TRAITS = Traits(letter="T")
Array = NDArray[np.float64]


class Options(Section):
    """Temperatures in degrees Celsius."""

    objects: Annotated[Pair, within(-50.0, 500.0)] = Field(
        default=(25.0, 60.0), description="of objects, degrees C, [low, high], -50 to 500"
    )
    surroundings: Annotated[Pair, within(-50.0, 500.0)] = Field(
        default=(10.0, 20.0), description="of floor and backdrop, degrees C, [low, high]"
    )
    shown: Annotated[Pair, within(-50.0, 500.0)] = Field(
        default=(5.0, 65.0), description="degrees C shown as 0 and 255, [low, high]"
    )
    blur: float = Field(
        default=0.6, ge=0.0, le=10.0, description="standard deviation of the blur, pixels, 0 to 10"
    )
    noise: float = Field(
        default=0.5, ge=0.0, le=50.0, description="standard deviation of the noise, kelvin, 0 to 50"
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.shown[0] == self.shown[1]:
            raise ValueError(f"shown: {list(self.shown)} is empty; low below high")
        return self


def observe(frame: Frame, options: Options, draws: np.random.Generator) -> NDArray[np.uint8]:
    """Temperatures as levels of grey: [H, W, 1]."""
    degrees = temperatures(len(frame.objects), options, draws)[frame.index]
    degrees = blurred(degrees, options.blur)
    degrees = degrees + options.noise * draws.standard_normal(degrees.shape)
    low, high = options.shown
    share = np.clip((degrees - low) / (high - low), 0.0, 1.0)
    return np.rint(255.0 * share).astype(np.uint8)[..., None]


def temperatures(objects: int, options: Options, draws: np.random.Generator) -> Array:
    """Of the surroundings and of each object, degrees C: [1 + objects]."""
    around = draws.uniform(*options.surroundings, size=1)
    return np.concatenate([around, draws.uniform(*options.objects, size=objects)])


def blurred(picture: Array, deviation: float) -> Array:
    """A picture [H, W] under a Gaussian cut off at three deviations; edges go on as they are."""
    if deviation == 0.0:
        return picture
    reach = math.ceil(3.0 * deviation)
    weights = [math.exp(-0.5 * (i / deviation) ** 2) for i in range(-reach, reach + 1)]
    for axis in (0, 1):
        size = picture.shape[axis]
        wide = np.pad(picture, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], "edge")
        parts = (wide.take(range(i, i + size), axis) * w for i, w in enumerate(weights))
        picture = sum(parts, np.zeros_like(picture)) / sum(weights)
    return picture

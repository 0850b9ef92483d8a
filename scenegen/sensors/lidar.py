"""A scanning lidar where the camera is, as a range image: a row a ring, a column an angle.

Rings stand at fixed angles to the horizon about the vertical through the camera; the middle column
looks where the camera does. A ray returns the distance to the first solid that it meets (exact
solids, floor and backdrop), with Gaussian noise. Some returns are lost at random.

A return at distance r is shown as 254 (r - near) / (far - near), from 0 to 254. 255 is no return:
lost, or not between near and far.

Left out: the width of the beam and so mixed returns at edges, strength of the echo (surfaces that
are dark, or seen at a grazing angle), a second return, and motion within a turn.
"""

from __future__ import annotations

import functools
import math
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from base.params import Section
from scenegen.boxes import tight_box
from scenegen.camera import floor_axes
from scenegen.frame import Frame
from scenegen.geometry import cast, circle
from scenegen.params import Pair, within
from scenegen.sensors import SAMPLED, Boxes, Seen, Traits

TRAITS = Traits(letter="L", plane="own")
Array = NDArray[np.float64]


class Options(Section):
    """Rings, turns and errors of the scanner."""

    beams: int = Field(default=64, ge=8, le=256, description="rings, rows of the image, 8 to 256")
    elevation: Annotated[Pair, within(-89.0, 89.0)] = Field(
        default=(-45.0, -8.0),
        description="degrees above the horizon of the lowest and the highest ring, -89 to 89",
    )
    columns: int = Field(default=64, ge=8, le=1024, description="rays of a ring, 8 to 1024")
    resolution: float = Field(
        default=0.75, gt=0.0, le=45.0, description="degrees from a ray of a ring to the next"
    )
    reach: Annotated[Pair, within(0.0, 1000.0)] = Field(
        default=(4.0, 12.0), description="metres shown as 0 and 254, [near, far], 0 to 1000"
    )
    noise: float = Field(
        default=0.02, ge=0.0, le=10.0, description="standard deviation of a range, metres, 0 to 10"
    )
    dropout: float = Field(
        default=0.01, ge=0.0, lt=1.0, description="share of returns that are lost, 0 to below 1"
    )
    min_returns: int = Field(
        default=6, ge=1, le=10_000, description="rays that must meet an object with a box"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, (low, high) in (("elevation", self.elevation), ("reach", self.reach)):
            if low == high:
                raise ValueError(f"{name}: [{low}, {high}] is empty; low below high")
        if self.columns * self.resolution > 360.0:
            raise ValueError(
                f"resolution: {self.resolution} degrees for {self.columns} columns is more than a "
                f"turn; allowed here: at most {360.0 / self.columns:.4g}"
            )
        return self


def size(options: Options) -> tuple[int, int]:
    """Rings and rays of a ring."""
    return options.beams, options.columns


def observe(frame: Frame, options: Options, draws: np.random.Generator) -> NDArray[np.uint8]:
    """The range image, highest ring first, left to right: [beams, columns, 1]."""
    distance, _ = returns(frame, options)
    measured = distance + options.noise * draws.standard_normal(distance.shape)
    lost = draws.random(distance.shape) < options.dropout
    near, far = options.reach
    share = np.clip((measured - near) / (far - near), 0.0, 1.0)
    level = np.where(lost | np.isinf(distance), 255.0, np.rint(254.0 * share))
    return level.astype(np.uint8)[..., None]


def boxes(frame: Frame, options: Options) -> Boxes:
    """Around the rays that meet an object within reach, where they are enough, lost or not."""
    most = len(frame.boxed)
    has, box = np.zeros(most, bool), np.zeros((most, 4), np.float32)
    _, place = returns(frame, options)
    for number in range(len(frame.objects)):
        mask = place == number + 1
        if mask.sum() >= options.min_returns:
            has[number], box[number] = True, tight_box(mask)
    return has, box


@functools.lru_cache(maxsize=1)  # picture and boxes of one frame ask for the same
def returns(frame: Frame, options: Options) -> tuple[Array, NDArray[np.uint8]]:
    """Exact ranges in metres, inf out of reach, and which object a ray meets: [beams, columns]."""
    rays = directions(frame.pose, options)
    distance, place = cast(
        frame.objects, frame.params.backdrop.distance, frame.pose[:3, 3], rays.reshape(-1, 3)
    )
    seen = (distance >= options.reach[0]) & (distance <= options.reach[1])
    shape = rays.shape[:2]
    return np.where(seen, distance, np.inf).reshape(shape), np.where(seen, place, 0).reshape(shape)


def directions(pose: Array, options: Options) -> Array:
    """Unit vectors of the rays in the world: [beams, columns, 3]."""
    low, high = options.elevation
    steps = range(options.beams)
    rise = [math.radians(high - i * (high - low) / (options.beams - 1)) for i in steps]
    middle = (options.columns - 1) / 2.0
    turn = [math.radians((j - middle) * options.resolution) for j in range(options.columns)]
    (flat, up), (forward, aside) = circle(rise).T[:, :, None], circle(turn).T[:, None, :]
    right, ahead = floor_axes(pose)
    x, y = (flat * (forward * ahead[i] + aside * right[i]) for i in (0, 1))
    return np.stack([x, y, np.broadcast_to(up, x.shape)], axis=-1)


def why_blind(seen: Seen, options: Options) -> str:
    """The keys that aim it, and where objects are."""
    near, far = np.hypot(seen.ahead, seen.aside).min(), np.hypot(seen.ahead, seen.aside).max()
    return (
        f"lidar.elevation, lidar.reach, lidar.resolution, lidar.min_returns: the lidar shows no "
        f"object in {SAMPLED} sampled scenes; they lie {near:.1f} to {far:.1f} m away"
    )

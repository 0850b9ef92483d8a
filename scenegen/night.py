"""Night: little light, and a camera that amplifies what it reads of it, noise included.

At night `light.night.light` of the sun and of the ambient light is left. Light adds up without
bouncing here, so a picture by night is the same share of that by day. A pixel that would be white
by day at gain 1 holds `full_well` electrons; the camera counts them (shot noise, Poisson's), reads
them with Gaussian noise, and amplifies what it has read. So a linear value v is read with a
variance of gain^2 (v / full_well + (read_noise / full_well)^2).

Left out: colour filters, dark current, fixed patterns, blur of a long exposure, lamps, and noise
by day.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from scenegen.params import NightParams, SceneParams
from scenegen.scene import NIGHT

__all__ = ["exposed", "read_out"]


def exposed(
    linear: NDArray[np.float32], left: float, params: SceneParams, number: int, view: str
) -> NDArray[np.float32]:
    """What the camera of a view makes of linear light by day [H, W, 3] when `left` of it is left.

    Each scene and each view has draws of its own.
    """
    seed = np.random.SeedSequence(params.seed, spawn_key=(number, NIGHT, zlib.crc32(view.encode())))
    light = left * linear.astype(float)
    return read_out(light, params.light.night, np.random.default_rng(seed)).astype(np.float32)


def read_out(
    light: NDArray[np.float64], night: NightParams, draws: np.random.Generator
) -> NDArray[np.float64]:
    """Linear light, 1 a full pixel at gain 1, as it is read and amplified; it may be below 0."""
    electrons = draws.poisson(np.clip(light, 0.0, 1.0) * night.full_well)
    held = np.minimum(electrons, night.full_well)
    read = held + night.read_noise * draws.standard_normal(light.shape)
    return night.gain / night.full_well * read

"""What is in scene k, drawn from (master seed, k) alone. A SceneSpec is plain data."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from scenegen.params import WIDEST_RADIUS, ObjectParams, SceneParams, ShapeName

__all__ = ["NIGHT", "CameraSpec", "LightSpec", "ObjectSpec", "SceneSpec", "sample_scene"]

PLACE_TRIES = 50  # per object, before the whole layout is drawn again
LAYOUT_TRIES = 2000
NIGHT = 0x6E696768  # draws of their own, so that a scene by night is the scene by day
_PLAIN = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, config=_PLAIN)
class ObjectSpec:
    """One object standing on the floor: metres, degrees, HSV in 0 to 1."""

    kind: ShapeName
    x: float
    y: float
    scale: Annotated[float, Field(gt=0.0)]
    yaw: float
    hsv: tuple[float, float, float]


@dataclass(frozen=True, config=_PLAIN)
class CameraSpec:
    """A pinhole at `location` that looks at `target` with the world's z up; metres, degrees."""

    location: tuple[float, float, float]
    target: tuple[float, float, float]
    field_of_view: Annotated[float, Field(gt=0.0, lt=180.0)]


@dataclass(frozen=True, config=_PLAIN)
class LightSpec:
    """A sun (unit vector towards it, strength in W/m2) and an ambient share of the albedo.

    Both as by day; `left` is the share of them that is left at night, None by day.
    """

    towards: tuple[float, float, float]
    sun: float
    ambient: float
    left: Annotated[float, Field(gt=0.0, le=1.0)] | None = None


@dataclass(frozen=True, config=_PLAIN)
class SceneSpec:
    """All that a renderer needs to know of one scene."""

    number: int
    objects: tuple[ObjectSpec, ...]
    floor_hsv: tuple[float, float, float]
    backdrop_hsv: tuple[float, float, float]
    backdrop_distance: float
    camera: CameraSpec
    light: LightSpec

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SceneSpec:
        """The inverse of `to_dict`, also after a trip through JSON (lists become tuples).

        Raises:
            ValueError: the data do not describe a scene.
        """
        try:
            return TypeAdapter(cls).validate_python(data)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise ValueError(
                f"these data do not describe a scene: {key} {first['msg']} "
                f"(given: {first['input']!r:.60})"
            ) from None


def sample_scene(params: SceneParams, number: int) -> SceneSpec:
    """Draw scene `number` (0 or more); the same for any process, order and dataset size.

    Raises:
        ValueError: the scene number is negative, or no layout without overlaps was found.
    """
    if number < 0:
        raise ValueError(f"scene number {number} is negative")
    rng = np.random.default_rng(np.random.SeedSequence(params.seed, spawn_key=(number,)))
    camera, azimuth = _camera(params, rng)
    light = dataclasses.replace(_light(params, rng, azimuth), left=_left(params, number))
    floor = (_uniform(rng, params.floor.hue), params.floor.saturation, params.floor.value)
    back = params.backdrop
    backdrop = (_uniform(rng, back.hue), back.saturation, back.value)
    objects = _objects(params.objects, rng, number)
    return SceneSpec(number, objects, floor, backdrop, back.distance, camera, light)


def _uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(rng.uniform(bounds[0], bounds[1]))


def _camera(params: SceneParams, rng: np.random.Generator) -> tuple[CameraSpec, float]:
    """The camera, and its azimuth in radians."""
    p = params.camera
    distance, height = _uniform(rng, p.distance), _uniform(rng, p.height)
    azimuth = math.radians(_uniform(rng, p.azimuth))
    location = (distance * math.sin(azimuth), -distance * math.cos(azimuth), height)
    return CameraSpec(location, (0.0, 0.0, p.look_height), p.field_of_view), azimuth


def _light(params: SceneParams, rng: np.random.Generator, camera: float) -> LightSpec:
    """The sun turns with the camera, whose azimuth in radians is its 0."""
    p = params.light
    azimuth = camera + math.radians(_uniform(rng, p.azimuth))
    elevation = math.radians(_uniform(rng, p.elevation))
    flat = math.cos(elevation)
    towards = (flat * math.sin(azimuth), -flat * math.cos(azimuth), math.sin(elevation))
    return LightSpec(towards, _uniform(rng, p.sun), p.ambient)


def _left(params: SceneParams, number: int) -> float | None:
    """The share of light that is left at night; None by day. Its draw moves no other."""
    seed = np.random.SeedSequence(params.seed, spawn_key=(number, NIGHT, 0))
    night = params.light.night
    return night.light if np.random.default_rng(seed).random() < night.share else None


def _objects(p: ObjectParams, rng: np.random.Generator, number: int) -> tuple[ObjectSpec, ...]:
    count = int(rng.integers(p.count[0], p.count[1] + 1))
    kinds = [p.classes[int(i)] for i in rng.integers(len(p.classes), size=count)]
    scales = [_uniform(rng, p.scale) for _ in kinds]
    yaws = [_uniform(rng, p.yaw) for _ in kinds]
    hues = [_uniform(rng, p.hue) for _ in kinds]
    radii = [WIDEST_RADIUS[k] * s + p.gap / 2 for k, s in zip(kinds, scales, strict=True)]
    for _ in range(LAYOUT_TRIES):
        places = _layout(p, radii, rng)
        if places is not None:
            return tuple(
                ObjectSpec(kind, x, y, scale, yaw, (hue, p.saturation, p.value))
                for kind, (x, y), scale, yaw, hue in zip(
                    kinds, places, scales, yaws, hues, strict=True
                )
            )
    raise ValueError(f"scene {number}: found no room for {count} objects; enlarge objects.area_x")


def _layout(
    p: ObjectParams, radii: list[float], rng: np.random.Generator
) -> list[tuple[float, float]] | None:
    """Drop discs one by one where they touch no earlier one; none when one finds no place."""
    places: list[tuple[float, float]] = []
    for radius in radii:
        for _ in range(PLACE_TRIES):
            x, y = _uniform(rng, p.area_x), _uniform(rng, p.area_y)
            if all(
                math.hypot(x - u, y - v) >= radius + r
                for (u, v), r in zip(places, radii, strict=False)
            ):
                places.append((x, y))
                break
        else:
            return None
    return places

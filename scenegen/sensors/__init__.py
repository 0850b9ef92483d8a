"""Sensors: what each makes of a rendered frame. One file per sensor, found by its name.

A file `NAME.py` defines

- `TRAITS = Traits(letter="R")`: its letter, and in what it differs from a grey picture of the view;
- `observe(frame, options, draws) -> uint8 [H, W, C]`: what the sensor shows of a `Frame`; all that
  is random in it comes from `draws`, which belong to the scene and the sensor.

It may define

- `class Options(Section)`: its own params, with ranges, defaults and help; in the scenes' params
  they are a section of the sensor's name;
- `size(options) -> (H, W)`: of its picture, where that is not the frame's;
- `camera(spec, options) -> CameraSpec`: of a view of its own, for which the scene is rendered once
  more; its frame is then of that view;
- `boxes(frame, options) -> Boxes`: where they are not those of the frame;
- `refuse(options, scenes) -> str`: why these options cannot be, beginning with the key; "" if they
  can;
- `why_blind(seen, options) -> str`: which keys decide that it shows no object, and how.
"""

from __future__ import annotations

import functools
import pkgutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from base import code
from base.params import Section
from scenegen.frame import Frame
from scenegen.params import SceneParams
from scenegen.scene import CameraSpec, SceneSpec

__all__ = [
    "SAMPLED",
    "Boxes",
    "Seen",
    "Sensor",
    "Traits",
    "code_of",
    "get",
    "names",
    "read_options",
    "together",
]

SAMPLED = 50  # scenes looked at before a sensor counts as blind
Picture = NDArray[np.uint8]
Boxes = tuple[NDArray[np.bool_], NDArray[np.float32]]  # which places have one; x0 y0 x1 y1: [N, 4]


@dataclass(frozen=True)
class Traits:
    """What a sensor is like.

    Attributes:
        letter: of the sensor in the headings of tables.
        channels: C of its picture.
        plane: where its boxes lie: in the frame's picture, on a bird's-eye map with the camera
            beyond the middle of the bottom edge, or in a picture of its own.
        stored: its picture is in the shard; False for what is a pass of the frame.
        mirrors: the mirror image of what it shows is what it shows of the mirrored scene.
    """

    letter: str
    channels: int = 1
    plane: Literal["picture", "map", "own"] = "picture"
    stored: bool = True
    mirrors: bool = True


class Seen(NamedTuple):
    """Points on objects that the depth sensor measured in sampled scenes, metres: [n] each."""

    up: NDArray[np.float64]  # above the floor
    ahead: NDArray[np.float64]  # of the camera, along the floor
    aside: NDArray[np.float64]  # to either side of it


@dataclass(frozen=True)
class Sensor:
    """A file of this folder."""

    name: str
    module: ModuleType

    @property
    def traits(self) -> Traits:
        """What the file declares of itself."""
        declared: Traits = self.module.TRAITS
        return declared

    @property
    def options(self) -> type[Section]:
        """The class of its options; `Section`, which has none, if it declares no class."""
        declared: type[Section] = getattr(self.module, "Options", Section)
        return declared

    @property
    def own_boxes(self) -> bool:
        """Whether its boxes are others than the frame's."""
        return hasattr(self.module, "boxes")

    @property
    def box_fields(self) -> tuple[str, str]:
        """The fields of a record with its boxes: which objects have one, and these."""
        prefix = f"{self.name}_" if self.own_boxes else ""
        return f"has_{prefix}box", f"{prefix}box"

    def shape(self, params: SceneParams) -> tuple[int, int, int]:
        """Of what it shows: H, W, C."""
        size = getattr(self.module, "size", lambda _: (params.image.height, params.image.width))
        height, width = size(params.options(self.name))
        return height, width, self.traits.channels

    def camera(self, spec: SceneSpec, params: SceneParams) -> CameraSpec | None:
        """Of its own view of the scene; None if it sees the frame that all see."""
        own = getattr(self.module, "camera", lambda *_: None)
        found: CameraSpec | None = own(spec, params.options(self.name))
        return found

    def stored_shape(self, params: SceneParams) -> tuple[int, ...]:
        """Of its field in a record: without a channel if there is but one."""
        shape = self.shape(params)
        return shape if shape[2] > 1 else shape[:2]

    def observe(self, frame: Frame) -> Picture:
        """What it shows of a frame: uint8 [H, W, C]."""
        seed = np.random.SeedSequence(
            frame.params.seed, spawn_key=(frame.number, zlib.crc32(self.name.encode()))
        )
        options = frame.params.options(self.name)
        shown: Picture = self.module.observe(frame, options, np.random.default_rng(seed))
        return shown

    def picture(self, record: np.void, params: SceneParams) -> Picture:
        """What it shows of a stored scene: uint8 [H, W, C]."""
        if not self.traits.stored:
            return self.observe(Frame(record, params))
        stored: Picture = record[self.name]
        return stored.reshape(self.shape(params))

    def fill(self, record: np.void, frame: Frame) -> None:
        """Put its picture and its boxes into the record that the frame is of."""
        if self.traits.stored:
            record[self.name] = self.observe(frame).reshape(self.stored_shape(frame.params))
        if self.own_boxes:
            has, box = self.box_fields
            record[has], record[box] = self.module.boxes(frame, frame.params.options(self.name))

    def refusal(self, params: SceneParams) -> str:
        """Why its options cannot be, beginning with the key; "" if they can."""
        refuse = getattr(self.module, "refuse", lambda *_: "")
        return str(refuse(params.options(self.name), params))

    def why_blind(self, seen: Seen, params: SceneParams) -> str:
        """One line that begins with the keys that decide, of a sensor that shows no object."""
        if told := getattr(self.module, "why_blind", None):
            return str(told(seen, params.options(self.name)))
        return f"sensors: the {self.name} shows no object in {SAMPLED} sampled scenes"


def names() -> tuple[str, ...]:
    """Names of the sensors: the files of this folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@functools.cache
def get(name: str) -> Sensor:
    """The sensor of `scenegen/sensors/<name>.py`; only that file is imported.

    Raises:
        ValueError: there is no such file, or its code fails or lacks something; names the file.
    """
    if name not in names():
        raise ValueError(f"{name!r:.60} is not one of {', '.join(names())}")
    try:
        sensor = Sensor(name, import_module(f"{__name__}.{name}"))
        code_of(name)  # as it is now, whatever becomes of the file
        _check(sensor)
    except (Exception, SystemExit) as error:  # whatever that code does when imported
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"scenegen/sensors/{name}.py: {said}") from None
    return sensor


def _check(sensor: Sensor) -> None:
    if not isinstance(sensor.module.TRAITS, Traits):
        raise TypeError("TRAITS must be scenegen.sensors.Traits")
    if not callable(sensor.module.observe):
        raise TypeError("observe must be a function")
    if not (isinstance(sensor.options, type) and issubclass(sensor.options, Section)):
        raise TypeError("Options must be a class that derives from base.params.Section")
    if sensor.options.model_fields and sensor.name in SceneParams.model_fields:
        raise ValueError(f"{sensor.name} is a section of all scenes; name the sensor otherwise")


def code_of(name: str) -> str:
    """The digest of the code of sensor `name` that this process has loaded."""
    return code.loaded(f"{__name__}.{name}")


def together(chosen: tuple[str, ...]) -> tuple[Sensor, ...]:
    """The sensors of a dataset.

    Raises:
        ValueError: there is none, one is unknown or named twice, or two have one letter.
    """
    if not chosen:
        raise ValueError(f"[] sees nothing; name at least one of {', '.join(names())}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{list(chosen)} names a sensor twice; name each once")
    found: dict[str, Sensor] = {}
    for sensor in map(get, chosen):
        other = found.setdefault(sensor.traits.letter, sensor)
        if other is not sensor:
            raise ValueError(
                f"{other.name} and {sensor.name} have the same letter, {sensor.traits.letter}; "
                "leave one out, or give it another letter in its file"
            )
    return tuple(found.values())


def read_options(
    chosen: Sequence[str], given: Mapping[str, Any], sections: Sequence[str]
) -> dict[str, Section]:
    """The options of those of the sensors that have some, at their defaults where not given.

    Args:
        chosen: the sensors of a dataset.
        given: what stands beside the `sections` that all scenes have.

    Raises:
        ValidationError: an option cannot be, or no sensor reads it.
    """
    declared = {name: get(name).options for name in chosen}
    declared = {name: options for name, options in declared.items() if options.model_fields}
    mistakes, values = [], {}
    for key in given:
        if key not in declared:
            message = f"unknown key; there are {', '.join([*sections, *declared])}"
            if key in names():
                message = f"the sensors are {', '.join(chosen)}; name it there, or leave this out"
            mistakes.append(_mistake((key,), given[key], message))
    for name, options in declared.items():
        try:
            values[name] = options.model_validate(given.get(name, {}))
        except ValidationError as error:
            for one in error.errors():
                message = one["msg"].removeprefix("Value error, ")
                if one["type"] == "extra_forbidden":
                    message = f"unknown key; there are {', '.join(options.model_fields)}"
                mistakes.append(_mistake((name, *one["loc"]), one["input"], message))
    if mistakes:
        raise ValidationError.from_exception_data("SceneParams", mistakes)
    return values


def _mistake(where: tuple[int | str, ...], value: object, message: str) -> InitErrorDetails:
    kind = PydanticCustomError("of_a_sensor", "{message}", {"message": message})
    return {"type": kind, "loc": where, "input": value}

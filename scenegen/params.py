"""Everything a user may choose about the scenes; the `scenes:` section of params.yaml.

Units are metres, degrees and pixels. The world has x to the right, y away from the camera and z
up; the floor is z = 0. A range is `[low, high]` and is drawn from uniformly.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AllowInfNan, ConfigDict, Field, Strict, model_validator

from base.params import Section

__all__ = [
    "CLASSES",
    "SENSORS",
    "BackdropParams",
    "BoxParams",
    "CameraParams",
    "DepthParams",
    "FloorParams",
    "ImageParams",
    "LightParams",
    "NightParams",
    "ObjectParams",
    "Pair",
    "SceneParams",
    "ShapeName",
    "within",
]

ShapeName = Literal["cube", "cylinder", "sphere", "capsule"]
CLASSES: tuple[ShapeName, ...] = ("cube", "cylinder", "sphere", "capsule")

# Widest horizontal half-extent and full height of each shape at scale 1 (see geometry.py).
WIDEST_RADIUS = {"cube": 0.8 * math.sqrt(2), "cylinder": 0.8, "sphere": 1.0, "capsule": 0.65}
# Discs dropped at random jam at a cover of 0.547; below 0.35 a scene is found in a few tries.
MAX_COVER = 0.35
SENSORS = ("image", "depth", "radar")  # of a dataset that names none
MOST_OBJECTS = 16


# Its limits refuse what is not finite, and are named then.
Bound = Annotated[float, AllowInfNan(True)]
# YAML and JSON have lists, not tuples; what is in them stays strict.
Pair = Annotated[tuple[Bound, Bound], Strict(False)]


def within(low: float, high: float) -> AfterValidator:
    """Check that `[low, high]` is in order and between the given limits."""

    def check(pair: Pair) -> Pair:
        if not all(low <= value <= high for value in pair):  # also refuses nan
            raise ValueError(f"must lie between {low:g} and {high:g}")
        if pair[0] > pair[1]:
            raise ValueError("is reversed: write [low, high]")
        return pair

    return AfterValidator(check)


def _counts(pair: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= pair[0] <= pair[1] <= MOST_OBJECTS:
        raise ValueError(f"must be [fewest, most] between 1 and {MOST_OBJECTS}")
    return pair


class ObjectParams(Section):
    """How many objects stand on the floor, which, how large, where and in what colours."""

    count: Annotated[tuple[int, int], Strict(False), AfterValidator(_counts)] = Field(
        default=(1, 2), description="objects per scene, [fewest, most], 1 to 16"
    )
    classes: tuple[ShapeName, ...] = Field(
        default=CLASSES,
        strict=False,
        description="shapes to draw from: cube, cylinder, sphere, capsule",
    )
    scale: Annotated[Pair, within(0.05, 10.0)] = Field(
        default=(1.0, 1.2),
        description="size, [low, high], 0.05 to 10; at 1 a sphere has a radius of 1 m",
    )
    yaw: Annotated[Pair, within(-180.0, 180.0)] = Field(
        default=(0.0, 90.0),
        description="turn about the vertical, degrees, [low, high], -180 to 180",
    )
    area_x: Annotated[Pair, within(-100.0, 100.0)] = Field(
        default=(-1.8, 1.8),
        description="where centres may lie, metres to the right, [low, high]",
    )
    area_y: Annotated[Pair, within(-100.0, 100.0)] = Field(
        default=(-1.3, 2.0),
        description="where centres may lie, metres away, [low, high]",
    )
    gap: float = Field(
        default=0.1,
        ge=0.0,
        le=10.0,
        description="least distance between two objects, metres, 0 to 10",
    )
    hue: Annotated[Pair, within(0.0, 1.0)] = Field(
        default=(0.0, 1.0),
        description="hue, [low, high], 0 to 1 around the colour wheel",
    )
    saturation: float = Field(default=0.95, ge=0.0, le=1.0, description="colour saturation, 0 to 1")
    value: float = Field(
        default=0.8, gt=0.0, le=1.0, description="colour value (HSV), above 0 to 1"
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.classes:
            raise ValueError("classes: [] leaves nothing to draw; name at least one shape")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes: {list(self.classes)} names a shape twice; name each once")
        return self

    @model_validator(mode="after")
    def _room(self) -> Self:
        """More objects than the area can hold would make the sampler search for ever."""
        most = self.count[1]
        if most == 1 or not self.classes:
            return self
        radius = max(WIDEST_RADIUS[c] for c in self.classes) * self.scale[1] + self.gap / 2
        width = self.area_x[1] - self.area_x[0] + 2 * radius
        length = self.area_y[1] - self.area_y[0] + 2 * radius
        cover = most * math.pi * radius**2 / (width * length)
        if cover > MAX_COVER:
            fits = int(MAX_COVER * width * length / (math.pi * radius**2))
            raise ValueError(
                f"count: {most} objects of scale {self.scale[1]} do not fit into area_x by area_y; "
                f"allowed here: at most {max(fits, 1)}, or a larger area, or a smaller scale"
            )
        return self


class FloorParams(Section):
    """The ground plane z = 0."""

    hue: Annotated[Pair, within(0.0, 1.0)] = Field(
        default=(0.0, 1.0), description="hue, [low, high], 0 to 1"
    )
    saturation: float = Field(default=0.25, ge=0.0, le=1.0, description="colour saturation, 0 to 1")
    value: float = Field(
        default=0.92, gt=0.0, le=1.0, description="colour value (HSV), above 0 to 1"
    )


class BackdropParams(Section):
    """The upright wall behind the scene, at y = distance. It stays there when the camera turns."""

    hue: Annotated[Pair, within(0.0, 1.0)] = Field(
        default=(0.0, 1.0), description="hue, [low, high], 0 to 1"
    )
    saturation: float = Field(default=0.35, ge=0.0, le=1.0, description="colour saturation, 0 to 1")
    value: float = Field(
        default=0.8, gt=0.0, le=1.0, description="colour value (HSV), above 0 to 1"
    )
    distance: float = Field(
        default=6.0,
        gt=0.0,
        le=500.0,
        description="metres behind the middle of the scene, above 0 to 500",
    )


class CameraParams(Section):
    """A pinhole that looks at the point (0, 0, look_height); each range is its jitter."""

    distance: Annotated[Pair, within(0.1, 200.0)] = Field(
        default=(7.3, 7.7),
        description="metres from the middle along the floor, [low, high], 0.1 to 200",
    )
    height: Annotated[Pair, within(-10.0, 200.0)] = Field(
        default=(4.6, 5.0),
        description="metres above the floor, [low, high]",
    )
    azimuth: Annotated[Pair, within(-180.0, 180.0)] = Field(
        default=(-5.0, 5.0),
        description="degrees around the middle, [low, high], -180 to 180",
    )
    look_height: float = Field(
        default=0.9, ge=-10.0, le=100.0, description="height of the point looked at, metres"
    )
    field_of_view: float = Field(
        default=46.0, ge=5.0, le=150.0, description="horizontal, degrees, 5 to 150"
    )

    @model_validator(mode="after")
    def _above_floor(self) -> Self:
        if self.height[0] < 0.1:
            raise ValueError(
                f"height: {self.height[0]} puts the camera inside the floor; allowed: 0.1 or more"
            )
        return self


class NightParams(Section):
    """Scenes with little light, and the camera that sees them."""

    share: float = Field(default=0.0, ge=0.0, le=1.0, description="of the scenes, 0 (none) to 1")
    light: float = Field(
        default=0.002, gt=0.0, le=1.0, description="of sun and ambient light that is left"
    )
    gain: float = Field(
        default=60.0, ge=1.0, le=10_000.0, description="of the camera, linear, 1 to 10,000"
    )
    full_well: float = Field(
        default=5000.0, ge=1.0, le=1e6, description="electrons of a white pixel at gain 1"
    )
    read_noise: float = Field(
        default=3.0, ge=0.0, le=1e6, description="standard deviation, electrons"
    )


class LightParams(Section):
    """One sun with sharp shadows, and an even ambient term."""

    azimuth: Annotated[Pair, within(-180.0, 180.0)] = Field(
        default=(-60.0, 60.0),
        description="where the sun stands, degrees from straight behind the camera (0), "
        "turning as the camera's azimuth does, [low, high], -180 to 180",
    )
    elevation: Annotated[Pair, within(5.0, 90.0)] = Field(
        default=(40.0, 65.0),
        description="degrees above the horizon, [low, high], 5 to 90",
    )
    sun: Annotated[Pair, within(0.0, 20.0)] = Field(
        default=(1.3, 1.7),
        description="strength, W/m2, [low, high], 0 to 20",
    )
    ambient: float = Field(default=0.5, ge=0.0, le=5.0, description="share of the albedo, 0 to 5")
    night: NightParams = NightParams()

    @model_validator(mode="after")
    def _not_dark(self) -> Self:
        if self.sun[0] == 0 and self.ambient == 0:
            raise ValueError("ambient: 0 with a sun of 0 renders black; one of them above 0")
        return self


class ImageParams(Section):
    """The picture; depth and object index share its pixels."""

    width: int = Field(default=64, ge=8, le=1024, description="pixels, 8 to 1024")
    height: int = Field(default=64, ge=8, le=1024, description="pixels, 8 to 1024")
    samples: int = Field(
        default=5, ge=1, le=4096, description="Cycles samples per pixel, 1 to 4096"
    )


class DepthParams(Section):
    """Planar distance along the optical axis, 16 bits over [near, far]."""

    near: float = Field(
        default=4.0, ge=0.0, le=1000.0, description="metres stored as 0, as is what is nearer"
    )
    far: float = Field(
        default=12.0, gt=0.0, le=1000.0, description="metres stored as 65535; background"
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.far <= self.near:
            raise ValueError(f"far: {self.far} must exceed near ({self.near})")
        return self


class BoxParams(Section):
    """Which objects get a box."""

    min_pixels: int = Field(
        default=12,
        ge=1,
        le=100_000,
        description="visible depth pixels an object needs for a box, 1 or more",
    )


class SceneParams(Section):
    """The `scenes:` section. Scene k depends on these (but for `count`) and on k alone.

    Beside the fields here there is a section for each of its sensors that has options, of the
    sensor's name; what is not given has its default.
    """

    model_config = ConfigDict(extra="allow")

    seed: int = Field(default=0, ge=0, lt=2**63, description="master seed, 0 to 2^63 - 1")
    count: int = Field(default=4000, ge=1, le=10_000_000, description="scenes, 1 to 10,000,000")
    shard_size: int = Field(
        default=250, ge=1, le=100_000, description="scenes per file, 1 to 100,000"
    )
    sensors: Annotated[tuple[str, ...], Strict(False)] = Field(
        default=SENSORS, description="what sees each scene: files of scenegen/sensors/"
    )
    objects: ObjectParams = ObjectParams()
    floor: FloorParams = FloorParams()
    backdrop: BackdropParams = BackdropParams()
    camera: CameraParams = CameraParams()
    light: LightParams = LightParams()
    image: ImageParams = ImageParams()
    depth: DepthParams = DepthParams()
    boxes: BoxParams = BoxParams()

    def options(self, sensor: str) -> Any:
        """Those of one of the sensors: an instance of the `Options` that its file declares.

        Raises:
            ValueError: it is none of the sensors of these scenes.
        """
        from scenegen import sensors

        if sensor not in self.sensors:
            raise ValueError(f"{sensor!r:.60} is not one of {', '.join(self.sensors)}")
        return (self.model_extra or {}).get(sensor) or sensors.get(sensor).options()

    @model_validator(mode="after")
    def _sensors_exist(self) -> Self:
        from scenegen import sensors  # they need these params

        try:
            sensors.together(self.sensors)
        except ValueError as error:
            raise ValueError(f"sensors: {error}") from None
        return self

    @model_validator(mode="after")
    def _options_are_read(self) -> Self:
        """Every section is a sensor's, and is what the sensor declares."""
        from scenegen import sensors

        given = self.model_extra
        assert given is not None  # as extra keys are allowed
        values = sensors.read_options(self.sensors, given, [*type(self).model_fields])
        given.clear()  # the manifest has the same bytes in whatever order they were given
        given.update(values)
        return self

    @model_validator(mode="after")
    def _sensors_agree(self) -> Self:
        from scenegen import sensors

        for name in self.sensors:
            if reason := sensors.get(name).refusal(self):
                raise ValueError(f"{name}.{reason}")
        return self

    @model_validator(mode="after")
    def _boxes_possible(self) -> Self:
        most = self.image.width * self.image.height // 16
        if self.boxes.min_pixels > most:
            raise ValueError(
                f"boxes.min_pixels: {self.boxes.min_pixels} is more than a sixteenth of the "
                f"picture, so hardly an object had a box; allowed here: at most {most}"
            )
        return self

    @model_validator(mode="after")
    def _camera_clear(self) -> Self:
        """The camera must stand in front of every object and of the backdrop."""
        size = max(WIDEST_RADIUS[c] for c in self.objects.classes) * self.objects.scale[1]
        corner = max(math.hypot(x, y) for x in self.objects.area_x for y in self.objects.area_y)
        if self.camera.distance[0] <= corner + size:
            raise ValueError(
                f"camera.distance: {self.camera.distance[0]} may put the camera inside an object; "
                f"allowed here: above {corner + size:.2f}"
            )
        if self.backdrop.distance <= self.objects.area_y[1] + size:
            raise ValueError(
                f"backdrop.distance: {self.backdrop.distance} cuts through the objects; "
                f"allowed here: above {self.objects.area_y[1] + size:.2f}"
            )
        return self

    @model_validator(mode="after")
    def _camera_before_backdrop(self) -> Self:
        """From behind, the wall would hide all objects."""
        farthest, wall = self.camera.distance[1], self.backdrop.distance
        if farthest >= wall:
            most = math.degrees(math.acos(-wall / farthest))
            if max(map(abs, self.camera.azimuth)) >= most:
                raise ValueError(
                    f"camera.azimuth: {list(self.camera.azimuth)} puts the camera behind the "
                    f"backdrop; allowed here: within {most:.1f} degrees either way"
                )
        return self

"""The `detector:` section of params.yaml: `DetectorParams` for each sensor's detector."""

__all__ = ["Augmentation", "DetectorParams", "Detectors", "network_names"]

import pkgutil
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from base.params import Section

KINDS = Path(__file__).parent / "kinds"
STRIDE = 32  # pixels of the network's input per cell of its coarsest grid


def network_names() -> tuple[str, ...]:
    """Names of the kinds of networks: the files of `detector/kinds/`, with - for _."""
    files = pkgutil.iter_modules([str(KINDS)])
    return tuple(sorted(file.name.replace("_", "-") for file in files))


class Augmentation(Section):
    """Random changes of the training pictures, drawn anew for every picture of every epoch."""

    flip: float = Field(
        default=0.5, ge=0, le=1, description="probability of a left-right mirror image, 0..1"
    )
    scale: float = Field(
        default=0.1, ge=0, lt=0.9, description="zoom drawn from 1 - scale .. 1 + scale, 0..0.9"
    )
    translate: float = Field(
        default=0.05, ge=0, le=0.5, description="shift, as a fraction of the side, 0..0.5"
    )
    hue: float = Field(
        default=0.0, ge=0, le=0.5, description="rotation of the hue, in turns, 0..0.5"
    )
    saturation: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="saturation times 1 - saturation .. 1 + saturation, 0..1",
    )
    greyscale: float = Field(
        default=0.0, ge=0, le=1, description="probability of no colour at all, 0..1"
    )
    brightness: float = Field(
        default=0.0, ge=0, lt=1, description="values times 1 - brightness .. 1 + brightness, 0..1"
    )
    contrast: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="distance from the picture's mean times 1 - contrast .. 1 + contrast / 2, 0..1",
    )
    blur: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="largest standard deviation of a Gaussian blur, pixels of the stored picture, "
        "0..4; half of the pictures are left sharp",
    )

    def colour_keys(self) -> list[str]:
        """Name the keys in use that only a picture in colour can obey."""
        return [key for key in ("hue", "saturation", "greyscale") if getattr(self, key) > 0]


class DetectorParams(Section):
    """What decides the weights of one sensor's detector, and how detections are read from it.

    Beside these there may be keys that the network's own file declares; YOLOv3's has none.
    """

    model_config = ConfigDict(extra="allow")

    network: str = Field(
        default="yolov3",
        description="a file of detector/kinds/: yolov3 (three strides: 8, 16, 32), yolov3-tiny "
        "(two: 16, 32) or one of yours",
    )
    width_multiple: float = Field(
        default=0.25,
        ge=0.0625,
        le=1,
        description="channels, as a fraction of the full network, 1/16..1",
    )
    depth_multiple: float = Field(
        default=0.33,
        gt=0,
        le=1,
        description="repeated blocks, as a fraction of the full network, 0..1",
    )
    image_size: int = Field(
        default=96,
        ge=STRIDE,
        le=1280,
        description="side of the network's input, pixels, a multiple of 32, 32..1280",
    )
    epochs: float = Field(
        default=6, gt=0, le=1000, description="passes over the training scenes, above 0 to 1000"
    )
    batch: int = Field(default=32, ge=2, le=1024, description="pictures in a step, 2..1024")
    learning_rate: float = Field(default=0.002, gt=0, le=0.1, description="AdamW's peak, 0..0.1")
    weight_decay: float = Field(default=0.0005, ge=0, le=0.1, description="AdamW's, 0..0.1")
    warmup: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="fraction of all steps in which the rate rises, 0..0.5",
    )
    precision: Literal["bf16", "fp32"] = Field(
        default="bf16",
        description="number format of the convolutions while training; weights stay fp32. bf16 is "
        "fp32 on a CPU that cannot multiply it (one without AVX512)",
    )
    augmentation: Augmentation = Augmentation()
    confidence_floor: float = Field(
        default=0.01, gt=0, lt=1, description="detections scored below are dropped, 0..1"
    )
    nms_iou: float = Field(
        default=0.6,
        gt=0,
        lt=1,
        description="overlap from which two boxes of a class are one object, 0..1",
    )
    max_detections: int = Field(
        default=50, ge=1, le=300, description="detections kept per picture, 1..300"
    )

    @field_validator("network")
    @classmethod
    def _has_a_file(cls, value: str) -> str:
        if value not in network_names():
            raise ValueError(f"must be a file of detector/kinds/: {', '.join(network_names())}")
        return value

    @field_validator("image_size")
    @classmethod
    def _whole_cells(cls, value: int) -> int:
        if value % STRIDE:
            below = max(STRIDE, value - value % STRIDE)
            raise ValueError(
                f"image_size is {value}, but must be a multiple of {STRIDE} (the coarsest stride "
                f"of YOLOv3), for example {below} or {value + STRIDE - value % STRIDE}"
            )
        return value

    @model_validator(mode="after")
    def _cells_to_choose_from(self) -> Self:
        """The loss takes the 10 best cells of each box; yolov3-tiny has 5 of them at 32 pixels."""
        if self.network == "yolov3-tiny" and self.image_size < 2 * STRIDE:
            raise ValueError(
                f"image_size is {self.image_size}, but yolov3-tiny needs {2 * STRIDE} or more"
            )
        return self

    @model_validator(mode="after")
    def _other_keys_are_the_networks(self) -> Self:
        if self.model_extra:
            from detector import kinds  # whose files need torch, which params do without

            kinds.check(self.network, self.model_extra)
        return self


class Detectors(Section):
    """The whole `detector:` section.

    Beside `default` there may be a section of a sensor's name, with what differs for its detector.
    """

    model_config = ConfigDict(extra="allow")

    default: DetectorParams = DetectorParams()

    def of(self, sensor: str) -> DetectorParams:
        """What decides the detector of a sensor."""
        return (self.model_extra or {}).get(sensor, self.default)

    @model_validator(mode="after")
    def _the_rest_is_the_default(self) -> Self:
        sections, mistakes = self.model_extra, []
        assert sections is not None  # as extra keys are allowed
        for name, given in sections.items():
            try:
                sections[name] = DetectorParams.model_validate(self._whole(given))
            except ValidationError as error:
                mistakes += [_mistake(name, dict(one)) for one in error.errors()]
        if mistakes:
            raise ValidationError.from_exception_data("Detectors", mistakes)
        return self

    def _whole(self, given: Any) -> Any:
        """A sensor's section over the default one, of which another network has no keys."""
        below = self.default.model_dump()
        if isinstance(given, dict) and given.get("network", below["network"]) != below["network"]:
            below = {key: below[key] for key in DetectorParams.model_fields}
        return _over(below, given)


def _over(below: Any, given: Any) -> Any:
    """The values given, and those below where none is."""
    if not (isinstance(below, dict) and isinstance(given, dict)):
        return given
    return {**below, **{key: _over(below.get(key), value) for key, value in given.items()}}


def _mistake(sensor: str, error: dict[str, Any]) -> InitErrorDetails:
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":  # of the one section within
        message = f"unknown key; there are {', '.join(Augmentation.model_fields)}"
    kind = PydanticCustomError("of_a_sensor", "{message}", {"message": message})
    return {"type": kind, "loc": (sensor, *error["loc"]), "input": error["input"]}

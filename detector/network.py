"""What a kind of detector is: the networks that `training` trains and `trained` asks."""

from __future__ import annotations

__all__ = ["Network", "Objects"]

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from base.params import Section
from detector.params import DetectorParams


@dataclass(frozen=True)
class Objects:
    """The n objects of a batch of pictures, one after the other.

    pictures: float [n], each one's picture, by its place in the batch. classes: float [n].
    boxes: float [n, 4] as x and y of the middle, width and height, all as fractions of the side.
    """

    pictures: Tensor
    classes: Tensor
    boxes: Tensor

    def to(self, device: Any) -> Objects:
        """The same on another device."""
        return Objects(*(each.to(device) for each in (self.pictures, self.classes, self.boxes)))


class Network(nn.Module, ABC):
    """Base of all kinds: a file of `detector/kinds/` has a subclass of this name.

    Its constructor takes a config: `params` (as in params.yaml), `channels`, `classes`, and what
    `configuration` adds. It draws the first weights from torch's global generator, which has a
    seed. Of pictures float [B, C, S, S] in 0..1 its `forward` makes what the rest of it reads.
    """

    libraries: ClassVar[tuple[str, ...]] = ()
    """Distributions beside torch and numpy whose version decides what is found."""

    class Options(Section):
        """Keys of its own in params.yaml, with ranges and defaults: none, unless it says so."""

    @classmethod
    def options(cls, params: DetectorParams) -> Any:
        """Its own keys of params.yaml, as its `Options`."""
        return cls.Options.model_validate(params.model_extra or {})

    @classmethod
    def configuration(cls, params: DetectorParams, classes: tuple[str, ...]) -> dict[str, Any]:
        """What its file says beside params, channels and classes, as JSON can hold it."""
        return {}

    @abstractmethod
    def training_loss(self, seen: Any, objects: Objects) -> Tensor:
        """The mean loss of a picture, from what `forward` made of a batch, in float32."""

    def ready(self) -> Network:
        """The trained network as detection uses it."""
        return self.eval().requires_grad_(False)

    @abstractmethod
    def found(self, pictures: Tensor, params: DetectorParams) -> list[Tensor]:
        """Rows [n, 6] for each picture: x1, y1, x2, y2 in pixels of it, score, class; best first.

        None scores below `params.confidence_floor`, and there are at most `params.max_detections`.
        """

"""Typed parameters of the models: the `vae:` section of params.yaml, and one cell of the grid."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Strict, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from base.params import Section

__all__ = [
    "RATES",
    "Cell",
    "ModalityParams",
    "NetworkParams",
    "Options",
    "TrainingParams",
    "VAEParams",
    "check_cell",
    "fusion_names",
    "objective_names",
]

HERE = Path(__file__).parent
KINDS = ("fusion", "objective")  # the keys of a cell that name a file
RATES = (0.01, 0.05)  # of false alarms, which each sensor of a model is calibrated at


def fusion_names() -> tuple[str, ...]:
    """Names of the fusions: the files of `models/fusions/`."""
    return _names("fusions")


def objective_names() -> tuple[str, ...]:
    """Names of the objectives: the files of `models/objectives/`."""
    return _names("objectives")


def _names(folder: str) -> tuple[str, ...]:
    return tuple(sorted(module.name for module in pkgutil.iter_modules([str(HERE / folder)])))


class ModalityParams(Section):
    """How one modality is likened to its reconstruction, and how much it counts."""

    likelihood: Literal["normal", "laplace", "bernoulli", "categorical"] = Field(
        default="normal",
        description="p(x|z) of each element; bernoulli takes grey levels in [0, 1] as "
        "probabilities; categorical takes integer classes",
    )
    scale: float = Field(
        default=0.1,
        ge=1e-6,  # float32 squares it
        le=10,
        description="fixed standard deviation (normal) or scale b (laplace), in units of data "
        "scaled to [0, 1]; not used by bernoulli and categorical",
    )
    weight: float = Field(
        default=1.0, gt=0, le=1e4, description="factor on the log-likelihood summed over elements"
    )
    classes: int = Field(
        default=0, ge=0, le=1_000_000, description="categorical: number of classes; else 0"
    )

    @model_validator(mode="after")
    def _classes(self) -> ModalityParams:
        if (self.likelihood == "categorical") != (self.classes > 1):
            raise ValueError(
                f"classes: {self.classes} with likelihood {self.likelihood!r}; categorical needs "
                "2 or more, the other likelihoods 0"
            )
        return self


class NetworkParams(Section):
    """Encoders and decoders of images; vectors and sequences have one design each."""

    kind: Literal["residual", "cnn", "mixer"] = Field(
        default="mixer",
        description="mixer: MLPs across patches and channels; residual: patches and residual "
        "blocks; cnn: the paper's",
    )
    width: int = Field(
        default=32,
        ge=4,
        le=512,
        description="channels at a quarter of the resolution (residual), after layer 1 (cnn), or "
        "half those of a token (mixer)",
    )
    blocks: int = Field(
        default=2, ge=0, le=16, description="blocks of each decoder (residual, mixer)"
    )
    neck: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="channels of a token on its way into and out of the latent (mixer); 0: all of "
        "them, most of a model's weights",
    )
    logit_scale: float = Field(
        default=16.0,
        gt=0,
        le=1000,
        description="of bernoulli images: logits per unit of a decoder's output (residual, mixer)",
    )


class TrainingParams(Section):
    """Length, batch, optimiser and arithmetic of a training."""

    steps: int = Field(default=2000, ge=1, le=10_000_000, description="optimiser steps")
    batch: int = Field(default=64, ge=1, le=65_536, description="scenes per step")
    learning_rate: float = Field(default=5e-4, gt=0, le=1, description="Adam's peak learning rate")
    schedule: Literal["constant", "cosine", "one-cycle"] = Field(
        default="cosine",
        description="constant; cosine: falls to 0 at the last step; one-cycle: rises over the "
        "first 30 % of the steps, then falls to 0. All after `warmup`",
    )
    warmup: int = Field(
        default=100, ge=0, le=1_000_000, description="steps over which the rate rises from 0"
    )
    kl_warmup: int = Field(
        default=0, ge=0, le=10_000_000, description="steps over which the KL's weight rises from 0"
    )
    clip: float = Field(
        default=0.0, ge=0, description="largest gradient norm; 0: gradients are not clipped"
    )
    mirror: bool = Field(
        default=False,
        description="half of the items, drawn anew each step, are trained on as their mirror "
        "images, all modalities alike (pictures [H, W, C] alone)",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="bfloat16",
        description="arithmetic of the networks; the rest is float32. bfloat16 is float32 on a CPU "
        "that cannot multiply it (one without AVX512)",
    )
    threads: int = Field(
        default=2, ge=1, le=256, description="CPU threads of a training; changes the last bits"
    )
    log_every: int = Field(
        default=100, ge=1, le=1_000_000, description="steps between two rows of the curves"
    )
    checkpoint_every: int = Field(
        default=500, ge=1, le=1_000_000, description="steps between two checkpoints"
    )


class VAEParams(Section):
    """The `vae:` section: what every cell of the grid shares."""

    modalities: dict[str, ModalityParams] = Field(
        min_length=1, description="name -> likelihood; the names are those of the data"
    )
    latent: int = Field(default=128, ge=1, le=65_536, description="latent dimensions L")
    network: NetworkParams = NetworkParams()
    training: TrainingParams = TrainingParams()

    def of(self, cell: Cell) -> VAEParams:
        """The same with the modalities alone that a cell fuses."""
        fused = {name: self.modalities[name] for name in cell.fuses(self.modalities)}
        return self.model_copy(update={"modalities": fused})


class Options(Section):
    """Of a fusion or an objective: the fields of its class, each with a docstring of its own."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Cell(Section):
    """One cell of the grid: a fusion, an objective and their options.

    Beside the fields here a cell has those of its two entries' `Options`, at their defaults where
    they are not given; if both have one of a name, both read it.
    """

    model_config = ConfigDict(extra="allow")

    fusion: str = Field(default="poe", description="a file of models/fusions/")
    objective: str = Field(default="none", description="a file of models/objectives/")
    samples: int = Field(
        default=1, ge=1, le=10_000, description="importance samples K; 1: the classical VAE"
    )
    kl: Literal["bound", "sampled"] = Field(
        default="bound",
        description="KL of a mixture at K = 1: weighted sum of the components' KLs (bound), or "
        "log q of the whole mixture at the drawn point (sampled)",
    )
    gradient: Literal["standard", "stl", "dreg"] = Field(
        default="standard",
        description="stl: log q without its score term; dreg: doubly reparametrised (K > 1)",
    )
    beta: float = Field(default=1.0, ge=0, le=1000, description="weight of the KL to the prior")
    sensors: Annotated[tuple[str, ...], Strict(False)] | None = Field(
        default=None,
        exclude=True,  # a model's file has the names of its modalities already
        description="two or more of vae.modalities, which it fuses; all if left out",
    )

    def fuses(self, modalities: Iterable[str]) -> tuple[str, ...]:
        """Which of these it fuses, in their order."""
        return tuple(m for m in modalities if self.sensors is None or m in self.sensors)

    def options(self, kind: str) -> Options:
        """Those that its fusion (`kind` "fusion") or its objective ("objective") reads."""
        declared = self._declared(kind)
        given = self.model_extra or {}
        return declared.model_validate(
            {key: value for key, value in given.items() if key in declared.model_fields}
        )

    @classmethod
    def saved(cls, values: Mapping[str, Any]) -> Cell:
        """The cell of a model's file; the older ones hold every entry's options."""
        cell = cls.model_validate({key: values[key] for key in KINDS})
        known = {*cls.model_fields, *(cell.model_extra or {})}
        return cls.model_validate({key: values[key] for key in values if key in known})

    def _declared(self, kind: str) -> type[Options]:
        from models import entries  # they need torch, which params as such do without

        return entries.options(kind, getattr(self, kind))

    @field_validator("sensors")
    @classmethod
    def _can_be_fused(cls, sensors: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if sensors is not None and len(sensors) < 2:
            raise ValueError(
                "must be two or more sensors; the VAEs of one sensor are trained beside the cells"
            )
        if sensors is not None and len(set(sensors)) < len(sensors):
            raise ValueError("names a sensor twice; name each once")
        return sensors

    @model_validator(mode="after")
    def _known(self) -> Cell:
        for key, names in (("fusion", fusion_names()), ("objective", objective_names())):
            name = getattr(self, key)
            if name not in names:
                raise ValueError(f"{key}: {name!r:.60} is not one of {', '.join(names)}")
            try:
                self._declared(key)
            except (Exception, SystemExit) as error:  # whatever that code does when imported
                said = " ".join(f"{type(error).__name__}: {error}".split())
                raise ValueError(f"models/{key}s/{name}.py: {said}") from None
        return self

    @model_validator(mode="after")
    def _options_are_read(self) -> Cell:
        own = [key for kind in KINDS for key in self._declared(kind).model_fields]
        given = self.model_extra
        assert given is not None  # as extra keys are allowed
        if unknown := sorted(set(given) - set(own)):
            known = ", ".join(dict.fromkeys([*type(self).model_fields, *own]))
            message = (
                f"unknown key; with fusion {self.fusion!r} and objective {self.objective!r} there "
                f"are {known}"
            )
            raise ValidationError.from_exception_data(
                "Cell", [_mistake(key, given[key], message) for key in unknown]
            )
        values = {k: v for kind in KINDS for k, v in self.options(kind).model_dump().items()}
        given.clear()  # a model's file has the same bytes in whatever order they were given
        given.update(values)
        return self

    @model_validator(mode="after")
    def _refused(self) -> Cell:
        reason = _refusal(self)
        if reason:
            raise ValueError(reason)
        return self


def _mistake(key: str, value: object, message: str) -> InitErrorDetails:
    kind = PydanticCustomError("unknown_option", "{message}", {"message": message})
    return {"type": kind, "loc": (key,), "input": value}


def check_cell(params: VAEParams, cell: Cell) -> None:
    """Refuse what only contradicts together.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    from models import entries, objectives

    if cell.samples > 1 and params.training.kl_warmup:
        raise ValueError(
            f"training.kl_warmup: {params.training.kl_warmup} with samples {cell.samples}: an "
            "importance-weighted bound has no KL term to weigh; use kl_warmup 0 or samples 1"
        )
    if unknown := sorted({*(cell.sensors or ())} - {*params.modalities}):
        raise ValueError(
            f"sensors: {unknown[0]!r:.60} is not one of vae.modalities, "
            f"{', '.join(params.modalities)}"
        )
    count = len(cell.fuses(params.modalities))
    least = objectives.traits(cell.objective).least_modalities
    if count < least:
        raise ValueError(f"objective: {cell.objective!r} needs {least} or more modalities")
    for kind in KINDS:
        if reason := entries.refusal(kind, cell, count):
            raise ValueError(reason)


def _refusal(cell: Cell) -> str:
    """Why this cell cannot be, whatever its modalities; empty if it can."""
    from models import entries, fusions, objectives

    for kind in KINDS[::-1]:
        if reason := entries.refusal(kind, cell, None):
            return reason
    importance = objectives.traits(cell.objective).importance
    if cell.samples > 1 and (not importance or cell.beta != 1):
        return (
            f"samples: {cell.samples} with objective {cell.objective!r} and beta {cell.beta}: "
            "an importance-weighted bound has no KL terms to weigh or add; use samples 1"
        )
    if cell.samples > 1 and cell.gradient == "stl":
        return (
            f"gradient: 'stl' with samples {cell.samples} is biased, as each importance weight "
            "would need its score term; use dreg"
        )
    if cell.samples == 1 and cell.gradient == "dreg":
        return "gradient: 'dreg' needs samples 2 or more; use stl for samples 1"
    if fusions.traits(cell.fusion).mixture and cell.gradient == "dreg":
        return (
            f"gradient: 'dreg' with fusion {cell.fusion!r} is biased, as log q is the whole "
            "mixture's and not that of the component drawn from; use standard"
        )
    return ""

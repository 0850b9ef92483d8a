"""Kinds of detectors, one file each, found by name: `yolov3-tiny` is `yolov3_tiny.py`.

A file has a class `Network`, a subclass of `detector.network.Network`. It, and with it torch, is
imported only as one asks for it.
"""

from __future__ import annotations

__all__ = ["check", "code_of", "load", "module"]

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from base.code import loaded
from detector.params import DetectorParams

if TYPE_CHECKING:
    from detector.network import Network


def module(name: str) -> str:
    """The dotted name of the module of a kind."""
    return f"{__name__}.{name.replace('-', '_')}"


def load(name: str) -> type[Network]:
    """The `Network` of a kind; only its own file is imported."""
    network: type[Network] = import_module(module(name)).Network
    code_of(name)  # as it is now, whatever becomes of the file
    return network


def code_of(name: str) -> str:
    """The digest of the code of a kind that this process has loaded."""
    return loaded(module(name))


def check(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a kind's file does not declare so.

    Raises:
        ValidationError: names each option, its value and what is allowed.
    """
    declared = load(name).Options
    known = ", ".join([*DetectorParams.model_fields, *declared.model_fields])
    message = f"unknown key; with network {name!r} there are {known}"
    kind = PydanticCustomError("unknown_option", "{message}", {"message": message})
    unknown = sorted(set(options) - set(declared.model_fields))
    if unknown:
        raise ValidationError.from_exception_data(
            name, [{"type": kind, "loc": (key,), "input": options[key]} for key in unknown]
        )
    declared.model_validate(options)

"""Every section of params, and every record read from a file, is one strict model."""

from __future__ import annotations

import inspect
import math
import pkgutil
from importlib import import_module

import pytest
from pydantic import BaseModel, ValidationError

from base.params import Section
from pipeline.running.params import Runs
from pipeline.study import Modalities
from tests.conftest import ROOT


class Speed(Section):
    limit: float = 1.0


@pytest.mark.parametrize(
    "values",
    [{"limt": 2.0}, {"limit": "2"}, {"limit": True}, {"limit": math.inf}, {"limit": math.nan}],
)
def test_what_is_no_value_of_a_key_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Speed.model_validate(values)


def test_a_section_does_not_change() -> None:
    with pytest.raises(ValidationError):
        Speed().limit = 2.0  # type: ignore[misc]


@pytest.mark.parametrize("room", ["scenegen", "models", "detector", "pipeline", "studies"])
def test_every_model_is_a_section(room: str) -> None:
    """But that which looks at a part of the params only."""
    names = [m.name for m in pkgutil.walk_packages([str(ROOT / room)], f"{room}.")]
    modules = [import_module(name) for name in names if not name.endswith("__main__")]
    found = {
        model
        for module in modules
        for _, model in inspect.getmembers(module, inspect.isclass)
        if issubclass(model, BaseModel) and model.__module__.startswith(f"{room}.")
    }
    assert all(issubclass(model, Section) for model in found - {Runs, Modalities}), found

"""Objectives: which experts each term of the bound sees, and what it must reconstruct.

A file `NAME.py` defines `plan(layout, cell, draws) -> Plan` and is found by its name. It may also
define `own(modalities) -> {name: initial value}`: parameters that are trained, saved and loaded
with the model, and reach `plan` as `layout.own`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from torch import nn

from base.code import loaded
from models.mixture import Draws
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["MakePlan", "code_of", "load", "own"]

MakePlan = Callable[[Layout, Cell, Draws], Plan]


def load(name: str) -> MakePlan:
    """The `plan` function of `models/objectives/<name>.py`; only that file is imported."""
    plan: MakePlan = import_module(f"models.objectives.{name}").plan
    code_of(name)  # as it is now, whatever becomes of the file
    return plan


def code_of(name: str) -> str:
    """The digest of the code of objective `name` that this process has loaded."""
    return loaded(f"models.objectives.{name}")


def own(name: str, modalities: int) -> nn.ParameterDict:
    """The parameters that objective `name` owns, at their initial values; most own none."""
    make = getattr(import_module(f"models.objectives.{name}"), "own", None)
    values = make(modalities) if make else {}
    return nn.ParameterDict({key: nn.Parameter(value) for key, value in values.items()})

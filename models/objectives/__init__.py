"""Objectives: which experts each term of the bound sees, and what it must reconstruct.

A file `NAME.py` defines `plan(layout, cell, draws) -> Plan` and is found by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from models.mixture import Draws
from models.params import Cell
from models.plan import Layout, Plan

__all__ = ["MakePlan", "load"]

MakePlan = Callable[[Layout, Cell, Draws], Plan]


def load(name: str) -> MakePlan:
    """The `plan` function of `models/objectives/<name>.py`; only that file is imported."""
    plan: MakePlan = import_module(f"models.objectives.{name}").plan
    return plan

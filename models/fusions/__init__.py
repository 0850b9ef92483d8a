"""Fusions: how expert posteriors become a joint posterior. One file per fusion.

A file `NAME.py` defines `fuse(experts, cell, draws) -> Mixture` and is found by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from base.code import loaded
from models.mixture import Draws, Experts, Mixture
from models.params import Cell

__all__ = ["Fuse", "code_of", "load"]

Fuse = Callable[[Experts, Cell, Draws], Mixture]


def load(name: str) -> Fuse:
    """The `fuse` function of `models/fusions/<name>.py`; only that file is imported."""
    fuse: Fuse = import_module(f"models.fusions.{name}").fuse
    code_of(name)  # as it is now, whatever becomes of the file
    return fuse


def code_of(name: str) -> str:
    """The digest of the code of fusion `name` that this process has loaded."""
    return loaded(f"models.fusions.{name}")

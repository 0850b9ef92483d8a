"""Fusions and objectives: files found by their names, imported when a cell asks for them.

Beside its function a file may declare

- `class Options(params.Options)`: its own options, with ranges, defaults and help;
- `TRAITS`: in what it differs from the plain case (`fusions.Traits`, `objectives.Traits`);
- `own(...) -> {name: initial value}`: parameters that are trained, saved and loaded with the model.
  A fusion's takes the numbers of experts and latent elements and reaches `fuse` as `experts.own`.
  An objective's takes the number of modalities and reaches `plan` as `layout.own`;
- `refuse(options, cell, modalities) -> str`: why a cell of it cannot be, "" if it can;
  `modalities` is their number, None while it is not known.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from types import ModuleType

from torch import nn

from base.code import loaded
from models.params import Cell, Options

__all__ = ["FUNCTIONS", "code_of", "having", "module", "options", "own", "refusal"]

FUNCTIONS = {"fusion": "fuse", "objective": "plan"}  # what a file of each folder must define


def module(kind: str, name: str) -> ModuleType:
    """The file of fusion or objective `name`; only that file is imported.

    Args:
        kind: "fusion" or "objective".

    Raises:
        Exception: whatever the file's code does when it is imported.
        AttributeError: it has no `fuse` or `plan`.
    """
    found = import_module(f"models.{kind}s.{name}")
    getattr(found, FUNCTIONS[kind])
    code_of(kind, name)  # as it is now, whatever becomes of the file
    return found


def code_of(kind: str, name: str) -> str:
    """The digest of the code of fusion or objective `name` that this process has loaded."""
    return loaded(f"models.{kind}s.{name}")


def options(kind: str, name: str) -> type[Options]:
    """The class of its options; `params.Options`, which has none, if it declares no class.

    Raises:
        TypeError, ValueError: what the file declares cannot be an option.
    """
    declared = getattr(module(kind, name), "Options", Options)
    if not (isinstance(declared, type) and issubclass(declared, Options)):
        raise TypeError("Options must be a class that derives from models.params.Options")
    if taken := sorted({*declared.model_fields} & {*Cell.model_fields}):
        raise ValueError(f"Options: {taken[0]} is a key of every cell; choose another name")
    return declared


def own(kind: str, name: str, *sizes: int) -> nn.ParameterDict:
    """The parameters that it owns, at their initial values; most own none."""
    make = getattr(module(kind, name), "own", None)
    values = make(*sizes) if make else {}
    return nn.ParameterDict({key: nn.Parameter(value) for key, value in values.items()})


def refusal(kind: str, cell: Cell, modalities: int | None) -> str:
    """Why the cell's fusion or objective refuses the cell; empty if it does not."""
    refuse = getattr(module(kind, getattr(cell, kind)), "refuse", None)
    return str(refuse(cell.options(kind), cell, modalities)) if refuse else ""


def having(kind: str, trait: str, names: tuple[str, ...]) -> str:
    """Those of `names` whose `TRAITS` have this one, in words: "a, b or c"."""
    found = []
    for name in names:
        with contextlib.suppress(Exception):  # a file that cannot be imported has no trait
            if getattr(getattr(module(kind, name), "TRAITS", None), trait, False):
                found.append(name)
    return " or ".join([", ".join(found[:-1]), *found[-1:]] if len(found) > 1 else found)

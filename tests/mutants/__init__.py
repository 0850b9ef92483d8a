"""Changes that break the code, one file of them for each room, and the tests to notice them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOMS", "ROOT", "Mutant", "Room", "room"]

ROOT = Path(__file__).parents[2]
ROOMS = ("base", "scenegen", "detector", "models", "pipeline")


class Mutant(NamedTuple):
    """In `file` of its room, `old` (there once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str


class Room(NamedTuple):
    """The mutants of a room.

    `tests` are pytest's arguments by file (* for any other): the tests likely to notice a change
    of it. One that these do not notice counts as survived.
    """

    mutants: tuple[Mutant, ...]
    tests: dict[str, tuple[str, ...]]

    def tests_of(self, mutant: Mutant) -> tuple[str, ...]:
        """Pytest's arguments for a mutant."""
        return self.tests.get(mutant.file) or self.tests["*"]


def room(name: str) -> Room:
    """The mutants of `tests/mutants/<name>.py`."""
    module = import_module(f"tests.mutants.{name}")
    return Room(module.MUTANTS, module.TESTS)

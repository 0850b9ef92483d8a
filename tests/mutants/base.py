"""Mutants of what every room stands on."""

from __future__ import annotations

from tests.mutants import Mutant

TESTS = {"*": ("tests/base/test_checkpoints.py",)}

MUTANTS = (
    Mutant(
        "checkpoints of something else pile up",
        "checkpoints.py",
        "                shutil.rmtree(other, ignore_errors=True)",
        "                pass",
    ),
    Mutant(
        "a damaged checkpoint taken for a whole one",
        "checkpoints.py",
        "if self._digest(name, content) == whole[:SIZE]:",
        "if content:",
    ),
    Mutant(
        "data of another shape under the same fingerprint",
        "checkpoints.py",
        "{name} {values.shape} {values.dtype}",
        "{name} {values.dtype}",
    ),
)

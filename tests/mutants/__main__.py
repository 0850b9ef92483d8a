"""Breaks the code on purpose, one line at a time, and says which test notices.

    python -m tests.mutants [WORD ...]     # about 15 s a mutant; rooms and names with a WORD

A mutant that survives, or a line that is no longer there to be changed, ends in exit code 1.
README.md has the table that a run printed. Tests that need a finished smoke run are skipped, unless
SMOKE_RUN names one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.conftest import clone
from tests.mutants import ROOMS, Mutant, room


def first_failure(folder: Path, tests: tuple[str, ...]) -> str | None:
    """The first of the tests that fails in a copy of the repository."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env={"SMOKE_RUN": "none", **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^(?:FAILED|ERROR) \S+?\.py::(.+?)(?: - |$)", done.stdout, re.MULTILINE)
    if found is None and done.returncode:  # such as a file that cannot be imported any more
        raise RuntimeError(
            f"pytest {' '.join(tests)} failed without a test:\n{done.stdout[-2000:]}"
        )
    return found[1] if found else None


def tried(folder: Path, name: str, mutant: Mutant, tests: tuple[str, ...]) -> str | None:
    """What notices a mutant, of which it prints a row of the table; None if nothing does."""
    file = folder / name / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        print(f"| {mutant.name} | NOT APPLIED: {name}/{mutant.file} has changed |", flush=True)
        return None
    file.write_text(text.replace(mutant.old, mutant.new))
    killer = first_failure(folder, tests)
    file.write_text(text)
    print(f"| {mutant.name} | {f'`{killer}`' if killer else 'SURVIVED'} |", flush=True)
    return killer


def main(words: list[str]) -> int:
    """Try every mutant with one of the words in its name or as its room; how many lived."""
    survived = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = clone(Path(temporary) / "copy")
        for name in ROOMS:
            of = room(name)
            for mutant in of.mutants:
                if not words or any(word == name or word in mutant.name for word in words):
                    survived += tried(folder, name, mutant, of.tests_of(mutant)) is None
    return survived


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))

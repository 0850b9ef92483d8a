"""The lists of mutants fit the code as it stands; `python -m tests.mutants` tries them."""

from __future__ import annotations

import pytest

from tests.mutants import ROOMS, ROOT, Mutant, room

ALL = [(name, mutant) for name in ROOMS for mutant in room(name).mutants]


@pytest.mark.parametrize(("name", "mutant"), ALL, ids=lambda value: getattr(value, "name", value))
def test_what_a_mutant_changes_is_there_once(name: str, mutant: Mutant) -> None:
    assert (ROOT / name / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old


def test_readme_lists_every_mutant_and_every_file_is_there() -> None:
    lines = (ROOT / "tests/mutants/README.md").read_text().splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert [row for row in rows if row != "mutant"] == [mutant.name for _, mutant in ALL]
    for name in ROOMS:
        named = {file for tests in room(name).tests.values() for file in tests}
        assert all((ROOT / file).is_file() for file in named if file.startswith("tests/"))

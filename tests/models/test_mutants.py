"""The list of mutants fits the code as it stands; `python -m tests.models.mutants` tries them."""

from __future__ import annotations

import pytest

from tests.models.mutants import FILES, MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_changes_is_there_once(mutant: Mutant) -> None:
    assert (ROOT / "models" / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old


def test_readme_lists_every_mutant_and_every_file_is_there() -> None:
    lines = (ROOT / "tests/models/README.md").read_text().splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert set(rows) >= {mutant.name for mutant in MUTANTS}
    assert all((ROOT / f"tests/models/test_{file}.py").is_file() for file in FILES)

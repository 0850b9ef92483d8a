"""The README shows the committed run."""

from __future__ import annotations

from pipeline.__main__ import with_table
from tests.conftest import shipped


def test_the_table_is_the_committed_one() -> None:
    readme, table = shipped("README.md"), shipped("results/table3.md")
    assert table in readme
    assert with_table(readme, table) == readme
    assert "0.12 (0.34)" in with_table(readme, "| 0.12 (0.34) |\n")

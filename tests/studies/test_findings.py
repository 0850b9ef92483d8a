"""Verdicts: the paper's own tables bear out its findings, and tables that say otherwise do not."""

from __future__ import annotations

import pytest

from studies.cub.paper import TABLE2
from studies.findings import findings
from studies.mnist_svhn.paper import TABLE1
from studies.table import Row

KEYS = {
    "mnist_svhn": (TABLE1, ("cross_mnist", "cross_svhn"), ("synergy_mnist", "synergy_svhn")),
    "cub": (TABLE2, ("cross_image", "cross_text"), ("synergy_image", "synergy_text")),
}


def rows(study: str, **changed: float) -> list[Row]:
    """The paper's table as a study's rows; `changed` replaces figures of every row."""
    return [
        {"cell": f"{fusion}-{objective}", "fusion": fusion, "objective": objective}
        | figures
        | changed
        for (fusion, objective), figures in KEYS[study][0].items()
    ]


@pytest.mark.parametrize("study", KEYS)
def test_the_papers_own_tables_bear_out_its_findings(study: str) -> None:
    _, cross, synergy = KEYS[study]
    found = findings(rows(study), cross, synergy)
    assert [f.claim.split()[0] for f in found] == ["Without", "rce", "ecg", "rmd", "lcd", "moe"]
    assert all(f.holds for f in found)


def test_a_table_in_which_all_are_alike_bears_out_none() -> None:
    _, cross, synergy = KEYS["mnist_svhn"]
    alike = rows("mnist_svhn", **dict.fromkeys((*cross, *synergy), 50.0))
    alike.sort(key=lambda row: row["fusion"] != "moe")  # the first of equals is not the least
    assert [f.holds for f in findings(alike, cross, synergy)] == [False] * 6


@pytest.mark.parametrize("study", KEYS)
@pytest.mark.parametrize(
    ("gains", "holds"),
    [
        ((-60.0, 20.0), True),  # the mean counts: at one modality alone it may gain
        ((-60.0, 60.0), False),  # a mean gain of 0, where another row's is less
        ((-15.0, -5.0), False),  # the least, but within 10 points of the others' median
        ((500.0, 500.0), False),
        ((None, -99.0), None),
    ],
)
def test_moe_loses_synergy_only_if_its_mean_gain_is_the_least(
    study: str, gains: tuple[float | None, float | None], holds: bool | None
) -> None:
    _, cross, synergy = KEYS[study]
    table = [
        {"cell": f"{fusion}-none", "fusion": fusion, "objective": "none"}
        | dict.fromkeys(cross, 50.0)
        | dict(zip(synergy, own, strict=True))
        for fusion, own in (("rce", (5.0, 5.0)), ("moe", gains), ("poe", (-10.0, -1.0)))
    ]
    if holds is None:
        table = table[:2]
    found = findings(table, cross, synergy)[-1]
    assert found.claim.startswith("moe loses synergy")
    assert found.holds is holds


@pytest.mark.parametrize(
    ("first", "second", "said", "holds"),
    [
        (50.0, 10.0, "mnist 0.50, svhn 0.10 (both fail)", True),
        (90.0, 10.0, "mnist 0.90, svhn 0.10 (one fails)", True),
        (90.0, 80.0, "mnist 0.90, svhn 0.80 (none fails)", False),
    ],
)
def test_both_directions_are_shown_and_how_many_fail(
    first: float, second: float, said: str, holds: bool
) -> None:
    _, cross, synergy = KEYS["mnist_svhn"]
    table = rows("mnist_svhn", **dict.fromkeys(cross, 100.0))
    for row in table:
        if row["objective"] == "none" and row["fusion"] in ("poe", "bce", "rbcm"):
            row |= dict(zip(cross, (first, second), strict=True))
    found = findings(table, cross, synergy)[0]
    assert f"poe-none {said}; bce-none {said}" in found.figures
    assert found.holds is holds


def test_what_cannot_be_told_is_not_claimed() -> None:
    _, cross, synergy = KEYS["cub"]
    few = [row | {"synergy_text": None} for row in rows("cub") if row["objective"] == "ecg"]
    assert [f.holds for f in findings(few, cross, synergy)] == [None, None, None]


def test_a_row_without_a_figure_is_passed_over() -> None:
    _, cross, synergy = KEYS["cub"]
    table = rows("cub")
    lcd = next(row for row in table if row["objective"] == "lcd")
    lcd["cross_text"] = None
    found = findings(table, cross, synergy)
    assert [f.claim.split()[0] for f in found] == ["Without", "rce", "ecg", "rmd", "moe"]
    assert all(f.holds for f in found)
    for row in table:
        row["cross_image"] = None
    assert [f.holds for f in findings(table, cross, synergy)] == [None, True]

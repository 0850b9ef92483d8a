"""Verdicts: the paper's own tables bear out its findings, and tables that say otherwise do not."""

from __future__ import annotations

import pytest

from pipeline.reporting.findings import Finding, findings
from pipeline.reporting.table import Figure, Row
from studies.cub import paper as cub
from studies.mnist_svhn import paper as mnist_svhn

PAPERS = {"mnist_svhn": mnist_svhn, "cub": cub}
CROSS = {"mnist_svhn": ("cross_mnist", "cross_svhn"), "cub": ("cross_image", "cross_text")}
SYNERGY = {
    "mnist_svhn": ("synergy_mnist", "synergy_svhn"),
    "cub": ("synergy_image", "synergy_text"),
}
FIRST_WORDS = ["Without", "rce", "ecg", "rmd", "lcd", "moe"]


def row(fusion: str, objective: str, figures: dict[str, float | None]) -> Row:
    shown = {key: Figure(value) for key, value in figures.items()}
    return Row(f"{fusion}-{objective}", fusion, objective, shown)


def rows(study: str, **changed: float | None) -> list[Row]:
    """The paper's table as a study's rows; `changed` replaces figures of every row."""
    return [row(*cell, figures | changed) for cell, figures in PAPERS[study].TABLE.items()]


def found(study: str, table: list[Row]) -> list[Finding]:
    """The findings, in the order of the claims."""
    claims = PAPERS[study].claims(())
    order = [claim.text for claim in claims]
    return sorted(findings(table, claims), key=lambda finding: order.index(finding.claim))


def verdicts(study: str, table: list[Row]) -> list[str]:
    return [finding.verdict for finding in found(study, table)]


@pytest.mark.parametrize("study", PAPERS)
def test_the_papers_own_tables_bear_out_its_findings(study: str) -> None:
    told = found(study, rows(study))
    assert [f.claim.split()[0] for f in told] == FIRST_WORDS
    assert {f.verdict for f in told} == {"agrees"}


def test_a_table_in_which_all_are_alike_bears_out_none() -> None:
    alike = rows("mnist_svhn", **dict.fromkeys(CROSS["mnist_svhn"] + SYNERGY["mnist_svhn"], 50.0))
    alike.sort(key=lambda row: row.fusion != "moe")  # the first of equals is not the least
    assert verdicts("mnist_svhn", alike) == ["disagrees"] * 6


@pytest.mark.parametrize("study", PAPERS)
@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((-60.0, 20.0), "agrees"),  # the mean counts: at one modality alone it may gain
        ((-60.0, 60.0), "disagrees"),  # a mean gain of 0, where another row's is less
        ((-15.0, -5.0), "disagrees"),  # the least, but within 10 points of the others' median
        ((500.0, 500.0), "disagrees"),
        ((None, -99.0), "untested"),
    ],
)
def test_moe_loses_synergy_only_if_its_mean_gain_is_the_least(
    study: str, gains: tuple[float | None, float | None], verdict: str
) -> None:
    table = [
        row(
            fusion,
            "none",
            dict.fromkeys(CROSS[study], 50.0) | dict(zip(SYNERGY[study], own, strict=True)),
        )
        for fusion, own in (("rce", (5.0, 5.0)), ("moe", gains), ("poe", (-10.0, -1.0)))
    ]
    if verdict == "untested":
        table = table[:2]
    last = found(study, table)[-1]
    assert last.claim.startswith("moe loses synergy")
    assert last.verdict == verdict


@pytest.mark.parametrize(
    ("first", "second", "said", "verdict"),
    [
        (50.0, 10.0, "mnist 0.50, svhn 0.10 (both fail)", "agrees"),
        (90.0, 10.0, "mnist 0.90, svhn 0.10 (one fails)", "agrees"),
        (90.0, 80.0, "mnist 0.90, svhn 0.80 (none fails)", "disagrees"),
    ],
)
def test_both_directions_are_shown_and_how_many_fail(
    first: float, second: float, said: str, verdict: str
) -> None:
    keys = CROSS["mnist_svhn"]
    plain = dict(zip(keys, (first, second), strict=True))
    table = [
        row(*cell, dict.fromkeys(keys, 100.0) | (plain if _plain(*cell) else {}))
        for cell in mnist_svhn.TABLE
    ]
    first_found = found("mnist_svhn", table)[0]
    assert f"poe-none {said}; bce-none {said}" in first_found.sentence
    assert first_found.verdict == verdict


def _plain(fusion: str, objective: str) -> bool:
    return objective == "none" and fusion in ("poe", "bce", "rbcm")


def test_what_cannot_be_told_is_not_claimed() -> None:
    few = [one for one in rows("cub", synergy_text=None) if one.objective == "ecg"]
    assert verdicts("cub", few) == ["untested"] * 6


def test_a_row_without_a_figure_is_passed_over() -> None:
    table = [
        row(*cell, figures | ({"cross_text": None} if cell[1] == "lcd" else {}))
        for cell, figures in cub.TABLE.items()
    ]
    told = dict(zip(FIRST_WORDS, verdicts("cub", table), strict=True))
    assert told.pop("lcd") == "untested"
    assert set(told.values()) == {"agrees"}
    assert verdicts("cub", rows("cub", cross_image=None)) == ["untested"] * 5 + ["agrees"]

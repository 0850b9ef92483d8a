"""Telling which sensor lies: figures against brute force, and the table made of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.reporting import detection_table, fault_table
from pipeline.scoring.bootstrap import copies
from pipeline.scoring.detection import Alarms, auroc, false_alarms, figures
from pipeline.scoring.params import FaultParams
from scenegen.params import SENSORS as MODALITIES
from tests.pipeline.test_faults import FAULTY, NOISE, survivor

RNG = np.random.default_rng(0)
DRAWN = copies(12, 5, 0)


def pairs(faulty: np.ndarray, clean: np.ndarray) -> float:
    """Every pair counted, one by one."""
    wins = [1.0 if f > c else 0.5 if f == c else 0.0 for f in faulty for c in clean]
    return sum(wins) / len(wins)


@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_auroc_counts_every_pair_of_a_resample(levels: int) -> None:
    faulty = RNG.integers(levels, size=12) / levels + 0.2 * (levels > 3)
    clean = RNG.integers(levels, size=12) / levels
    found = auroc(faulty, clean, DRAWN, DRAWN)
    for row, values in zip(DRAWN, found, strict=True):
        assert values == pytest.approx(pairs(faulty.repeat(row), clean.repeat(row)))
    assert auroc(clean + 2, clean, DRAWN, DRAWN) == pytest.approx(1.0)
    assert auroc(faulty, faulty, DRAWN[:1], DRAWN[:1]) == pytest.approx(0.5)


def test_a_figure_of_no_scenes_is_not_defined() -> None:
    none, one = np.zeros((1, 3), int), np.ones((1, 3), int)
    values = np.arange(3.0)
    assert np.isnan(auroc(values, values, none, one)).all()


def test_only_scenes_that_the_fault_changed_count() -> None:
    """Three sensors, four scenes; the second is faulty and unchanged in the last scene."""
    clean = Alarms("abc", np.zeros((3, 4)), {}, {0.01: np.array([-1, -1, 2, -1])})
    score = np.array([[0.0, 0, 9, 9], [5, 5, 5, 0], [0, 0, 0, 0]])
    alarm = {0.01: score > 4}
    faulty = Alarms("abc", score, alarm, {0.01: np.array([1, 1, 0, 0])})
    drawn = np.array([[1, 1, 1, 1], [3, 0, 1, 0], [0, 0, 0, 4]])
    changed = np.array([True, True, True, False])
    found = figures("b", faulty, clean, changed, drawn)
    assert found["auroc"][:2].tolist() == [1, 1]
    np.testing.assert_allclose(found["found-0.01"], [1, 1, np.nan])
    np.testing.assert_allclose(found["named-0.01"], [2 / 3, 3 / 4, np.nan])
    np.testing.assert_allclose(found["misled-0.01"], [1 / 3, 1 / 4, np.nan])
    np.testing.assert_allclose(false_alarms(clean, drawn)["named-0.01"], [0.25, 0.25, 0])


def told(auto: float) -> dict[str, np.ndarray]:
    """`survivor` at 0.4 (0.8 without the liar), with what automatic rejection makes of it."""
    found = survivor(0.9, 0.8, {0.5: 0.4, 1.0: 0.4})
    shown = {f"auto-clean/{m}": 0.89 + NOISE for m in MODALITIES}
    shown["detect-clean/named-0.01"] = 0.03 + NOISE
    for sensor in MODALITIES:
        for kind in FAULTY.kinds:
            for severity in FAULTY.severities:
                name = f"{sensor}/{kind}/{severity}"
                better = auto if severity == 1.0 else 0.4
                shown |= {f"auto-{name}/{m}": better + NOISE for m in MODALITIES}
                for place, key in enumerate(detection_table.TOLD):
                    shown[f"detect-{name}/{key}"] = place / 10 + severity / 2 + NOISE
    return found | shown


def test_the_table_tells_what_rejection_has_of_the_oracles_gain() -> None:
    cells, found = {"a": ("poe", "split"), "old": ("poe", "none")}, {"a": told(0.7)}
    found["old"] = survivor(0.9, 0.8, {0.5: 0.4, 1.0: 0.4})
    rows = detection_table.summarise(cells, found, FAULTY)
    assert [(r["cell"], r["severity"], r["kind"]) for r in rows] == [
        ("a", severity, kind) for severity in (0.5, 1.0) for kind in ("all", "noise", "frozen")
    ]
    mild, bad = rows[0], rows[3]
    assert (mild["gained"], bad["gained"]) == pytest.approx((0, 75))
    assert (bad["gained_lo"], bad["gained_hi"]) == pytest.approx((75, 75))  # paired
    assert (bad["faulty"], bad["auto"], bad["oracle"]) == pytest.approx((0.4, 0.7, 0.8))
    assert (bad["lost"], bad["lost_lo"], bad["false_alarms"]) == pytest.approx((0.01, 0.01, 0.03))
    assert (bad["auroc"], bad["found-0.01"], bad["found-0.05"]) == pytest.approx((0.5, 0.6, 0.9))
    json.dumps(rows, allow_nan=False)
    text = detection_table.as_markdown(rows, "map50")
    lines = text.splitlines()
    assert len(lines) == 2 + 2 + 2  # heading, a row for each severity, a line between, the note
    assert lines[3].startswith("| split | poe | 1 | 0.500 ")
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert " | 75 [75, 75] | " in lines[3]
    beside = detection_table.beside(found["a"], "image/noise/1.0", "depth")
    assert beside["auto"] == pytest.approx(0.7)
    assert (beside["gain"], beside["gain_lo"]) == pytest.approx((0.3, 0.3))


def test_where_rejection_can_gain_nothing_there_is_no_share() -> None:
    found = told(0.7) | {f"without-{s}/{m}": 0.3 + NOISE for s in MODALITIES for m in MODALITIES}
    row = detection_table.summarise({"a": ("poe", "split")}, {"a": found}, FAULTY)[0]
    assert (row["gained"], row["gained_lo"]) == (None, None)
    assert "| – |" in detection_table.as_markdown([row], "map50")


def test_scores_of_before_have_no_such_table() -> None:
    old = survivor(0.9, 0.8, {0.5: 0.4, 1.0: 0.4})
    few = FaultParams(kinds=["noise"], severities=[0.5], scenes=10)
    assert detection_table.summarise({"a": ("poe", "none")}, {"a": old}, few) == []
    assert detection_table.as_markdown([], "map50") == ""
    assert detection_table.beside(old, "image/noise/0.5", "depth") == {}
    pair = {k: v for k, v in told(0.7).items() if "radar" not in k}
    rows = detection_table.summarise(
        {"a": ("poe", "none"), "two": ("poe", "ecg")}, {"a": told(0.7), "two": pair}, few
    )
    assert [row["sensors"] for row in rows[::2]] == ["image+depth+radar", "image+depth"]
    text = detection_table.as_markdown(rows, "map50")
    assert text.startswith("| objective | fusion | sensors | severity |")
    assert "\n| ecg | poe | image+depth | 0.5 |" in text
    seeds = fault_table.merged([told(0.7), old])  # one seed scored since, one before
    assert set(seeds) == set(old)

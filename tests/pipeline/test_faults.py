"""Faults do what they say by as much as they say, and depend on nothing but their key."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.reporting import fault_table
from pipeline.reporting.table import UNDEFINED
from pipeline.reporting.tables import as_csv
from pipeline.scoring.faults import FAULTS, degrade
from pipeline.scoring.metrics import DETECTED, under_faults
from pipeline.scoring.params import FaultParams
from scenegen.params import SENSORS as MODALITIES

SCENES = np.arange(4, 204, 5)
RNG = np.random.default_rng(0)
# Brighter to the right, so that a longer shift changes more.
SEEN = np.sort(RNG.integers(30, 220, (len(SCENES), 16, 24, 3), dtype=np.uint8), axis=2)


def spoil(
    kind: str, severity: float, rows: slice = slice(None), sensor: str = "image"
) -> np.ndarray:
    return degrade(kind, severity, sensor, SEEN[rows], SCENES[rows], seed=0)


@pytest.mark.parametrize("kind", FAULTS)
def test_no_severity_changes_nothing_and_more_changes_more(kind: str) -> None:
    assert np.array_equal(spoil(kind, 0.0), SEEN)
    changed = [np.abs(spoil(kind, s).astype(float) - SEEN).mean() for s in (0.1, 0.4, 1.0)]
    assert 0 < changed[0] < changed[1] < changed[2]
    spoiled = spoil(kind, 0.5)
    assert spoiled.dtype == np.uint8
    assert spoiled.shape == SEEN.shape


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_keyed_by_seed_scene_and_sensor_and_by_no_batch(kind: str) -> None:
    whole = spoil(kind, 0.4)
    assert np.array_equal(whole, spoil(kind, 0.4))
    some = spoil(kind, 0.4, slice(10, 20))
    assert np.array_equal(some[1:], whole[11:20])  # the first has another predecessor
    assert not np.array_equal(spoil(kind, 0.4, sensor="depth"), whole)
    assert not np.array_equal(degrade(kind, 0.4, "image", SEEN, SCENES, seed=1), whole)


def test_noise_has_the_deviation_it_states() -> None:
    grey = np.full((50, 32, 32, 1), 128, np.uint8)
    noisy = degrade("noise", 0.1, "depth", grey, np.arange(50), 0).astype(float)
    assert noisy.std() == pytest.approx(25.5, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.5)
    for full in (0, 255):  # half of it lies outside the range, and is cut
        cut = degrade("noise", 0.1, "depth", np.full_like(grey, full), np.arange(50), 0)
        assert (cut == full).mean() == pytest.approx(0.5, abs=0.02)
        assert np.abs(cut.astype(float) - full).max() < 6 * 25.5


def test_dead_pixels_are_the_share_it_states_black_or_white_and_stay_dead() -> None:
    mild, bad = spoil("dead", 0.1), spoil("dead", 0.3)
    for spoiled, share in ((mild, 0.1), (bad, 0.3)):
        dead = (spoiled != SEEN).any(-1)
        assert dead.mean() == pytest.approx(share, abs=0.02)
        assert set(np.unique(spoiled[dead])) == {0, 255}
        assert (spoiled[dead] == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert ((bad != SEEN) | (mild == SEEN)).all()


def test_a_frozen_sensor_shows_the_scene_before() -> None:
    frozen = spoil("frozen", 1.0)
    assert np.array_equal(frozen[1:], SEEN[:-1])
    assert np.array_equal(frozen[0], SEEN[1])
    some = spoil("frozen", 0.5)
    before = np.concatenate([SEEN[1:2], SEEN[:-1]])
    held = np.array([np.array_equal(a, b) for a, b in zip(some, before, strict=True)])
    kept = np.array([np.array_equal(a, b) for a, b in zip(some, SEEN, strict=True)])
    assert (held ^ kept).all()
    assert 10 <= held.sum() <= 30


def test_a_shifted_picture_is_the_same_picture_elsewhere() -> None:
    ways = []
    for spoiled, picture in zip(spoil("shifted", 0.5), SEEN, strict=True):
        left, right = picture[:, 6:], picture[:, :-6]
        ways.append(np.array_equal(spoiled[:, :-6], left))
        assert ways[-1] or np.array_equal(spoiled[:, 6:], right)
    assert 10 <= sum(ways) <= 30  # of 40


def test_a_blackout_has_the_area_it_states() -> None:
    black = (spoil("blackout", 0.25) == 0).all(-1)
    assert (black.sum((1, 2)) == 8 * 12).all()
    tops, lefts = black.any(2).argmax(1), black.any(1).argmax(1)
    assert np.ptp(tops) >= 7  # of 8 rows: anywhere in the picture
    assert np.ptp(lefts) >= 10  # of 12 columns
    assert not spoil("blackout", 1.0).any()


FAULTY = FaultParams(kinds=["noise", "frozen"], severities=[0.5, 1.0], scenes=10)
OTHERS = under_faults(DETECTED, "map50").keys() - {"map50"}
SHARES = {key: 1 / place for place, key in enumerate(sorted(OTHERS), start=2)}  # of mAP@0.5
NOISE = np.concatenate([[0.0], np.linspace(-0.08, 0.08, 201)])


def survivor(
    clean: float, without: float, at: dict[float, float], sensors: tuple[str, ...] = MODALITIES
) -> dict[str, np.ndarray]:
    """One method with the same figures for every sensor, kind and target.

    Its other figures are the SHARES of mAP@0.5.
    """
    shares = {"": 1.0} | {f"/{key}": share for key, share in SHARES.items()}
    named = {"clean": clean} | {f"without-{s}": without for s in sensors}
    named |= {
        f"{s}/{kind}/{severity}": value
        for s in sensors
        for kind in FAULTY.kinds
        for severity, value in at.items()
    }
    return {
        f"{name}/{m}{metric}": share * (value + NOISE)
        for name, value in named.items()
        for m in sensors
        for metric, share in shares.items()
    }


DECODED = "Decoded: the posterior's mean."


def test_the_summary_tells_which_method_survives() -> None:
    cells = {"good": ("poe", "ecg"), "bad": ("poe", "none")}
    found = {
        "good": survivor(0.8, 0.5, {0.5: 0.7, 1.0: 0.6}),
        "bad": survivor(0.8, 0.6, {0.5: 0.6, 1.0: 0.2}),
    }
    cost = {"encodes": 3.0, "decodes": 21.0, "parameters": 9.0e6}
    costs = {"good": cost, "bad": cost | {"decodes": 3.0}}
    good, bad = fault_table.summarise(cells, found, FAULTY, costs, "map50")
    assert good["faulty"] == pytest.approx(0.65)
    assert good["kept"] == pytest.approx(100 * 0.65 / 0.8)
    assert (good["difference"], good["difference_lo"]) == pytest.approx((0.15, 0.15))
    assert (good["better_with"], good["better_without"], good["conditions"]) == (12, 0, 12)
    # At half severity the bad one is as good with the sensor as without: neither is better.
    assert (bad["better_with"], bad["better_without"]) == (0, 6)
    assert bad["worst"] == pytest.approx(0.2)
    assert bad["worst_case"].endswith(" 1")
    # The noise is shared: what one is behind the other by is certain.
    assert good["behind"]["faulty"] == {"best": 0, "lo": 0, "hi": 0}
    assert bad["behind"]["faulty"] == pytest.approx({"best": -0.25, "lo": -0.25, "hi": -0.25})
    assert bad["behind"]["kept"]["best"] == pytest.approx(100 * (0.4 - 0.65) / 0.8)
    for metric, share in SHARES.items():
        for name in ("clean", "faulty", "without"):
            assert good[f"{name}_{metric}"] == pytest.approx(share * good[name])
        assert good[f"faulty_{metric}_lo"] == pytest.approx(share * good["faulty_lo"])
    rows = fault_table.conditions(cells, found, FAULTY, costs, "map50")
    for row in rows:
        for metric, share in SHARES.items():
            assert row[metric] == pytest.approx(share * row["map50"])
            assert row[f"clean_{metric}"] == pytest.approx(share * row["clean"])
            assert row[f"without_{metric}"] == pytest.approx(share * row["without"])
    assert len(rows) == 2 * 3 * 2 * 2 * 3
    assert {(row["cell"], row["decodes"]) for row in rows} == {("good", 21.0), ("bad", 3.0)}
    text = fault_table.as_markdown([good, bad], FAULTY, DECODED, "map50")
    assert "0.65 [0.57, 0.73] | best |" in text
    assert "| -0.25 [-0.25, -0.25] |" in text
    assert text.endswith(f"\n\n{DECODED}\n")
    for decodes in (3, 21):
        assert f"| 3 + {decodes} | 9.0 |" in text
    assert len(as_csv(rows).splitlines()) == len(rows) + 1
    json.dumps([good, bad])


COST = {"encodes": 3.0, "decodes": 3.0, "parameters": 9.0e6}


def table(found: dict[str, np.ndarray], of: tuple[str, ...] = MODALITIES) -> tuple[dict, str]:
    cells = {"a": ("poe", "none")}
    (row,) = fault_table.summarise(cells, {"a": found}, FAULTY, {"a": COST}, "map50")
    rows = fault_table.conditions(cells, {"a": found}, FAULTY, {"a": COST}, "map50")
    assert {r["target"] for r in rows} == {r["sensor"] for r in rows} == set(of)
    json.dumps([row, rows], allow_nan=False)
    return row, fault_table.as_markdown([row], FAULTY, DECODED, "map50")


def test_a_sensor_without_figures_is_left_out_of_the_means_which_say_so() -> None:
    found = survivor(0.8, 0.5, {0.5: 0.7, 1.0: 0.6})
    whole, text = table(found)
    assert "mean over image, depth, radar, over faulty sensors" in text
    assert "–" not in text
    for name in found:
        if name.endswith("/radar"):  # its mAP@0.5, on every condition
            found[name] = np.full_like(found[name], np.nan)
    row, text = table(found)
    assert "mean of 2 of 3 sensors (image, depth), over faulty sensors" in text
    assert (row["targets"], row["undefined"]) == (["image", "depth"], ["radar"])
    for name in ("clean", "faulty", "kept", "without", "difference", "worst", "clean_ssim"):
        assert row[name] == pytest.approx(whole[name])
    assert (row["better_with"], row["conditions"]) == (12, 12)


def test_a_run_of_which_nothing_is_defined_shows_dashes_and_why() -> None:
    found = survivor(0.8, 0.5, {0.5: 0.7, 1.0: 0.6})
    row, text = table({name: np.full_like(values, np.nan) for name, values in found.items()})
    assert (row["clean"], row["faulty"], row["kept"], row["worst"]) == (None,) * 4
    assert text.splitlines()[2].startswith("| none | poe |" + " – |" * 9 + " 3 + 3 |")
    assert UNDEFINED in text
    assert "of 0 of 3 sensors" in text


def test_a_fourth_sensor_is_among_those_that_fail_and_that_are_generated() -> None:
    four = (*MODALITIES, "normals")
    row, text = table(survivor(0.8, 0.5, {0.5: 0.7, 1.0: 0.6}, four), four)
    assert row["conditions"] == 16
    assert "mean over image, depth, radar, normals," in text


def test_means_are_over_the_targets_that_every_cell_has() -> None:
    """A cell is faulty in each sensor of its own; the depth, which one alone has, is in no mean."""
    cells = {"all": ("poe", "ecg"), "two": ("poe", "none")}
    found = {
        "all": survivor(0.8, 0.5, {0.5: 0.7, 1.0: 0.6}),
        "two": survivor(0.6, 0.4, {0.5: 0.5, 1.0: 0.4}, ("image", "radar")),
    }
    found["all"] |= {k: 0 * v for k, v in found["all"].items() if k.endswith("/depth")}
    costs = dict.fromkeys(cells, COST)
    whole, pair = fault_table.summarise(cells, found, FAULTY, costs, "map50")
    assert whole["targets"] == pair["targets"] == ["image", "radar"]
    assert (whole["clean"], whole["faulty"]) == pytest.approx((0.8, 0.65))
    assert (pair["clean"], pair["faulty"]) == pytest.approx((0.6, 0.45))
    assert (whole["conditions"], pair["conditions"]) == (12, 8)
    assert pair["behind"]["faulty"]["best"] == pytest.approx(-0.2)
    text = fault_table.as_markdown([whole, pair], FAULTY, DECODED, "map50")
    assert "mean over image, radar, the sensors that every cell has, over faulty" in text
    assert "| none | poe | image+radar | 0.60 |" in text
    rows = fault_table.conditions(cells, found, FAULTY, costs, "map50")
    assert {row["sensor"] for row in rows if row["cell"] == "two"} == {"image", "radar"}
    assert len(rows) == 3 * 4 * 3 + 2 * 4 * 2
    apart = {
        "all": survivor(0.8, 0.5, {0.5: 0.7, 1.0: 0.6}, ("depth", "side")),
        "two": found["two"],
    }
    rows = fault_table.summarise(cells, apart, FAULTY, costs, "map50")
    assert [row["clean"] for row in rows] == [None, None]
    text = fault_table.as_markdown(rows, FAULTY, DECODED, "map50")
    assert "mean over no sensor, as none is in every cell, over faulty" in text

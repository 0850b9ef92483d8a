"""Table III's arithmetic, on figures small enough to check by hand."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline import table3
from pipeline.stage import MODALITIES


def score(cross: float, joint: float) -> dict[str, Any]:
    """A score file with one figure for all cross columns and one for all synergy columns."""
    every = {m: {"map50": cross} for m in MODALITIES}
    pairs = {"depth+radar": every, "image+radar": every, "image+depth": every}
    return {"subsets": pairs, "synergy": {m: {"map50": joint} for m in MODALITIES}}


def build(scores: dict[tuple[str, int], Any], alone: float = 0.5) -> dict[str, Any]:
    unimodal = {(m, seed): alone for m in MODALITIES for seed in (0, 1)}
    (row,) = table3.build({"poe-none": ("poe", "none")}, scores, unimodal)
    return row


def test_gain_is_relative_to_the_unimodal_vae_of_the_same_seed() -> None:
    row = build({("poe-none", 0): score(0.4, 0.6)})
    assert row["synergy_image"] == pytest.approx(20.0)
    assert row["cross_depth"] == 0.4
    assert row["cross_depth_diff"] == pytest.approx(0.39)  # the paper prints 0.01
    assert row["cross_depth_std"] is None
    assert row["cross_radar_paper"] is None


def test_mean_and_deviation_over_seeds() -> None:
    row = build({("poe-none", 0): score(0.4, 0.5), ("poe-none", 1): score(0.6, 0.5)})
    assert row["cross_image"] == pytest.approx(0.5)
    assert row["cross_image_std"] == pytest.approx(0.2 / 2**0.5)


def test_a_gain_over_nothing_is_left_empty() -> None:
    row = build({("poe-none", 0): score(0.4, 0.6)}, alone=0.0)
    assert row["synergy_image"] is None
    assert ",,5.6,," in table3.as_csv([row])
    assert "–" in table3.as_markdown([row])


def test_scores_of_other_cells_are_not_read() -> None:
    row = build({("poe-none", 0): score(0.4, 0.6), ("left-over", 0): score(0.9, 0.9)})
    assert row["cross_image"] == 0.4

"""Table III's arithmetic, on figures small enough to check by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.reporting import legend, table
from pipeline.reporting.table import Row, columns_of
from pipeline.reporting.tables import as_csv
from pipeline.scoring.bootstrap import bounds, mean
from scenegen.params import SENSORS as MODALITIES
from studies.shapes3d import paper
from studies.shapes3d.paper import letters

NOISE = np.concatenate([[0.0], np.linspace(-0.08, 0.08, 201)])  # a figure's own resamples

ALONE = {
    "image": {"mean": 0.5, "paper": 0.91, "ceiling": 0.98},
    "depth": {"mean": None, "paper": 0.87, "ceiling": None},
    "radar": {"mean": 0.8, "paper": None, "ceiling": 0.99},
}

COLUMNS = columns_of(letters(MODALITIES))
DECODED = "Decoded: the posterior's mean."


def as_text(
    rows: list[Row], unimodal: dict[str, Any], scenes: int, seeds: int, decoded: str,
    columns: tuple[table.Column, ...] = COLUMNS,
) -> str:  # fmt: skip
    """The table for people."""
    under = legend.legend_of(unimodal, scenes, seeds, paper.SENSORS, letters([*unimodal]))
    return table.as_markdown(rows, columns, under, decoded)


def figures(cross: float, joint: float, noise: np.ndarray = NOISE) -> dict[str, np.ndarray]:
    """A run with one figure for all cross columns and one for all synergy columns."""
    pairs = ("depth+radar", "image+radar", "image+depth")
    return {f"{pair}/{m}": cross + noise for pair in pairs for m in MODALITIES} | {
        f"synergy/{m}": joint + noise for m in MODALITIES
    }


def build(
    runs: dict[tuple[str, int], dict[str, np.ndarray]],
    alone: float = 0.5,
    noise: np.ndarray = NOISE,
    cells: tuple[str, ...] = ("poe-none",),
) -> list[Row]:
    unimodal = {s: {f"synergy/{m}": alone + noise for m in MODALITIES} for s in (0, 1)}
    costs = {
        key: {"train_seconds": 10.0, "encodes": 3.0 + key[1], "decodes": 21.0, "parameters": 9.0e6}
        for key in runs
    }
    of = dict.fromkeys(cells, ("poe", "none"))
    theirs = dict.fromkeys(cells, paper.TABLE["poe", "none"])
    return table.build(of, runs, unimodal, costs, COLUMNS, theirs, dict.fromkeys(cells, MODALITIES))


def test_gain_is_relative_to_the_unimodal_vae_of_the_same_seed() -> None:
    (row,) = build({("poe-none", 0): figures(0.4, 0.6)})
    assert row.figures["synergy_image"].value == pytest.approx(20.0)
    assert row.figures["gain_image"].value == pytest.approx(0.1)
    assert row.figures["cross_depth"].value == pytest.approx(0.4)
    assert row.figures["cross_depth"].difference == pytest.approx(0.39)  # the paper prints 0.01
    assert row.figures["cross_depth"].deviation is None
    assert row.figures["cross_radar"].paper is None


def test_every_figure_is_of_its_own_modality_subset_and_seed() -> None:
    """No two of the figures that go in are alike, so that one taken for another shows."""
    rng = np.random.default_rng(0)
    pairs = {"image": "depth+radar", "depth": "image+radar", "radar": "image+depth"}
    runs = {
        ("poe-none", seed): {
            f"{subset}/{m}": np.full(3, rng.uniform(0.1, 0.9))
            for subset in (*pairs.values(), "synergy")
            for m in MODALITIES
        }
        for seed in (0, 1)
    }
    alone = {
        seed: {f"synergy/{m}": np.full(3, rng.uniform(0.1, 0.9)) for m in MODALITIES}
        for seed in (0, 1)
    }
    costs = {key: dict.fromkeys(table.COSTS, 1.0) for key in runs}
    (row,) = table.build(
        {"poe-none": ("poe", "none")}, runs, alone, costs, COLUMNS, {}, {"poe-none": MODALITIES}
    )
    for m in MODALITIES:
        cross = [runs["poe-none", seed][f"{pairs[m]}/{m}"][0] for seed in (0, 1)]
        assert row.figures[f"cross_{m}"].value == pytest.approx(np.mean(cross))
        joint = [runs["poe-none", seed][f"synergy/{m}"][0] for seed in (0, 1)]
        gains = [j - alone[seed][f"synergy/{m}"][0] for seed, j in enumerate(joint)]
        assert row.figures[f"gain_{m}"].value == pytest.approx(np.mean(gains))
        relative = [100 * g / alone[seed][f"synergy/{m}"][0] for seed, g in enumerate(gains)]
        assert row.figures[f"synergy_{m}"].value == pytest.approx(np.mean(relative))


def interval(row: Row, key: str) -> tuple[float | None, float | None]:
    return row.figures[key].low, row.figures[key].high


def test_intervals_are_the_middle_of_the_resamples_and_paired() -> None:
    """Joint and unimodal move together here, so their difference does not move at all."""
    (row,) = build({("poe-none", 0): figures(0.4, 0.6)})
    assert (row.figures["cross_image"].low, row.figures["cross_image"].high) == pytest.approx(
        (0.324, 0.476)
    )
    assert (row.figures["gain_image"].low, row.figures["gain_image"].high) == pytest.approx(
        (0.1, 0.1)
    )
    assert row.figures["synergy_image"].low == pytest.approx(100 * 0.1 / 0.576)
    (apart,) = build({("poe-none", 0): figures(0.4, 0.6, -NOISE)})
    assert (apart.figures["gain_image"].low, apart.figures["gain_image"].high) == pytest.approx(
        (-0.052, 0.252)
    )


def test_a_model_is_behind_itself_by_nothing_and_behind_a_better_one_by_the_difference() -> None:
    runs = {("a", 0): figures(0.4, 0.6), ("b", 0): figures(0.4, 0.6), ("c", 0): figures(0.1, 0.2)}
    a, b, c = build(runs, cells=("a", "b", "c"))
    nothing = {"best": 0.0, "lo": 0.0, "hi": 0.0}
    assert a.behind["cross_image"] == b.behind["cross_image"] == nothing
    assert c.behind["cross_image"] == pytest.approx({"best": -0.3, "lo": -0.3, "hi": -0.3})


def test_mean_and_deviation_over_seeds() -> None:
    (row,) = build({("poe-none", 0): figures(0.4, 0.5), ("poe-none", 1): figures(0.6, 0.5, -NOISE)})
    assert row.figures["cross_image"].value == pytest.approx(0.5)
    assert row.figures["cross_image"].deviation == pytest.approx(0.2 / 2**0.5)
    assert row.figures["cross_image"].low == pytest.approx(
        0.5
    )  # the seeds' noises cancel on each resample
    assert row.cost == {"encodes": 3.5, "decodes": 21.0, "parameters": 9.0e6}
    assert "0.50 ± 0.14 (0.70)" in as_text([row], ALONE, 500, 2, DECODED)


def test_no_gain_has_no_minus() -> None:
    (row,) = build({("poe-none", 0): figures(0.4, 0.4999)}, alone=0.5, noise=0 * NOISE)
    assert row.figures["synergy_image"].value == pytest.approx(-0.02)
    assert "| +0.0 ± " in as_text([row], ALONE, 500, 1, DECODED)


def test_a_gain_over_nothing_is_left_empty() -> None:
    (row,) = build({("poe-none", 0): figures(0.4, 0.6)}, alone=0.0, noise=0 * NOISE)
    assert row.figures["synergy_image"].value is None
    assert row.figures["gain_image"].value == pytest.approx(0.6)
    assert ",,,,,5.6,," in as_csv([row.flat()], table.keys(COLUMNS))
    assert "–" in as_text([row], ALONE, 500, 1, DECODED)


def test_a_seed_without_a_gain_leaves_the_others_theirs() -> None:
    runs = {(cell, seed): figures(0.4, 0.6) for cell in ("a", "b") for seed in (0, 1)}
    alone = {s: {f"synergy/{m}": (0.5 + NOISE) * (1 - s) for m in MODALITIES} for s in (0, 1)}
    costs = dict.fromkeys(runs, dict.fromkeys(table.COSTS, 1.0))
    of = dict.fromkeys("ab", ("poe", "none"))
    for row in table.build(of, runs, alone, costs, COLUMNS, {}, dict.fromkeys("ab", MODALITIES)):
        assert row.figures["synergy_image"].value == pytest.approx(20.0)
        assert row.figures["synergy_image"].resamples[0] == pytest.approx(20.0)
        assert row.behind["synergy_image"] == {"best": 0.0, "lo": 0.0, "hi": 0.0}


def test_a_gain_over_nothing_on_some_resamples_has_no_interval() -> None:
    (row,) = build({("poe-none", 0): figures(0.4, 0.6)}, alone=0.05)
    assert row.figures["synergy_image"].value == pytest.approx(1100)
    assert row.figures["synergy_image"].low is None


def test_the_cost_stands_beside_the_figures() -> None:
    rows = build({("poe-none", 0): figures(0.4, 0.6)})
    text = as_text(rows, ALONE, 500, 1, DECODED)
    assert "| 0.40 ± 0.08 (0.70) |" in text
    assert "| 3 + 21 | 9.0 |" in text
    assert "VAEs of one sensor alone: image 0.50 (0.91), depth – (0.87), radar 0.80." in text
    assert "own pictures of these scenes: image 0.98, depth –, radar 0.99." in text
    header, line = as_csv([row.flat() for row in rows], table.keys(COLUMNS)).splitlines()
    assert header.endswith(",encodes,decodes,parameters")
    assert line.endswith(",3.0,21.0,9000000.0")


def test_what_was_decoded_is_what_the_score_files_state() -> None:
    plain = {
        "fusion": "poe",
        "point": "mean",
        "missing": "absent",
        "mixture": False,
        "cross_component": None,
        "synergy_component": None,
        "choosing": None,
        "drawn_per_element": False,
    }
    said = "Decoded: the posterior's mean; a missing sensor is absent"
    assert legend.decoding([plain]) == f"{said}."
    assert "posterior's sample;" in legend.decoding([plain | {"point": "sample"}])
    best = {"mixture": True, "synergy_component": "best", "choosing": 100}
    moe = plain | {"fusion": "moe", "cross_component": "drawn"} | best
    rce = plain | {"fusion": "rce", "drawn_per_element": True}
    assert legend.decoding([moe, moe, rce, plain]) == (
        f"{said}; component of a mixture (moe): one drawn per scene where a sensor is missing, "
        "the best on 100 validation scenes where none is, the same for every sensor it generates; "
        "rce: an expert drawn for every element of the latent."
    )
    text = as_text(build({("a", 0): figures(0.4, 0.6)}, cells=("a",)), ALONE, 9, 1, said)
    assert text.endswith(f"\n\n{said}\n")


def test_figures_of_other_cells_are_not_read() -> None:
    (row,) = build({("poe-none", 0): figures(0.4, 0.6), ("left-over", 0): figures(0.9, 0.9)})
    assert row.figures["cross_image"].value == pytest.approx(0.4)


def test_bounds_are_the_middle_95_percent_of_the_resamples_alone() -> None:
    resamples = np.random.default_rng(0).permutation(1001.0 * np.ones(1001) - np.arange(1001))
    assert bounds(np.append(-1e9, resamples)) == pytest.approx((26, 976))


def test_bounds_are_none_where_a_resample_is_undefined() -> None:
    assert bounds(np.array([0.5, 0.4, np.nan])) == (None, None)
    assert bounds(np.array([0.5])) == (None, None)


FOUR = ("image", "depth", "radar", "thermal")


def headings(modalities: Sequence[str]) -> dict[str, str]:
    """What stands above each column of the table for people."""
    return {c.key: c.heading for c in columns_of(letters(modalities)) if c.printed}


def test_headings_say_what_a_column_is_generated_from() -> None:
    assert list(headings(MODALITIES).values()) == [
        *("D+R→I", "I+R→D", "I+D→R"),
        *("all→I (%)", "all→D (%)", "all→R (%)"),
    ]
    assert list(headings(FOUR).items())[:4] == [
        ("cross_image", "D+R+T→I"),
        ("cross_depth", "I+R+T→D"),
        ("cross_radar", "I+D+T→R"),
        ("cross_thermal", "I+D+R→T"),
    ]
    assert headings(FOUR)["synergy_thermal"] == "all→T (%)"


def test_letters_are_those_that_the_sensors_files_declare() -> None:
    assert letters(FOUR) == {"image": "I", "depth": "D", "radar": "R", "thermal": "T"}


def test_a_fourth_sensor_has_columns_figures_and_a_place_in_the_headings() -> None:
    """Each column is read from the subset that its heading names."""
    subsets = {m: "+".join(o for o in FOUR if o != m) for m in FOUR}
    run = {f"{subset}/{m}": place / 10 + NOISE for place, (m, subset) in enumerate(subsets.items())}
    run |= {f"synergy/{m}": 0.6 + NOISE for m in FOUR}
    costs = {("a", 0): dict.fromkeys(table.COSTS, 1.0)}
    alone = {0: {f"synergy/{m}": 0.5 + NOISE for m in FOUR}}
    columns, of = columns_of(letters(FOUR)), {"a": ("poe", "none")}
    theirs = {"a": paper.TABLE["poe", "none"]}
    (row,) = table.build(of, {("a", 0): run}, alone, costs, columns, theirs, {"a": FOUR})
    assert [row.figures[f"cross_{m}"].value for m in FOUR] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    reach = {m: {"mean": 0.5, "paper": None, "ceiling": 0.9} for m in FOUR}
    text = as_text([row], reach, 500, 1, DECODED, columns)
    heads = text.splitlines()[0].strip("| ").split(" | ")
    shown = text.splitlines()[2].strip("| ").split(" | ")
    assert shown[heads.index("I+D+R→T")] == "0.30 ± 0.08"
    assert shown[heads.index("D+R+T→I")] == "0.00 ± 0.08 (0.70)"
    assert "I image, D depth, R radar, T thermal." in text
    assert "in brackets the paper, which has no thermal;" in text
    assert set(table.keys(columns)) <= set(row.flat())


def test_a_sensor_that_no_scene_shows_an_object_is_a_dash_and_takes_nothing_else_along() -> None:
    run = figures(0.4, 0.6) | {"image+depth/radar": NOISE + np.nan, "synergy/radar": NOISE + np.nan}
    (row,) = build({("poe-none", 0): run})
    assert (row.figures["cross_radar"].value, row.figures["gain_radar"].value) == (None, None)
    assert row.figures["cross_image"].value == pytest.approx(0.4)
    text = as_text([row], ALONE, 500, 1, DECODED)
    assert text.splitlines()[2].split(" | ")[4] == "–"
    assert legend.UNDEFINED in text
    whole = as_text(build({("poe-none", 0): figures(0.4, 0.6)}), FILLED, 500, 1, DECODED)
    assert "–" not in whole


def test_a_cell_of_two_sensors_has_its_own_columns_and_the_others_are_empty() -> None:
    """image from radar is 0.7 there, where the cell of three has 0.4 from depth and radar."""
    three = figures(0.4, 0.6) | {"radar/image": 0.99 + NOISE, "image/radar": 0.99 + NOISE}
    two = {"radar/image": 0.7 + NOISE, "image/radar": 0.8 + NOISE}
    two |= {"synergy/image": 0.55 + NOISE, "synergy/radar": 0.5 + NOISE}
    alone = {0: {f"synergy/{m}": 0.5 + NOISE for m in MODALITIES}}
    runs = {("all", 0): three, ("two", 0): two}
    costs = dict.fromkeys(runs, dict.fromkeys(table.COSTS, 1.0))
    columns = columns_of(letters(MODALITIES), alike=False)
    every, pair = table.build(
        dict.fromkeys(("all", "two"), ("poe", "none")), runs, alone, costs, columns,
        {"all": paper.TABLE["poe", "none"]}, {"all": MODALITIES, "two": ("image", "radar")},
    )  # fmt: skip
    assert {key: figure.value for key, figure in pair.figures.items()} == pytest.approx(
        {"cross_image": 0.7, "cross_radar": 0.8, "synergy_image": 10.0, "synergy_radar": 0.0}
        | {"gain_image": 0.05, "gain_radar": 0.0}
    )
    assert every.behind["cross_image"]["best"] == pytest.approx(-0.3)
    assert pair.behind["cross_image"]["best"] == 0.0
    assert (every.figures["cross_image"].paper, pair.figures["cross_image"].paper) == (0.7, None)
    text = as_text([every, pair], ALONE, 9, 1, DECODED, columns)
    head, _, first, second = text.splitlines()[:4]
    assert head.startswith(
        "| objective | fusion | sensors | others→I | others→D | others→R | all→I"
    )
    assert first.startswith("| none | poe | image+depth+radar | 0.40")
    assert second == (
        "| none | poe | image+radar | 0.70 ± 0.08 |  | 0.80 ± 0.08 | +10.0 ± 1.6 |  | +0.0 ± 0.0 "
        "| 1 + 1 | 0.0 |"
    )
    assert legend.EMPTY in text
    assert legend.EMPTY not in as_text([every], ALONE, 9, 1, DECODED)
    line = as_csv([every.flat(), pair.flat()], table.keys(columns)).splitlines()[2]
    cells = dict(zip(table.keys(columns), line.split(","), strict=True))
    assert {key for key, value in cells.items() if value and "depth" in key} == set()


FILLED = {m: {"mean": 0.5, "paper": None, "ceiling": 0.9} for m in MODALITIES}


def test_a_mean_over_some_seeds_says_over_how_many() -> None:
    undefined = figures(0.4, 0.6) | {"depth+radar/image": NOISE + np.nan}
    runs = {("poe-none", 0): figures(0.4, 0.6), ("poe-none", 1): undefined}
    (row,) = build(runs)
    assert row.figures["cross_image"].value == pytest.approx(0.4)
    text = as_text([row], ALONE, 500, 2, DECODED)
    assert "| 0.40 [1 of 2 seeds] (0.70) |" in text


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (1, "over resamples of the 500 test scenes; what another seed or machine does"),
        (5, "the deviation over 5 trainings with other seeds, on the same test scenes"),
    ],
)
def test_the_legend_says_what_the_spread_holds_and_what_not(seeds: int, said: str) -> None:
    rows = build({("poe-none", 0): figures(0.4, 0.6)})
    assert said in as_text(rows, FILLED, 500, seeds, DECODED)


def test_figures_that_are_not_defined_are_left_out_of_a_mean() -> None:
    defined, undefined = np.array([0.4, 0.3]), np.array([np.nan, np.nan])
    assert mean([defined, undefined, defined + 0.2]) == pytest.approx([0.5, 0.4])
    assert np.isnan(mean([undefined, undefined])).all()
    assert as_csv([{"a": 0.5, "b": float("nan")}]).splitlines()[1] == "0.5,"


def one_row(*seeds: tuple[float, float | None]) -> tuple[Row, str]:
    """The row of a cell with this score and unimodal score at each seed, without resamples."""
    gain = seeds[0][1] is not None
    column = table.Column("a", "A", "own", "alone" if gain else None, pooled=gain, form="{:.1f}")
    (row,) = table.build(
        {"c": ("poe", "none")},
        {("c", seed): {"own": np.array([score])} for seed, (score, _) in enumerate(seeds)},
        {seed: {"alone": np.array([alone])} for seed, (_, alone) in enumerate(seeds)},
        {("c", seed): dict.fromkeys(table.COSTS, 1.0) for seed in range(len(seeds))},
        [column],
        {"c": {"a": 5.0}},
        {"c": ()},
    )
    return row, table.written(row, column)


def test_a_row_without_resamples_is_the_mean_and_deviation_over_seeds() -> None:
    row, shown = one_row((1.0, None), (3.0, None))
    figure = row.figures["a"]
    assert (figure.value, figure.deviation, figure.paper) == (2.0, pytest.approx(2**0.5), 5.0)
    assert (figure.low, figure.high, figure.difference) == (None, None, -3.0)
    assert shown == "2.0 ± 1.4 (5.0)"


def test_a_pooled_gain_is_that_of_the_mean_score_over_the_mean_unimodal_score() -> None:
    row, shown = one_row((3.0, 2.0))
    assert (row.figures["a"].value, row.figures["a"].deviation, shown) == (50.0, None, "50.0 (5.0)")
    # 5 over 4, where the mean of the two gains, 200 and 0, is 100.
    row, shown = one_row((3.0, 1.0), (7.0, 7.0))
    assert row.figures["a"].value == pytest.approx(25.0)
    assert row.figures["a"].deviation == pytest.approx(200 / 2**0.5)
    # A seed that has no gain of its own counts in both means all the same.
    row, shown = one_row((3.0, 1.0), (2.0, 2.0), (1.0, -1.0))
    assert row.figures["a"].value == pytest.approx(200.0)
    assert shown == "200.0 ± 141.4 [2 of 3 seeds] (5.0)"
    _, shown = one_row((3.0, 1.0), (1.0, -1.0))
    assert shown == "– [1 of 2 seeds] (5.0)"
    assert one_row((3.0, 0.0))[1] == "– (5.0)"


def test_a_seed_without_a_score_is_left_out_and_the_table_says_so() -> None:
    nothing = float("nan")
    assert one_row((1.0, None), (nothing, None), (3.0, None))[1] == "2.0 ± 1.4 [2 of 3 seeds] (5.0)"
    assert one_row((nothing, None))[1] == "– (5.0)"
    assert one_row((3.0, 1.0), (nothing, 1.0))[1] == "200.0 [1 of 2 seeds] (5.0)"
    assert one_row((3.0, nothing))[1] == "– (5.0)"

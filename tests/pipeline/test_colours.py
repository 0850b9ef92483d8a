"""Scores beyond mAP, by hand-made pictures: how many objects, where, and in which colour."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest

from detector.boxes import Detections, Truth
from pipeline.scoring.bootstrap import average_of, copies
from pipeline.scoring.colours import background_errors, hue_errors, inner_colours
from pipeline.scoring.compared import Compared, diversity
from pipeline.scoring.metrics import DETECTED, figures

SIDE = 32
HUES = np.linspace(0, 1, 13)[:-1]
FLOOR = 0.6  # its hue
BOX = (8.0, 10.0, 20.0, 26.0)


def rgb(hue: float, saturation: float = 0.95, value: float = 0.8) -> np.ndarray:
    """A colour in 0 to 255."""
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def picture(hue: float, floor: float = FLOOR, box: tuple[float, ...] = BOX) -> np.ndarray:
    """A square object of a hue on a pale floor: uint8 [H, W, 3]."""
    made = np.empty((SIDE, SIDE, 3))
    made[:] = rgb(floor, 0.3, 0.9)
    x1, y1, x2, y2 = map(int, box)
    made[y1:y2, x1:x2] = rgb(hue)
    return made.round().astype(np.uint8)


def grey(pictures: np.ndarray) -> np.ndarray:
    """The same without colour."""
    return np.repeat(pictures.mean(-1, keepdims=True).astype(np.uint8), 3, -1)


def found(*boxes: tuple[float, ...], score: float = 0.9, label: int = 0) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), score, np.float32),
        np.full(len(boxes), label, np.int64),
    )


def there(*boxes: tuple[float, ...]) -> Truth:
    return np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64)


@pytest.fixture
def scenes() -> Compared:
    """One object in each of twelve scenes, every one of another hue; all of it is right."""
    seen = np.stack([picture(hue) for hue in HUES])
    n = len(seen)
    return Compared(seen, seen, [found(BOX)] * n, [there(BOX)] * n, 1, copies(n, 50, 0))


def shown(compared: Compared) -> dict[str, float]:
    return {key: float(values[0]) for key, values in figures(DETECTED, compared).items()}


@pytest.mark.parametrize("shift", [0, 0.1, 0.25, 0.4, 0.5, 0.6, 0.95])
def test_a_hue_is_off_by_the_shorter_way_around_the_wheel(shift: float) -> None:
    true = np.stack([rgb(hue) for hue in HUES])
    made = np.stack([rgb(hue + shift, 0.5, 0.6) for hue in HUES])  # paler and darker alike
    assert hue_errors(made, true) == pytest.approx(np.full(12, min(shift, 1 - shift)), abs=1e-5)


def test_grey_is_off_by_what_a_guess_is_and_a_grey_truth_has_no_hue() -> None:
    coloured, pale, none = rgb(0.3), rgb(0.3, 0.01), rgb(0.3, 0)
    assert hue_errors(np.stack([pale, none]), np.stack([coloured, coloured])).tolist() == [0.25] * 2
    assert np.isnan(hue_errors(np.stack([coloured, pale]), np.stack([none, pale]))).all()
    guesses = np.linspace(0, 1, 1001)[:-1]
    guessed = hue_errors(np.stack([rgb(hue) for hue in guesses]), np.tile(coloured, (1000, 1)))
    assert guessed.mean() == pytest.approx(0.25, abs=1e-3)


def test_map_forgives_grey_objects_and_hue_does_not(scenes: Compared) -> None:
    """The detections are the same: a detector of shapes sees these in grey as well."""
    made = scenes.generated.copy()
    x1, y1, x2, y2 = map(int, BOX)
    made[:, y1:y2, x1:x2] = grey(made[:, y1:y2, x1:x2])
    right, wrong = shown(scenes), shown(replace(scenes, generated=made))
    assert right["map50"] == wrong["map50"] == right["count"] == wrong["count"] == 1
    assert (right["position"], wrong["position"]) == (0, 0)
    assert (right["hue"], wrong["hue"]) == (0, 0.25)
    assert (right["hue_background"], wrong["hue_background"]) == (0, 0)
    greyed = shown(replace(scenes, generated=grey(scenes.seen)))
    assert (greyed["hue"], greyed["hue_background"]) == (0.25, 0.25)


def test_an_objects_hue_and_that_around_it_are_told_apart(scenes: Compared) -> None:
    made = np.stack([picture(hue + 0.2, FLOOR - 0.15) for hue in HUES])
    wrong = shown(replace(scenes, generated=made))
    assert wrong["hue"] == pytest.approx(0.2, abs=0.003)  # of 8 bits
    assert wrong["hue_background"] == pytest.approx(0.15, abs=0.01)  # of a pale colour's 8 bits


def test_the_hue_is_looked_for_where_the_object_was_found(scenes: Compared) -> None:
    """An object in another place keeps its hue; one that is not found is in no mean."""
    moved = (BOX[0] + 4, BOX[1], BOX[2] + 4, BOX[3])  # a third of its width: the overlap is 1/2
    made = np.stack([picture(hue, box=moved) for hue in HUES])
    made[0] = picture(HUES[0] + 0.5)
    sights = [found(), *[found(moved)] * 11]
    told = shown(replace(scenes, generated=made, detections=sights))
    assert told["hue"] == 0
    assert told["position"] == pytest.approx(4)
    assert told["count"] == pytest.approx(11 / 12)
    nothing = figures(DETECTED, replace(scenes, detections=[found()] * 12))
    assert np.isnan([nothing["hue"], nothing["position"]]).all()
    assert (nothing["count"] == 0).all()


def test_a_position_is_off_by_the_distance_of_the_middles() -> None:
    """Three right, four down, and twice as large: 5 pixels; only sure hits of the class count."""
    box, other = (10.0, 10.0, 40.0, 40.0), (60.0, 60.0, 90.0, 90.0)
    shifted, larger = (13.0, 14.0, 43.0, 44.0), (57.0, 57.0, 93.0, 93.0)
    seen = np.zeros((3, 100, 100, 1), np.uint8)
    sights = [found(shifted, larger), found(shifted, score=0.49), found(shifted, label=1)]
    compared = Compared(
        seen, seen, sights, [there(box, other), there(box), there(box)], 2, copies(3, 20, 0)
    )
    told = shown(compared)
    assert told["position"] == pytest.approx(2.5)
    assert told["count"] == pytest.approx(2 / 3)  # of the wrong class, but one
    assert np.isnan([told["hue"], told["hue_background"]]).all()  # no colours


def test_the_middle_of_a_box_is_half_as_wide_and_high() -> None:
    pictures = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    pictures[1, 14:22, 11:17] = 90  # the middle of BOX
    boxes = np.array([BOX, (11.0, 14.0, 17.0, 22.0), (40.0, -5.0, 41.0, -4.0)])
    inner = inner_colours(pictures, np.array([1, 0, 1]), boxes)
    assert inner.tolist() == [[90] * 3, [0] * 3, [0] * 3]
    pictures[1, 13:23, 10:18] = 90
    pictures[1, 14:22, 11:17] = 0
    assert inner_colours(pictures, np.array([1]), boxes[:1]).tolist() == [[0] * 3]


def test_background_leaves_out_the_boxes_and_weighs_scenes_alike() -> None:
    seen = np.stack([picture(0.1), picture(0.1)])
    made = np.stack([picture(0.5, FLOOR + 0.5), picture(0.5)])
    made[1, 0] = rgb(FLOOR + 0.25, 0.3, 0.9).round()  # one row of 32
    boxes = int((BOX[2] - BOX[0]) * (BOX[3] - BOX[1]))
    errors = background_errors(made, seen, [there(BOX)] * 2)
    assert errors == pytest.approx([0.5, 0.25 * SIDE / (SIDE**2 - boxes)], abs=0.01)
    assert errors[1] == pytest.approx(0.25 * SIDE / (SIDE**2 - boxes), rel=0.02)


def test_a_mean_over_objects_is_drawn_with_their_scenes() -> None:
    """Scene 0 has two objects, scene 1 none, scene 2 one."""
    drawn = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0], [0, 1, 2]])
    values = average_of(np.array([1.0, 2.0, 6.0]), np.array([0, 0, 2]), drawn)
    assert values == pytest.approx([3, 12 / 5, np.nan, 6], nan_ok=True)


def test_diversity_is_the_samples_variance_over_that_of_the_scenes() -> None:
    """Half the contrast is a quarter of the variance; the same picture again and again is none."""
    seen = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    assert diversity(seen[::-1], seen) == pytest.approx(1)
    assert diversity(seen // 2 + 60, seen) == pytest.approx(1 / 4, rel=0.01)
    assert diversity(np.repeat(seen[:1], 9, 0), seen) == 0
    two = np.array([[[[0]]], [[[2]]]], np.uint8)
    assert diversity(np.array([[[[0]]], [[[6]]]], np.uint8), two) == pytest.approx(9)

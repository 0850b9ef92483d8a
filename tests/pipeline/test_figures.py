"""The report's drawings show the numbers they are given."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from ruamel.yaml import YAML

from pipeline.reporting import figures
from pipeline.reporting.figures import Line, Point, Style, Survival
from pipeline.study import ROOT

SVG = ElementTree.Element


def drawn(svg: str) -> SVG:
    return ElementTree.fromstring(svg)


def marks(svg: SVG) -> dict[str, tuple[float, float, float]]:
    """Title -> centre x, centre y and radius of every mark."""
    found = {}
    for mark in svg.iter():
        if mark.get("class") != "mark":
            continue
        title = mark.findtext("title")
        assert title
        if mark.tag == "circle":
            found[title] = (
                float(mark.attrib["cx"]),
                float(mark.attrib["cy"]),
                float(mark.attrib["r"]),
            )
        else:
            corners = np.array([[*map(float, p.split(","))] for p in mark.attrib["points"].split()])
            (x, y), (low, high) = corners.mean(0), (corners.min(0), corners.max(0))
            found[title] = (float(x), float(y), float((high - low).max() / 2))
    return found


def lines(svg: SVG) -> list[np.ndarray]:
    """Corners [N, 2] of every curve."""
    paths = [path.attrib["d"] for path in svg.iter("path") if path.get("class") == "line"]
    return [
        np.array([[*map(float, pair.split())] for pair in d.removeprefix("M").split("L")])
        for d in paths
    ]


def straight(drawn_at: np.ndarray, values: np.ndarray, up: bool) -> bool:
    """Whether places follow values on one rising (up: falling on the page) straight scale."""
    slope, start = np.polyfit(values, drawn_at, 1)
    return bool(np.abs(slope * values + start - drawn_at).max() < 0.11 and (slope < 0) == up)


def test_the_scatter_places_methods_by_their_figures_and_sizes_them_by_their_cost() -> None:
    figures_of = [("a", 0.2, -30.0, 1.0), ("b", 0.5, 4.0, 0.25), ("c", 0.9, 6.0, 0.01)]
    points = [Point(n, Style(0, 0), x, y, area, "noted") for n, x, y, area in figures_of]
    svg = drawn(figures.scatter(points, "Trade"))
    found = np.array([marks(svg)[f"{name}: noted"] for name, *_ in figures_of])
    values = np.array([row[1:] for row in figures_of])
    assert straight(found[:, 0], values[:, 0], up=False)
    assert straight(found[:, 1], values[:, 1], up=True)
    # The area grows with the cost, above a least that can be seen.
    assert straight(found[:, 2], np.sqrt(values[:, 2]), up=False)
    labels = [text.text for text in svg.iter("text") if text.get("class") == "point"]
    assert sorted(map(str, labels)) == ["a", "b", "c"]


def test_methods_differ_in_colour_by_fusion_and_in_shape_by_objective() -> None:
    looks = figures.styles(
        {"one": ("poe", "none"), "two": ("poe", "ecg"), "three": ("moe", "none")}
    )
    assert looks["one"].css == looks["two"].css != looks["three"].css
    assert looks["one"].shape == looks["three"].shape != looks["two"].shape
    points = [Point(name, look, 0.5, 0.0, 0.5, "") for name, look in looks.items()]
    found = [m for m in drawn(figures.scatter(points, "")).iter() if m.get("class") == "mark"]
    assert len({m.get("style") for m in found}) == 2
    assert len({(m.tag, len((m.get("points") or "").split())) for m in found}) == 2


def test_all_cells_of_the_grid_look_different() -> None:
    preset = YAML(typ="safe").load((ROOT.presets / "grid.yaml").read_text())
    cells = {
        name: (cell["fusion"], cell["objective"]) for name, cell in preset["grid"]["cells"].items()
    }
    assert len(cells) == 64
    looks = figures.styles(cells).values()
    assert len({(look.css, figures.SHAPES[look.shape]) for look in looks}) == len(cells)
    assert len({(look.css, figures.DASHES[look.shape]) for look in looks}) == len(cells)


def test_learning_curves_are_the_values_over_the_steps() -> None:
    steps = list(range(0, 200, 10))
    given = [
        Line("a", Style(0, 0), steps, [100 / (1 + s) + 3 for s in steps]),
        Line("b", Style(1, 1), steps, [2 + s / 50 for s in steps]),
    ]
    found = lines(drawn(figures.curves("loss", given)))
    assert len(found) == 2
    places = np.concatenate(found)[:, 1]
    values = np.concatenate([line.values[::-1] for line in given])
    assert straight(places, values, up=True)
    for path in found:
        assert straight(path[:, 0], np.array(steps[::-1]), up=False)


def test_survival_is_the_score_over_severity_and_what_remains_without_the_sensor() -> None:
    severities = [0.1, 0.3, 1.0]
    given = [
        Survival("a", Style(0, 0), [0.9, 0.5, 0.1], 0.8),
        Survival("b", Style(1, 1), [0.7, 0.7, 0.6], 0.2),
    ]
    svg = drawn(figures.survival("image", given, severities))
    found = lines(svg)
    values = np.concatenate([line.values for line in given])
    assert straight(np.concatenate(found)[:, 1], values, up=True)
    for path in found:
        assert straight(path[:, 0], np.array(severities), up=False)
    slope, start = np.polyfit(values, np.concatenate(found)[:, 1], 1)
    for line in given:
        x, y, _ = marks(svg)[f"{line.label}: {line.without:.2f} without the sensor"]
        assert y == pytest.approx(slope * line.without + start, abs=0.11)
        assert x > max(path[:, 0].max() for path in found)


def test_boxes_are_drawn_where_they_are_in_the_colour_of_their_class() -> None:
    boxes = np.array([[1.0, 2, 11, 22, 0], [30, 40, 50, 45, 3]])
    svg = drawn(figures.overlay(boxes, (48, 64), camera=True))
    assert svg.get("viewBox") == "0 0 64 48"
    *found, camera = svg.iter("rect")
    corners = [[float(r.attrib[k]) for k in ("x", "y", "width", "height")] for r in found]
    assert corners == [[1, 2, 10, 20], [30, 40, 20, 5]]
    assert [r.get("class") for r in found] == ["k0", "k3"]
    assert camera.get("class") == "camera"
    assert not re.search("camera", figures.overlay(boxes, (48, 64), camera=False))

"""Pictures of the report: pure functions from arrays and numbers to data URIs, SVG and PNG.

Charts are inline SVG whose colours are CSS variables of the page, so one drawing serves light and
dark. Colour tells the fusion, shape and dash tell the objective.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "BOX_COLOURS",
    "CAMERA",
    "Line",
    "Point",
    "Sprite",
    "Style",
    "Survival",
    "curves",
    "overlay",
    "scatter",
    "styles",
    "survival",
    "swatch",
]

WIDTH, HEIGHT = 400, 290  # of a chart, in units that are pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 42
DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "8 3 2 3 2 3", "1 6", "12 3 6 3")
SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (  # corners on the unit circle; none: circle
    (),
    ((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)),
    ((0, -1.1), (1, 0.8), (-1, 0.8)),
    ((0, -1.1), (1.1, 0), (0, 1.1), (-1.1, 0)),
    ((0, 1.1), (1, -0.8), (-1, -0.8)),
    ((0, -1), (0.9, -0.5), (0.9, 0.5), (0, 1), (-0.9, 0.5), (-0.9, -0.5)),
    (
        *((0, -1.2), (0.3, -0.4), (1.1, -0.4), (0.5, 0.2), (0.7, 1)),
        *((0, 0.5), (-0.7, 1), (-0.5, 0.2), (-1.1, -0.4), (-0.3, -0.4)),
    ),
    (
        *((-0.4, -1.1), (0.4, -1.1), (0.4, -0.4), (1.1, -0.4), (1.1, 0.4), (0.4, 0.4)),
        *((0.4, 1.1), (-0.4, 1.1), (-0.4, 0.4), (-1.1, 0.4), (-1.1, -0.4), (-0.4, -0.4)),
    ),
)
BOX_COLOURS = (
    "#ff3b30",
    "#00c2ff",
    "#ffd60a",
    "#ff2df7",
    "#32e875",
    "#ffffff",
    "#ff9500",
    "#a78bfa",
)
CAMERA = 0.06  # side of the red square, in widths of a map

Map = Callable[[float], float]


@dataclass(frozen=True)
class Style:
    """How one method is drawn: `colour` is an index of the page's palette, `shape` of SHAPES."""

    colour: int
    shape: int

    @property
    def css(self) -> str:
        """The colour as CSS."""
        return f"var(--c{self.colour % 8})"


@dataclass(frozen=True)
class Point:
    """A method in the trade-off: synergy gain in percent, cross figure, area 0 to 1 (cost)."""

    label: str
    style: Style
    cross: float
    synergy: float
    area: float
    note: str


@dataclass(frozen=True)
class Line:
    """A learning curve: values [n] at steps [n]."""

    label: str
    style: Style
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Survival:
    """The figure of one method at rising severities, and with the faulty sensor left out."""

    label: str
    style: Style
    values: Sequence[float]
    without: float


@dataclass(frozen=True)
class Sprite:
    """Many pictures of one size in one PNG; `rows` names its rows, a column is a scene."""

    name: str
    uri: str
    rows: tuple[str, ...]
    columns: int
    height: int
    width: int

    @classmethod
    def of(cls, name: str, pictures: Mapping[str, NDArray[np.uint8]]) -> Sprite:
        """From row name -> uint8 [columns, H, W, C], C = 1 or 3."""
        stack = np.stack(list(pictures.values()))
        rows, columns, height, width, channels = stack.shape
        sheet = stack.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
        return cls(name, _png(sheet), tuple(pictures), columns, height, width)

    def position(self, row: str, column: int) -> str:
        """CSS variables that move the sheet to one picture."""
        x = column / max(self.columns - 1, 1)
        y = self.rows.index(row) / max(len(self.rows) - 1, 1)
        return f"--x:{x:.5f};--y:{y:.5f}"


def _png(picture: NDArray[np.uint8]) -> str:
    out = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(
        out, "PNG", optimize=True
    )
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def overlay(boxes: NDArray[np.floating], size: tuple[int, int], camera: bool) -> str:
    """Boxes [K, 5] (x1, y1, x2, y2, class; pixels) over a picture of `size` (H, W) as SVG.

    `camera` adds the red square of the paper's Fig. 3 at the middle of the bottom edge.
    """
    height, width = size
    parts = [
        f'<rect class="k{int(k) % 8}" x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" '
        f'height="{y2 - y1:.1f}"/>'
        for x1, y1, x2, y2, k in boxes
    ]
    if camera:
        side = CAMERA * width
        parts.append(
            f'<rect class="camera" x="{(width - side) / 2:.2f}" y="{height - side:.2f}" '
            f'width="{side:.2f}" height="{side:.2f}"/>'
        )
    return f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(parts)}</svg>'


def styles(cells: Mapping[str, tuple[str, str]]) -> dict[str, Style]:
    """A style per cell: one colour per fusion, one shape per objective, in order of appearance."""
    fusions = list(dict.fromkeys(fusion for fusion, _ in cells.values()))
    objectives = list(dict.fromkeys(objective for _, objective in cells.values()))
    return {
        name: Style(fusions.index(fusion), objectives.index(objective) % len(SHAPES))
        for name, (fusion, objective) in cells.items()
    }


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers within [low, high]."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _limits(values: Sequence[float], pad: float = 0.08) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * pad or max(abs(high), 1) * 0.1
    return low - margin, high + margin


def _axes(
    x: tuple[float, float],
    y: tuple[float, float],
    x_label: str,
    y_label: str,
    x_ticks: Mapping[float, str] | None = None,
) -> tuple[list[str], Map, Map]:
    """Grid, tick labels and axis titles, and the maps from data to drawing."""

    def across(v: float) -> float:
        return LEFT + (v - x[0]) / (x[1] - x[0]) * (WIDTH - LEFT - RIGHT)

    def down(v: float) -> float:
        return HEIGHT - BOTTOM - (v - y[0]) / (y[1] - y[0]) * (HEIGHT - TOP - BOTTOM)

    right, base = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [
        f'<path class="grid" d="M{LEFT} {down(t):.1f}H{right}"/>'
        f'<text class="tick" x="{LEFT - 6}" y="{down(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in _ticks(*y)
    ]
    parts += [
        f'<text class="tick" x="{across(t):.1f}" y="{base + 15}" text-anchor="middle">{text}</text>'
        for t, text in (x_ticks or {t: f"{t:g}" for t in _ticks(*x)}).items()
    ]
    middle = (TOP + base) / 2
    parts.append(
        f'<path class="axis" d="M{LEFT} {TOP}V{base}H{right}"/>'
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}'
        f'</text><text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return parts, across, down


def _svg(parts: Sequence[str], label: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _marker(style: Style, x: float, y: float, radius: float, title: str) -> str:
    corners = SHAPES[style.shape]
    inner = f"<title>{escape(title)}</title>"
    paint = f'class="mark" style="--c:{style.css}"'
    if not corners:
        return f'<circle {paint} cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{inner}</circle>'
    points = " ".join(f"{x + radius * u:.1f},{y + radius * v:.1f}" for u, v in corners)
    return f'<polygon {paint} points="{points}">{inner}</polygon>'


def _spread(wanted: Sequence[tuple[float, float]], gap: float, lowest: float) -> list[float]:
    """Heights of labels at (x, y), moved so that labels near each other do not overlap."""
    heights = [y for _, y in wanted]
    placed: list[int] = []
    for i in sorted(range(len(wanted)), key=lambda i: wanted[i][1]):
        near = [heights[j] for j in placed if abs(wanted[j][0] - wanted[i][0]) < 80]
        heights[i] = max([heights[i], *(h + gap for h in near)])
        placed.append(i)
    over = max([0.0, *(h - lowest for h in heights)])
    return [h - over for h in heights]


def scatter(points: Sequence[Point], title: str, measure: str = "mAP") -> str:
    """Synergy gain against cross generation, one mark per method, its area the cost."""
    parts, across, down = _axes(
        _limits([p.cross for p in points] + [0, 1], 0.03),
        _limits([p.synergy for p in points] + [0]),
        f"cross generation ({measure})",
        "synergy gain over unimodal (%)",
    )
    parts.append(f'<path class="zero" d="M{LEFT} {down(0):.1f}H{WIDTH - RIGHT}"/>')
    places = [(across(p.cross), down(p.synergy)) for p in points]
    heights = _spread(places, 12, HEIGHT - BOTTOM - 4)
    labels = []
    order = sorted(range(len(points)), key=lambda i: -points[i].area)  # small marks on top
    for point, (x, y), height in ((points[i], places[i], heights[i]) for i in order):
        radius = 4 + 9 * math.sqrt(point.area)
        parts.append(_marker(point.style, x, y, radius, f"{point.label}: {point.note}"))
        left = x > WIDTH - 110
        edge = x - radius - 5 if left else x + radius + 5
        labels.append(
            f'<path class="leader" d="M{x:.1f} {y:.1f}L{edge:.1f} {height:.1f}"/>'
            f'<text class="point" x="{edge:.1f}" y="{height + 4:.1f}" '
            f'text-anchor="{"end" if left else "start"}">{escape(point.label)}</text>'
        )
    parts += labels
    return _svg(parts, f"{title}: " + "; ".join(f"{p.label} {p.note}" for p in points))


def curves(title: str, lines: Sequence[Line]) -> str:
    """Learning curves of one term; the vertical range leaves out the first tenth of the steps."""
    last = max(step for line in lines for step in line.steps)
    settled = [
        value
        for line in lines
        for step, value in zip(line.steps, line.values, strict=True)
        if math.isfinite(value) and step >= last / 10
    ]
    if not settled:
        return ""
    first = min(step for line in lines for step in line.steps)
    span = (first, last) if last > first else (first - 1, first + 1)
    parts, across, down = _axes(span, _limits(settled), "step", "")
    frame = f"{LEFT} {TOP} {WIDTH - LEFT - RIGHT} {HEIGHT - TOP - BOTTOM}"
    x, y, width, height = frame.split()
    # A nested drawing clips what lies above the range.
    parts.append(f'<svg x="{x}" y="{y}" width="{width}" height="{height}" viewBox="{frame}">')
    marks = []
    for line in lines:
        stride = math.ceil(len(line.steps) / 200)
        points = [
            (across(s), down(v))
            for s, v in zip(line.steps[::-1][::stride], line.values[::-1][::stride], strict=True)
            if math.isfinite(v)
        ]
        if not points:
            continue
        path = "L".join(f"{u:.1f} {v:.1f}" for u, v in points)
        parts.append(
            f'<path class="line" style="--c:{line.style.css}" stroke-dasharray="'
            f'{DASHES[line.style.shape]}" d="M{path}"/>'
        )
        marks.append(_marker(line.style, *points[0], 3.5, line.label))
    parts += ["</svg>", *marks]
    ends = "; ".join(f"{line.label} ends at {line.values[-1]:.4g}" for line in lines)
    return _svg(parts, f"{title} over training steps: {ends}")


def survival(
    title: str, lines: Sequence[Survival], severities: Sequence[float], measure: str = "mAP"
) -> str:
    """A line per method over the severity of a fault; right of it, without the sensor."""
    slot = severities[-1] * 1.22
    ticks = {severity: f"{severity:g}" for severity in severities} | {slot: "left out"}
    span = (0.0, severities[-1] * 1.34)
    parts, across, down = _axes(span, (0, 1.02), "severity", measure, ticks)
    border = across(severities[-1] * 1.09)
    parts.append(f'<path class="zero" d="M{border:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    for place, line in enumerate(lines):
        points = [(across(s), down(v)) for s, v in zip(severities, line.values, strict=True)]
        path = "L".join(f"{u:.1f} {v:.1f}" for u, v in points)
        parts.append(
            f'<path class="line" style="--c:{line.style.css}" stroke-dasharray="'
            f'{DASHES[line.style.shape]}" d="M{path}"/>'
        )
        worst = f"{line.label}: {line.values[-1]:.2f} at severity {severities[-1]:g}"
        parts.append(_marker(line.style, *points[-1], 4, worst))
        # Methods of like figures stand beside one another.
        aside = (place - (len(lines) - 1) / 2) * min(8, 40 / len(lines))
        without = f"{line.label}: {line.without:.2f} without the sensor"
        parts.append(_marker(line.style, across(slot) + aside, down(line.without), 4, without))
    ends = "; ".join(
        f"{line.label} {line.values[0]:.2f} clean, {line.values[-1]:.2f} at most severe, "
        f"{line.without:.2f} left out"
        for line in lines
    )
    return _svg(parts, f"{title}: {ends}")


def swatch(style: Style) -> str:
    """The mark and the dash of one method, for legends."""
    return (
        f'<svg class="swatch" viewBox="0 0 34 12" aria-hidden="true"><path class="line" '
        f'style="--c:{style.css}" stroke-dasharray="{DASHES[style.shape]}" d="M0 6H34"/>'
        f"{_marker(style, 17, 6, 4.5, '')}</svg>"
    )

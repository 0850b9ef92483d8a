"""Street numbers drawn here: a digit between its neighbours, in many fonts, colours and clutter."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from base.progress import Progress

__all__ = ["street_number", "street_numbers"]

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "cmr10",
    "cmss10",
    "cmtt10",
    "cmb10",
)
CANVAS = 64  # pixels of the drawing before it is scaled down
Picture = NDArray[np.uint8]


def street_numbers(count: int, side: int, seed: int, split: int) -> tuple[Picture, Picture]:
    """Pictures uint8 [count, side, side, 3] and the labels of their middle digits [count].

    Classes are as many as can be; picture n depends on (seed, split, n) alone.
    """
    labels = (np.arange(count) % 10).astype(np.uint8)
    pictures = np.empty((count, side, side, 3), np.uint8)
    bar = Progress(count, "street numbers, drawn")
    for place, label in enumerate(labels):
        draws = np.random.default_rng([seed, split, place])
        pictures[place] = street_number(int(label), side, draws)
        bar.reach(place + 1)
    bar.close()
    return pictures, labels


def street_number(digit: int, side: int, draws: np.random.Generator) -> Picture:
    """One picture uint8 [side, side, 3] of `digit`, its neighbours cut off by the frame."""
    wall, paint = _colours(draws)
    canvas = _wall(wall, draws)
    _clutter(canvas, wall, draws)
    # Drawn on a layer of its own, so that the turn does not turn the wall.
    layer = Image.new("L", (CANVAS, CANVAS), 0)
    _write(ImageDraw.Draw(layer), digit, draws)
    layer = layer.rotate(float(draws.uniform(-8, 8)), Image.Resampling.BILINEAR)
    canvas.paste(tuple(int(c) for c in paint), (0, 0), layer)
    canvas = canvas.filter(ImageFilter.GaussianBlur(float(draws.uniform(0, 1.2))))
    small = np.asarray(canvas.resize((side, side), Image.Resampling.BOX), np.float64)
    noisy = small + draws.normal(0, draws.uniform(0, 6), small.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def _colours(draws: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A dark wall and a light paint, each of any hue.

    Light on dark alone: in a study of minutes a VAE would spend all it learns on telling which of
    the two is the digit.
    """
    return draws.uniform(10, 110, 3), draws.uniform(150, 250, 3)


def _wall(colour: NDArray[np.float64], draws: np.random.Generator) -> Image.Image:
    """A wall whose light falls off in one direction."""
    rows, columns = np.mgrid[0:CANVAS, 0:CANVAS] / CANVAS - 0.5
    slope = draws.uniform(-30, 30, 2)
    light = slope[0] * rows + slope[1] * columns
    return Image.fromarray(np.clip(colour + light[..., None], 0, 255).astype(np.uint8))


def _clutter(canvas: Image.Image, wall: NDArray[np.float64], draws: np.random.Generator) -> None:
    """Up to two bars and panels, in colours near the wall's."""
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(draws.integers(0, 3))):
        colour = tuple(int(c) for c in np.clip(wall + draws.uniform(-30, 30, 3), 0, 255))
        x, y, to_x, to_y = draws.uniform(-10, CANVAS + 10, 4)
        if draws.random() < 0.5:
            pen.line((x, y, to_x, to_y), fill=colour, width=int(draws.integers(1, 6)))
        else:
            pen.rectangle((min(x, to_x), min(y, to_y), max(x, to_x), max(y, to_y)), fill=colour)


def _write(pen: ImageDraw.ImageDraw, digit: int, draws: np.random.Generator) -> None:
    """The digit in the middle; on each side, most often, a neighbour in the same hand."""
    name = FONTS[int(draws.integers(len(FONTS)))]
    path = Path(matplotlib.get_data_path()) / "fonts/ttf" / f"{name}.ttf"
    font = ImageFont.truetype(str(path), int(draws.integers(58, 70)))
    x, y = CANVAS / 2 + draws.uniform(-2, 2, 2)
    step = pen.textlength("0", font) * draws.uniform(0.95, 1.15)
    pen.text((x, y), str(digit), 255, font, anchor="mm")
    for side in (-1, 1):
        neighbour = str(int(draws.integers(10)))
        if draws.random() < 0.5:
            pen.text((x + side * step, y), neighbour, 255, font, anchor="mm")

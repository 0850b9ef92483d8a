"""How far the hues of what is generated lie from those that the sensor saw.

A hue is that of HSV, in turns around the colour wheel. A grey that should have a colour is off by
a quarter of a turn, as far as a hue drawn at random is on average.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Images, Truth

__all__ = ["background_errors", "hue_errors", "inner_colours"]

GREY = 5 / 255  # chroma below which rounding to 8 bits decides the hue
TOGETHER = 64  # pictures whose hues are taken at once; no figure depends on it

Colours = NDArray[Any]
"""RGB [..., 3] in 0 to 255, of 8 bits or means of them."""


def _hues(colours: Colours) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The hue of each colour in turns, and which have one."""
    flat = (colours.reshape(1, -1, 3) / 255).astype(np.float32)
    hue, saturation, value = np.moveaxis(cv2.cvtColor(flat, cv2.COLOR_RGB2HSV)[0], 1, 0)
    shape = colours.shape[:-1]
    return (hue / 360).reshape(shape), (saturation * value >= GREY).reshape(shape)


def hue_errors(made: Colours, true: Colours) -> NDArray[np.float64]:
    """Turns [...] between the hues of colours [..., 3], 0 to 1/2; 1/4 where what is made is grey.

    nan where the true one is grey, or of a sensor that has no three channels.
    """
    if true.shape[-1] != 3 or not true.size:
        return np.full(true.shape[:-1], np.nan)
    (hue, coloured), (true_hue, defined) = _hues(made), _hues(true)
    apart = np.abs((hue - true_hue + 0.5) % 1 - 0.5)
    return np.where(defined, np.where(coloured, apart, 0.25), np.nan)


def inner_colours(
    pictures: Images, places: NDArray[np.int64], boxes: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The mean colour [K, C] in the middle of boxes [K, 4], half as wide and high as they are.

    Args:
        places: [K], the picture that a box lies in.
    """
    sides = pictures.shape[2], pictures.shape[1]

    def half(low: float, high: float, side: int) -> slice:
        first = min(max(int(low + (high - low) / 4), 0), side - 1)
        return slice(first, max(math.ceil(high - (high - low) / 4), first + 1))

    found = np.empty((len(boxes), pictures.shape[3]))
    for row, place, (x1, y1, x2, y2) in zip(found, places, boxes, strict=True):
        inner = pictures[place, half(y1, y2, sides[1]), half(x1, x2, sides[0])]
        row[:] = inner.mean((0, 1))
    return found


def background_errors(made: Images, seen: Images, truths: list[Truth]) -> NDArray[np.float64]:
    """Per picture [N] the mean error of hue over the pixels outside all true boxes.

    nan where none of them has a hue, as in a sensor without colours.
    """
    found = np.full(len(made), np.nan)
    for start in range(0, len(made), TOGETHER):
        rows = slice(start, start + TOGETHER)
        errors = hue_errors(made[rows], seen[rows])
        for error, (boxes, _) in zip(errors, truths[rows], strict=True):
            for x1, y1, x2, y2 in boxes:
                error[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = np.nan
        there = np.isfinite(errors)
        total = np.where(there, errors, 0).sum((1, 2))
        count = there.sum((1, 2))
        np.divide(total, count, out=found[rows], where=count > 0)
    return found

"""A grid of pictures with boxes, as the README shows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pipeline.reporting.figures import BOX_COLOURS, CAMERA

__all__ = ["Tile", "contact_sheet"]


@dataclass(frozen=True)
class Tile:
    """One picture: uint8 [H, W, C], boxes [K, 5], a heading and a row label."""

    picture: NDArray[np.uint8]
    boxes: NDArray[np.floating]
    heading: str = ""
    side: str = ""
    camera: bool = False


def contact_sheet(rows: Sequence[Sequence[Tile]], classes: Sequence[str]) -> bytes:
    """Rows of pictures as PNG; `classes` by label name the boxes' colours."""
    columns = max(len(row) for row in rows)
    size = (1.25 * columns + 0.3, 1.3 * len(rows) + 0.4)
    figure = Figure(figsize=size, dpi=110, facecolor="white", layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, line in zip(axes, rows, strict=True):
        for axis in row[len(line) :]:
            axis.axis("off")
        for axis, item in zip(row, line, strict=False):
            axis.imshow(item.picture.squeeze(), cmap="gray", vmin=0, vmax=255)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(item.heading, fontsize=8, pad=3)
            axis.set_ylabel(item.side, fontsize=8)
            for x1, y1, x2, y2, k in item.boxes:
                colour = BOX_COLOURS[int(k) % 8]
                box = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, ec=colour)
                axis.add_patch(box)
            if item.camera:
                height, width = item.picture.shape[:2]
                side = CAMERA * width
                corner = ((width - side) / 2 - 0.5, height - side - 0.5)
                axis.add_patch(Rectangle(corner, side, side, color="red"))
    keys = [
        Rectangle((0, 0), 1, 1, fill=False, ec=BOX_COLOURS[k % 8], label=name)
        for k, name in enumerate(classes)
    ]
    figure.legend(
        handles=keys, loc="outside lower center", ncols=len(keys), fontsize=8, frameon=False
    )
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()

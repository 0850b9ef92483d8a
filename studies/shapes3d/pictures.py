"""Pictures of the page: sheets of them, boxes over them, what the viewer's script needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipeline.reporting import figures
from pipeline.reporting.contact_sheet import Tile, contact_sheet
from pipeline.reporting.figures import Sprite
from scenegen import sensors
from studies.shapes3d import paper
from studies.shapes3d.inputs import Boxes, Inputs, found

__all__ = ["failures", "is_map", "overview", "painter", "sheets_of", "viewer"]

Row = dict[str, Any]


def is_map(sensor: str) -> bool:
    """Whether it shows a bird's-eye map, at whose edge the camera is marked."""
    return sensors.get(sensor).traits.plane == "map"


def sheets_of(inputs: Inputs) -> dict[str, Sprite]:
    """One sprite per method and generated modality, one per sensor for what it saw, the worst."""
    sheets = {
        f"truth-{modality}": Sprite.of(f"truth-{modality}", {"truth": pictures})
        for modality, pictures in inputs.pictures.items()
    }
    for (cell, target), worst in inputs.worst.items():
        name = f"worst-{cell}-{target}"
        sheets[name] = Sprite.of(name, worst.pictures)
    for cell, arrays in inputs.samples.items():
        for target in inputs.modalities:
            rows = {
                name.split("/")[0]: array
                for name, array in arrays.items()
                if name.endswith(f"/{target}")
            }
            if rows:
                sheets[f"{cell}-{target}"] = Sprite.of(f"{cell}-{target}", rows)
    return sheets


def failures(inputs: Inputs) -> list[Row]:
    """Per method and cross-generated modality: of all scored scenes that with most mistakes."""
    return [
        {
            "cell": cell,
            "target": target,
            "subset": subset,
            "scene": worst.scene,
            "missed": worst.missed,
            "objects": len(worst.truth),
            "false": worst.false,
        }
        for (cell, target), worst in inputs.worst.items()
        for subset in [inputs.cross[cell][target]]
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def viewer(
    inputs: Inputs,
    matrices: dict[str, dict[str, dict[str, Row]]],
    sheets: dict[str, Sprite],
    least: float,
) -> Row:
    """What the page's script needs to draw any picture: rows of the sprites, boxes, scores."""

    def plain(boxes: Boxes) -> list[list[float]]:
        return [[*(round(float(v), 1) for v in box[:4]), int(box[4])] for box in boxes]

    methods = {
        cell: {
            "sensors": inputs.sensors[cell],
            "map": {
                subset: {
                    target: _rounded(values[inputs.headline]) for target, values in row.items()
                }
                for subset, row in matrices[cell].items()
            },
            "rows": {
                t: sheets[f"{cell}-{t}"].rows for t in inputs.modalities if f"{cell}-{t}" in sheets
            },
            "boxes": {
                name.removesuffix("/boxes"): [
                    plain(found(inputs, cell, name.removesuffix("/boxes"), scene, least))
                    for scene in range(len(inputs.scenes))
                ]
                for name in inputs.samples[cell]
                if name.endswith("/boxes")
            },
        }
        for cell in inputs.samples
    }
    return {
        "modalities": inputs.modalities,
        "camera": {m: figures.CAMERA * is_map(m) for m in inputs.modalities},
        "scenes": inputs.scenes.tolist(),
        "sizes": {m: inputs.pictures[m].shape[1:3] for m in inputs.modalities},
        "truth": {m: [plain(boxes) for boxes in inputs.truth[m]] for m in inputs.modalities},
        "methods": methods,
    }


def painter(
    inputs: Inputs, sheets: dict[str, Sprite], least: float
) -> Callable[[str, str, str, int], str]:
    """Draws the boxes over a picture: (cell or truth, row of the sprite, target, scene) -> SVG."""

    def of(cell: str, row: str, target: str, scene: int) -> Boxes:
        if cell == "truth":
            return inputs.truth[target][scene]
        if cell.startswith("worst-"):
            worst = inputs.worst[cell.removeprefix("worst-"), target]
            return worst.truth if row == "truth" else worst.found
        return found(inputs, cell, f"{row}/{target}", scene, least)

    def boxes(cell: str, row: str, target: str, scene: int) -> str:
        drawn = of(cell, row, target, scene)
        sheet = sheets[f"{cell}-{target}"]
        return figures.overlay(drawn, (sheet.height, sheet.width), is_map(target))

    return boxes


def letters_of(subset: str, letter: Mapping[str, str]) -> str:
    """`depth+radar` as D+R."""
    return "+".join(letter[m] for m in subset.split("+"))


def overview(inputs: Inputs, least: float) -> bytes:
    """The paper's Fig. 3 above its Fig. 4, with the run's own pictures."""
    methods, letter = list(inputs.samples), paper.letters(inputs.modalities)
    shown = range(min(len(inputs.scenes), max(1, (len(methods) + 1) // 3)))
    top = [
        Tile(
            inputs.pictures[target][scene],
            inputs.truth[target][scene],
            heading=target,
            side="the sensors" if (scene, target) == (0, inputs.modalities[0]) else "",
            camera=is_map(target),
        )
        for scene in shown
        for target in inputs.modalities
    ]
    lines = [top]
    for scene in range(min(len(inputs.scenes), 2)):
        for target in dict.fromkeys(m for cross in inputs.cross.values() for m in cross):
            seen, truth = inputs.pictures[target][scene], inputs.truth[target][scene]
            from_what = {cross[target] for cross in inputs.cross.values() if target in cross}
            given = letters_of(from_what.pop(), letter) if len(from_what) == 1 else "others"
            side = f"{given}→{letter[target]}"
            line = [Tile(seen, truth, "truth" if len(lines) == 1 else "", side)]
            for cell in methods:
                picture, boxes = np.full_like(seen, 255), truth[:0]  # blank where it has no such
                if subset := inputs.cross[cell].get(target):
                    picture = inputs.samples[cell][f"{subset}/{target}"][scene]
                    boxes = found(inputs, cell, f"{subset}/{target}", scene, least)
                line.append(Tile(picture, boxes, cell if len(lines) == 1 else ""))
            lines.append(line)
    return contact_sheet(lines, inputs.classes)

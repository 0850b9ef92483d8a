"""The page: captions and the study's page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.reporting.page import Page
from pipeline.reporting.table import Row
from pipeline.run import Run
from studies.cub import CUB
from studies.cub.layout import picture
from studies.cub.loader import load
from studies.cub.paper import TRUTH, UNIMODAL
from studies.cub.params import DataParams, ReportParams
from studies.page import Inputs, page_of, shown
from studies.page import read as read_inputs

__all__ = ["page", "read"]

ORIGIN = {
    "embedded": "Embedded study (scenes rendered here, captions from a grammar): not the paper's "
    "data. The paper's figures are its own, on CUB Image-Captions.",
    "files": "Made on the files of CUB Image-Captions. The paper's figures are its own.",
}


def strip(paths: list[Path], side: int = 128) -> bytes:
    """Pictures side by side, as PNG."""
    joined = np.concatenate([picture(path, side) for path in paths], 1)
    packed = io.BytesIO()
    Image.fromarray(joined).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def read() -> Inputs:
    """What the params ask for."""
    return read_inputs(CUB)


def page(inputs: Inputs, _rows: Sequence[Row]) -> Page:
    """What the page and the files beside it hold."""
    data, report = CUB.section("data", DataParams), CUB.section("report", ReportParams)
    truth = CUB.read_json(CUB.results / "truth.json")
    space, splits = load()
    test = splits["test"]
    count = min(report.examples, len(test.paths))
    written = {}
    for name in inputs.grid.cells:
        kept = CUB.read_arrays(Run(name, inputs.grid.seeds[0]).samples(CUB.data))
        written[name] = [str(line) for line in kept["first/text/captions"][:count]]
    own = {split: shown(cosine, "{:.2f}") for split, cosine in truth.items()}
    return page_of(
        inputs,
        "II",
        source=data.source,
        origin=ORIGIN[data.source],
        title="Pictures and captions",
        lead="Features of a picture, and a caption as word vectors. Each figure is the mean cosine "
        "of a frozen canonical correlation analysis (CCA) between what a method generates for one "
        "and the truth of the other. The test's classes are held out:",
        notice="This is not the paper's data: rendered scenes and generated captions stand in for "
        "CUB's birds, and a small network for ResNet-101, so that the study runs anywhere. Only "
        "the findings are to be compared with the paper, not the figures. docs/guide/studies.md "
        "says how to bring the real files.",
        note="I image, C caption.",
        beside=f"Alone, the image VAE scores {inputs.alone('image', '{:.3f}')} and the caption VAE "
        f"{inputs.alone('text', '{:.3f}')} (the paper: {UNIMODAL['image']} and "
        f"{UNIMODAL['text']}). Pictures and their own captions score {own['test']} here in the "
        f"test split and {own['train']} in training. The field's about {TRUTH} for CUB comes from "
        + (
            "a recipe of its own (docs/reference/studies.md), and does not compare with these."
            if data.source == "embedded"
            else "a recipe that this one follows as far as docs/reference/studies.md says."
        ),
        pictures={
            "pictures.png": (
                "Test pictures, of classes no model has seen; the captions below are generated "
                "from their features alone, in this order.",
                strip([Path(p) for p in test.paths[:count]]),
            )
        },
        pictures_title="Captions generated from pictures",
        captions=[
            ["", *(str(place + 1) for place in range(count))],
            ["one of its own", *space.language.text(test.ids[:count, 0])],
            *([name, *lines] for name, lines in written.items()),
        ],
    )

"""The page: pictures and the study's page."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.reporting.page import Page
from pipeline.reporting.table import Row
from pipeline.run import Run
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.loader import load
from studies.mnist_svhn.paper import UNIMODAL
from studies.mnist_svhn.params import DataParams, ReportParams
from studies.page import Inputs, page_of
from studies.page import read as read_inputs

__all__ = ["page", "read"]

ORIGIN = {
    "embedded": "Embedded study (scikit-learn's digits, street numbers drawn here): not the "
    "paper's data. The paper's figures are its own, on MNIST-SVHN.",
    "files": "Made on the files of MNIST and SVHN. The paper's figures are its own.",
}
TILE, GAP, LABEL = 48, 2, 110  # pixels of the contact sheets
Picture = NDArray[np.uint8]


def sheet(lines: dict[str, Picture]) -> bytes:
    """A labelled contact sheet: one line of pictures [N, h, w] or [N, H, W, 3] each, as PNG."""
    count = max(len(line) for line in lines.values())
    step = TILE + GAP
    canvas = Image.new("RGB", (LABEL + count * step, len(lines) * step), "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for row, (label, line) in enumerate(lines.items()):
        pen.text((2, row * step + TILE / 2), label, "black", font, anchor="lm")
        for column, picture in enumerate(line):
            tile = Image.fromarray(picture).convert("RGB")
            tile = tile.resize((TILE, TILE), Image.Resampling.NEAREST)
            canvas.paste(tile, (LABEL + column * step, row * step))
    packed = io.BytesIO()
    canvas.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def pictures(names: list[str], seed: int, count: int) -> dict[str, tuple[str, bytes]]:
    """Contact sheets: file name -> what it shows, and its PNG."""
    test = load("test")
    digits, streets = (test.digits[test.pairs[:count, 0]], test.streets[test.pairs[:count, 1]])
    samples = {}
    for name in names:
        found = MNIST_SVHN.read_arrays(Run(name, seed).samples(MNIST_SVHN.data))
        samples[name] = {key: array[:count] for key, array in found.items()}
    kinds = {
        "svhn_to_mnist.png": ("Digits generated from street numbers.", streets, "svhn/mnist"),
        "mnist_to_svhn.png": ("Street numbers generated from digits.", digits, "mnist/svhn"),
    }
    sheets = {
        file: (what, sheet({"given": given, **{n: s[key] for n, s in samples.items()}}))
        for file, (what, given, key) in kinds.items()
    }
    prior = {}
    for name, made in samples.items():
        prior[f"{name}, M"], prior[f"{name}, S"] = made["prior/mnist"], made["prior/svhn"]
    sheets["joint.png"] = (
        "Drawn from the prior: the digit and the street number of one latent point.",
        sheet(prior),
    )
    return sheets


def read() -> Inputs:
    """What the params ask for."""
    return read_inputs(MNIST_SVHN)


def page(inputs: Inputs, _rows: Sequence[Row]) -> Page:
    """What the page and the files beside it hold."""
    source = MNIST_SVHN.section("data", DataParams).source
    report, grid = MNIST_SVHN.section("report", ReportParams), inputs.grid
    judges = {
        m: MNIST_SVHN.read_json(MNIST_SVHN.results / f"classifiers/{m}.json")["accuracy"]
        for m in MNIST_SVHN.modalities
    }
    return page_of(
        inputs,
        "I",
        source=source,
        origin=ORIGIN[source],
        title="Digits and street numbers",
        lead="Two modalities that share a class. Accuracy (%) with which frozen classifiers find "
        "the right digit in what each method generates, and its gain over the VAE of that "
        "modality alone.",
        notice="This is not the paper's data: scikit-learn's 8x8 digits stand in for MNIST and "
        "drawn street numbers for SVHN, so that the study runs anywhere. Only the findings are to "
        "be compared with the paper, not the figures. docs/guide/studies.md says how to bring "
        "the real files.",
        note="S street number, M handwritten digit. joint: agreement of the two classifiers on "
        "samples of the prior.",
        beside=f"Alone, the digits' VAE reconstructs {inputs.alone('mnist', '{:.1f}')} % "
        f"recognisably and the street numbers' {inputs.alone('svhn', '{:.1f}')} % (the paper: "
        f"{UNIMODAL['mnist']} and {UNIMODAL['svhn']}). On clean test pictures the classifiers "
        f"reach {judges['mnist']:.1f} and {judges['svhn']:.1f} %; what is generated is more "
        "regular than what people write, and may exceed that.",
        pictures=pictures(list(grid.cells), grid.seeds[0], report.examples),
        pictures_title="Generated",
    )

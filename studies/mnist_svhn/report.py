"""Stage `report`: Table I beside the paper's, the findings, pictures and the study's page."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.run import Run
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.loader import load
from studies.mnist_svhn.paper import PAPER_SAMPLES, UNIMODAL
from studies.mnist_svhn.params import DataParams, ReportParams
from studies.page import average, importance_note, read_scores, shown, table_of, write_page

__all__ = ["main"]

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


def main() -> None:
    """Make the table from the score files that the params ask for."""
    grid = MNIST_SVHN.grid()
    data = MNIST_SVHN.section("data", DataParams)
    report = MNIST_SVHN.section("report", ReportParams)
    scores = read_scores(MNIST_SVHN, [*MNIST_SVHN.modalities, *grid["cells"]], grid["seeds"])
    alone = {m: average(score["all"][m] for score in scores[m]) for m in MNIST_SVHN.modalities}
    rows = table_of(MNIST_SVHN, grid, scores)
    judges = {
        m: MNIST_SVHN.read_json(MNIST_SVHN.results / f"classifiers/{m}.json")["accuracy"]
        for m in MNIST_SVHN.modalities
    }
    embedded = data.source == "embedded"
    mean = {m: shown(alone[m], "{:.1f}") for m in MNIST_SVHN.modalities}
    write_page(
        MNIST_SVHN,
        grid,
        "table1",
        rows,
        pictures(list(grid["cells"]), grid["seeds"][0], report.examples),
        data=data.source,
        origin=ORIGIN[data.source],
        captions=None,
        title="Digits and street numbers: Table I" + (" in small" if embedded else ""),
        lead="Two modalities that share a class. Accuracy (%) with which frozen classifiers find "
        "the right digit in what each method generates, and its gain over the VAE of that "
        f"modality alone. {scores[next(iter(grid['cells']))][0]['pairs']:,} test pairs, "
        f"{len(grid['seeds'])} seed(s).",
        notice="This is not the paper's data: scikit-learn's 8x8 digits stand in for MNIST and "
        "drawn street numbers for SVHN, so that the study runs anywhere. Only the findings are to "
        "be compared with the paper, not the figures. docs/guide/studies.md says how to bring "
        "the real files."
        if embedded
        else "",
        table_title="Table I, here and in the paper",
        note="S street number, M handwritten digit. joint: agreement of the two classifiers on "
        "samples of the prior." + importance_note(grid, PAPER_SAMPLES),
        alone=f"Alone, the digits' VAE reconstructs {mean['mnist']} % recognisably and the "
        f" street numbers' {mean['svhn']} % (the paper: {UNIMODAL['mnist']} and "
        f"{UNIMODAL['svhn']}). On clean test pictures the classifiers reach "
        f"{judges['mnist']:.1f} and {judges['svhn']:.1f} %; what is generated is more regular than "
        "what people write, and may exceed that.",
        pictures_title="Generated",
    )


if __name__ == "__main__":
    with MNIST_SVHN.running("report", lambda: "all that it shows is kept"):
        main()

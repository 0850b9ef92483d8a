"""Stage `report`: Table II beside the paper's, the findings, captions and the study's page."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import io
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.run import Run
from studies.cub import CUB
from studies.cub.layout import picture
from studies.cub.loader import load
from studies.cub.paper import PAPER_SAMPLES, TRUTH, UNIMODAL
from studies.cub.params import DataParams, ReportParams
from studies.page import average, importance_note, read_scores, shown, table_of, write_page

__all__ = ["main"]

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


def main() -> None:
    """Make the table from the score files that the params ask for."""
    grid = CUB.grid()
    data, report = CUB.section("data", DataParams), CUB.section("report", ReportParams)
    scores = read_scores(CUB, [*CUB.modalities, *grid["cells"]], grid["seeds"])
    alone = {m: average(score["all"][m] for score in scores[m]) for m in CUB.modalities}
    rows = table_of(CUB, grid, scores)
    truth = CUB.read_json(CUB.results / "truth.json")
    space, splits = load()
    test = splits["test"]
    count = min(report.examples, len(test.paths))
    written = {}
    for name in grid["cells"]:
        kept = CUB.read_arrays(Run(name, grid["seeds"][0]).samples(CUB.data))
        written[name] = [str(line) for line in kept["captions"][:count]]
    given = space.language.text(test.ids[:count, 0])
    embedded = data.source == "embedded"
    mean = {m: shown(alone[m], "{:.3f}") for m in CUB.modalities}
    own = {split: shown(cosine, "{:.2f}") for split, cosine in truth.items()}
    write_page(
        CUB,
        grid,
        "table2",
        rows,
        {
            "pictures.png": (
                "Test pictures, of classes no model has seen; the captions below are generated "
                "from their features alone, in this order.",
                strip([Path(p) for p in test.paths[:count]]),
            )
        },
        data=data.source,
        origin=ORIGIN[data.source],
        captions=[
            ["", *(str(place + 1) for place in range(count))],
            ["one of its own", *given],
            *([name, *lines] for name, lines in written.items()),
        ],
        title="Pictures and captions: Table II" + (" in small" if embedded else ""),
        lead="Features of a picture, and a caption as word vectors. Each figure is the mean cosine "
        "of a frozen canonical correlation analysis (CCA) between what a method generates for one "
        f"and the truth of the other. {scores[next(iter(grid['cells']))][0]['pairs']:,} test "
        f"pairs of classes held out, {len(grid['seeds'])} seed(s).",
        notice="This is not the paper's data: rendered scenes and generated captions stand in for "
        "CUB's birds, and a small network for ResNet-101, so that the study runs anywhere. Only "
        "the findings are to be compared with the paper, not the figures. "
        "docs/guide/studies.md says "
        "how to bring the real files."
        if embedded
        else "",
        table_title="Table II, here and in the paper",
        note="I image, C caption." + importance_note(grid, PAPER_SAMPLES),
        alone=f"Alone, the image VAE scores {mean['image']} and the caption VAE "
        f"{mean['text']} (the paper: {UNIMODAL['image']} and {UNIMODAL['text']}). Pictures "
        f"and their own captions score {own['test']} here in the test split and "
        f"{own['train']} in training. The field's about {TRUTH} for CUB comes from "
        + (
            "a recipe of its own (docs/reference/studies.md), and does not compare with these."
            if embedded
            else "a recipe that this one follows as far as docs/reference/studies.md says."
        ),
        pictures_title="Captions generated from pictures",
    )


if __name__ == "__main__":
    with CUB.running("report", lambda: "all that it shows is kept"):
        main()

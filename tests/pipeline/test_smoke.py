"""The whole pipeline, from an empty disk to Table III, at smoke scale."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from pipeline.reporting.table import columns_of, keys
from studies.shapes3d.paper import letters
from tests.conftest import run

CELLS = ("moe-none", "poe-none", "poe-ecg")
MODALITIES = ("image", "depth", "radar")


def test_every_stage_left_its_outputs(smoke: Path) -> None:
    for modality in MODALITIES:
        assert (smoke / f"data/detectors/{modality}.safetensors").stat().st_size > 10_000
    for name in [f"{c}-0" for c in (*CELLS, *MODALITIES)]:
        with safe_open(smoke / f"data/models/{name}.safetensors", "np") as file:
            weights = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118
        assert all(np.isfinite(w).all() for w in weights)
        assert list((smoke / f"data/curves/{name}").rglob("*.tsv"))


def test_the_table_has_the_papers_columns_and_one_row_per_cell(smoke: Path) -> None:
    with open(smoke / "results/table3.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == keys(columns_of(letters(MODALITIES)))
    assert [f"{r['fusion']}-{r['objective']}" for r in rows] == list(CELLS)
    assert rows[1]["cross_image_paper"] == "0.7"
    for row in rows:
        for modality in MODALITIES:
            assert 0 <= float(row[f"cross_{modality}"]) <= 1


def test_no_generated_picture_reaches_the_detectors_ceiling(smoke: Path) -> None:
    """Forty optimiser steps are far from what the detectors find in the pictures themselves."""
    for modality in MODALITIES:
        record = json.loads((smoke / f"results/detectors/{modality}.json").read_text())
        ceiling = record["test"]
        assert ceiling["map50"] > 0.01  # else nothing could be above it
        assert ceiling["map50_agnostic"] > 0.1
        entries = [
            row[modality]
            for name in [*(f"{c}-0" for c in CELLS), f"{modality}-0"]
            for score in [json.loads((smoke / f"results/scores/{name}.json").read_text())]
            for row in [*score["subsets"].values(), score["synergy"]]
        ]
        assert len(entries) == 8 * len(CELLS) + 2
        for entry in entries:
            assert entry["map50"] < ceiling["map50"] / 2
            assert entry["map50_agnostic"] < ceiling["map50_agnostic"] / 2
            # And pixels show that these are pictures of a model: neither the truth nor nothing.
            assert 0.01 < entry["mse"] < 0.5
            assert 0 < entry["ssim"] < 0.7


def test_cost_is_counted_in_a_real_step(smoke: Path) -> None:
    """Three sensors: ecg encodes each once and decodes seven terms; moe decodes three."""
    costs = {
        cell: json.loads((smoke / f"results/models/{cell}-0.json").read_text()) for cell in CELLS
    }
    assert {c: (v["encodes"], v["decodes"]) for c, v in costs.items()} == {
        "moe-none": (3, 9),
        "poe-none": (3, 3),
        "poe-ecg": (3, 21),
    }


def test_a_mixture_is_scored_by_its_best_component(smoke: Path) -> None:
    score = json.loads((smoke / "results/scores/moe-none-0.json").read_text())
    assert score["component"] in MODALITIES
    assert json.loads((smoke / "results/scores/poe-none-0.json").read_text())["component"] is None


@pytest.mark.parametrize("command", [("metrics", "show"), ("params", "diff"), ("dag", "--md")])
def test_dvc_reads_it(smoke: Path, command: tuple[str, ...]) -> None:
    assert run(smoke, "dvc", *command).stdout.strip()

"""The whole pipeline, from an empty disk to Table III, at smoke scale."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from pipeline.table3 import COLUMNS
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
    assert tuple(rows[0]) == COLUMNS
    assert [f"{r['fusion']}-{r['objective']}" for r in rows] == list(CELLS)
    assert rows[1]["cross_image_paper"] == "0.7"
    for row in rows:
        for modality in MODALITIES:
            assert 0 <= float(row[f"cross_{modality}"]) <= 1


def test_scores_are_those_of_the_models_and_not_of_the_truth(smoke: Path) -> None:
    """Forty optimiser steps are far from the detectors' ceiling, and pixels show it."""
    for cell in CELLS:
        score = json.loads((smoke / f"results/scores/{cell}-0.json").read_text())
        assert len(score["subsets"]) == 7
        assert all(0 < score["subsets"]["depth+radar"][m]["mse"] < 1 for m in MODALITIES)


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

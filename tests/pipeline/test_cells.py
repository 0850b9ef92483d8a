"""A cell fuses the sensors that it names: trained, scored and shown of these alone."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from base.files import sha256_file
from models.vae import MultimodalVAE
from pipeline.cells import checked
from studies.shapes3d.params import Params
from tests.conftest import ROOT, run, shipped
from tests.pipeline.test_pages import set_params
from tests.pipeline.test_stages import stale

PAIR = ("image", "radar")
CELLS = """
grid:
  cells:
    poe-named: {fusion: poe, objective: ecg, sensors: [radar, image, depth]}
    poe-pair: {fusion: poe, objective: ecg, sensors: [radar, image]}
    moe-pair: {fusion: moe, objective: none, sensors: [image, radar]}
"""
NEW = ("poe-named", "poe-pair", "moe-pair")


@pytest.fixture(scope="module")
def project(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke run with a cell more that names all sensors, and two of two sensors."""
    folder = tmp_path_factory.mktemp("cells") / "project"
    shutil.copytree(smoke, folder, symlinks=True)
    set_params(folder, CELLS)
    new = {f"{stage}@{cell}-0" for stage in ("train_vae", "score", "score_faults") for cell in NEW}
    assert stale(folder) == new | {"summary", "report"}
    run(folder, "dvc", "repro")
    return folder


def score_of(project: Path, cell: str) -> Any:
    return json.loads((project / f"results/scores/{cell}-0.json").read_text())


def test_a_cell_that_names_all_sensors_has_the_bytes_of_one_that_names_none(project: Path) -> None:
    """Whatever the order in which it names them."""
    for kind in ("models/{}-0.safetensors", "bootstrap/{}-0.npz", "faults/{}-0.npz"):
        one, other = (project / "data" / kind.format(cell) for cell in ("poe-ecg", "poe-named"))
        assert sha256_file(one) == sha256_file(other), kind
    named, without = score_of(project, "poe-named"), score_of(project, "poe-ecg")
    assert named | {"run": ""} == without | {"run": ""}


@pytest.mark.parametrize("cell", ["poe-pair", "moe-pair"])
def test_a_cell_of_two_sensors_is_trained_and_scored_on_these_alone(
    project: Path, cell: str
) -> None:
    assert MultimodalVAE.load(project / f"data/models/{cell}-0.safetensors").modalities == PAIR
    terms = {file.name for file in (project / f"data/curves/{cell}-0").rglob("validation_*.tsv")}
    assert "validation_loss.tsv" in terms
    assert not [name for name in terms if "depth" in name]
    score = score_of(project, cell)
    assert list(score["subsets"]) == ["image", "radar", "image+radar"]
    assert [set(targets) for targets in score["subsets"].values()] == [set(PAIR)] * 3
    assert set(score["synergy"]) == set(PAIR)
    assert score["joint"] is None  # of image and depth
    with np.load(project / f"data/faults/{cell}-0.npz") as faults:
        assert not [name for name in faults.files if "depth" in name]
        assert {"without-image/radar", "radar/noise/0.1/image"} <= set(faults.files)
    costs = json.loads((project / f"results/models/{cell}-0.json").read_text())
    passes = {"poe-pair": (2, 6), "moe-pair": (2, 4)}[cell]  # 2 x 3 terms; 2 x 2 components
    assert (costs["encodes"], costs["decodes"]) == passes


def test_its_row_is_empty_where_it_has_no_sensor_and_the_table_says_why(project: Path) -> None:
    with open(project / "results/table3.csv", newline="") as file:
        rows = {row["cell"]: row for row in csv.DictReader(file)}
    assert {cell: row["sensors"] for cell, row in rows.items()} == dict.fromkeys(
        ("moe-none", "poe-none", "poe-ecg", "poe-named"), "image+depth+radar"
    ) | dict.fromkeys(("poe-pair", "moe-pair"), "image+radar")
    for cell in ("poe-pair", "moe-pair"):
        score, row = score_of(project, cell), rows[cell]
        assert row["cross_depth"] == row["synergy_depth"] == row["cross_image_paper"] == ""
        for m, other in zip(PAIR, PAIR[::-1], strict=True):
            assert float(row[f"cross_{m}"]) == pytest.approx(
                score["subsets"][other][m]["map50"], abs=1e-4
            )
    assert rows["poe-named"]["cross_image_paper"] == rows["poe-ecg"]["cross_image_paper"] != ""
    text = (project / "results/table3.md").read_text()
    assert "| others→D |" in text
    assert "Empty: the cell has no such sensor." in text
    faults = json.loads((project / "results/faults.json").read_text())["rows"]
    assert {tuple(row["targets"]) for row in faults} == {PAIR}


def test_the_page_and_the_readmes_table_have_it(project: Path) -> None:
    page = (project / "results/report.html").read_text()
    assert 'title="poe-pair has no depth"' in page
    assert "Empty: the cell has no such sensor." in page
    viewer = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert viewer["methods"]["poe-pair"]["sensors"] == list(PAIR)
    assert set(viewer["methods"]["poe-pair"]["rows"]) == set(PAIR)
    metrics = json.loads((project / "results/metrics/poe-pair-0.json").read_text())
    assert set(metrics["cross"]) == set(PAIR)
    run(project, "python", "-m", "pipeline", "readme")
    readme = (project / "README.md").read_text()
    assert "| `poe-pair` |" in readme
    assert "mean over image, radar; one seed" in readme


def test_its_sensors_make_it_stale_and_no_other_cell(project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(project, folder, symlinks=True)
    set_params(folder, "grid: {cells: {poe-pair: {sensors: [depth, radar]}}}")
    own = {f"{stage}@poe-pair-0" for stage in ("train_vae", "score", "score_faults")}
    assert stale(folder) == own | {"summary", "report"}


@pytest.mark.slow
def test_what_a_cell_does_not_fuse_makes_it_no_staler(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC knows what a cell fuses by the file that `check` writes of it."""
    monkeypatch.chdir(ROOT)

    def written(**changed: Any) -> dict[str, bytes]:
        values = YAML(typ="safe").load(shipped("params.yaml"))
        values["grid"]["cells"] = {
            "whole": {"fusion": "poe"},
            "pair": {"fusion": "poe", "sensors": ["image", "depth"]},
        }
        for name, value in changed.items():
            values["vae"]["modalities"][name] = value
        values["scenes"]["sensors"] = ["image", "depth", "radar", "lidar"]
        return checked(Path("dvc.yaml"), *Params.model_validate(values).looked_up())

    def differ(other: dict[str, bytes]) -> set[str]:
        return {
            name for name in before.keys() | other.keys() if before.get(name) != other.get(name)
        }

    before = written()
    assert differ(written(radar={"likelihood": "normal"})) == {"cells/whole"}
    assert differ(written(lidar={"weight": 3.0})) == {"cells/whole", "detectors/lidar"}
    assert differ(written(depth={"weight": 4.0})) == {"cells/whole", "cells/pair"}

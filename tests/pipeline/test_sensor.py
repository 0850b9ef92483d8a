"""A sensor is its file and its entries in params.yaml; the whole pipeline then has it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from detector.params import Detectors
from models.params import Cell
from pipeline.cells import checked
from tests.conftest import ROOT, clone, run

GREY = '''"""A grey camera: the mean of the three colours. Left out: noise."""

import numpy as np

from scenegen.sensors import Traits

TRAITS = Traits(letter="G")


def observe(frame, options, draws):
    """Levels of grey: [H, W, 1]."""
    return np.rint(frame.image.mean(axis=-1, keepdims=True)).astype(np.uint8)
'''
TINY = """
scenes: {count: 60, sensors: [image, depth, radar, grey]}
detector: {default: {epochs: 1}}
vae:
  latent: 4
  modalities: {image: {}, radar: {likelihood: bernoulli}, grey: {weight: 3.0}}
  training: {steps: 4, batch: 8, log_every: 2, checkpoint_every: 4}
grid: {cells: {poe-none: {fusion: poe, objective: none}}}
score: {scenes: 12, samples: 0, resamples: 100, faults: {kinds: [noise], severities: [0.5], scenes: 4}}
report: {examples: 2}
"""  # noqa: E501
SCORED = ("image", "radar", "grey")


def with_grey(project: Path) -> Path:
    """A clone that has a sensor more, and one of the shipped ones that is not scored."""
    clone(project)
    (project / "scenegen/sensors/grey.py").write_text(GREY)
    run(project, "python", "-m", "pipeline", "preset", "smoke")
    document = YAML().load((project / "params.yaml").read_text())
    for name, section in YAML(typ="safe").load(TINY).items():
        for key, value in section.items():
            if isinstance(value, dict) and key not in ("modalities", "cells"):
                document[name][key].update(value)
            else:
                document[name][key] = value
    YAML().dump(document, project / "params.yaml")
    return project


@pytest.mark.slow
def test_a_new_sensor_is_trained_scored_and_shown_with_no_other_edit(tmp_path: Path) -> None:
    project = with_grey(tmp_path / "project")
    run(project, "dvc", "repro")
    for name in SCORED:
        assert (project / f"data/detectors/{name}.safetensors").exists()
        assert (project / f"data/models/{name}-0.safetensors").exists()
    assert not (project / "data/detectors/depth.safetensors").exists()
    score = json.loads((project / "results/scores/poe-none-0.json").read_text())
    assert score["modalities"] == list(SCORED)
    assert len(score["subsets"]) == 7
    assert set(score["subsets"]["image+radar"]) == set(SCORED)
    with open(project / "results/table3.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert {f"{kind}_{m}" for kind in ("cross", "synergy") for m in SCORED} <= set(row)
    text = (project / "results/table3.md").read_text()
    assert "I+R→G" in text
    assert "I image, R radar, G grey." in text
    with np.load(project / "data/faults/poe-none-0.npz") as faults:
        assert {"without-grey/image", "grey/noise/0.5/grey"} <= set(faults.files)
    page = (project / "results/report.html").read_text()
    assert 'value="grey"' in page  # its switch in the viewer
    camera = json.loads(page.split('id="data">')[1].split("</script>")[0])["camera"]
    assert [name for name, side in camera.items() if side] == ["radar"]
    metrics = json.loads((project / "results/metrics/poe-none-0.json").read_text())
    assert set(metrics["all"]) == set(SCORED)


@pytest.mark.slow
def test_settings_make_stale_the_detector_that_has_them_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DVC knows a detector's settings by the file that `check` writes of them."""
    monkeypatch.chdir(ROOT)

    def written(section: dict[str, object], names: tuple[str, ...]) -> dict[str, bytes]:
        all_of = Detectors.model_validate(section)
        detectors = {name: all_of.of(name) for name in names}
        return checked(Path("dvc.yaml"), {"a": Cell()}, detectors=detectors)

    def differ(one: dict[str, bytes], other: dict[str, bytes]) -> set[str]:
        return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}

    two = ("image", "radar")
    before = written({"default": {"batch": 8}, "radar": {"epochs": 2}}, two)
    assert differ(before, written({"default": {"batch": 8}, "radar": {"epochs": 3}}, two)) == {
        "detectors/radar"
    }
    assert differ(before, written({"default": {"batch": 8}}, two)) == {"detectors/radar"}
    both = written({"default": {"batch": 9}, "radar": {"epochs": 2}}, two)
    assert differ(before, both) == {"detectors/image", "detectors/radar"}
    more = written({"default": {"batch": 8}, "radar": {"epochs": 2}}, (*two, "lidar"))
    assert differ(before, more) == {"detectors/lidar"}

"""The benchmarks start, and print what they promise; their figures are nothing a test can hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from benchmarks import radar, train
from models.networks import fast_bfloat16
from scenegen.dataset import open_dataset
from tests.conftest import run


@pytest.mark.slow
def test_training_is_measured_beside_multivae() -> None:
    small = ["--rounds", "1", "--size", "16", "--batch", "4", "--latent", "8", "--threads", "1"]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.train", *small],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["case"] for line in lines] == [
        "multivae mvae float32",
        "poe+none float32",
        "poe+ecg float32",
        "bce+lcd float32",
        "poe+none bfloat16",
        "poe+ecg bfloat16",
        "bce+lcd bfloat16",
    ]
    for line in lines:
        fast = line["case"].endswith("bfloat16") and fast_bfloat16(torch.device("cpu"))
        assert line["precision"] == ("bfloat16" if fast else "float32")
        assert line["samples_per_s"] > 0
        assert line["peak_mb"] > 0
    rate = {line["case"]: line["samples_per_s"] for line in lines}
    rounding = 0.11 / min(
        rate.values()
    )  # of two rates to one decimal, in shares; that of a ratio comes on top
    for line in lines:  # of one round: the ratios are those of the rates, to rounding
        mine = rate[line["case"]]
        ratio = mine / rate["multivae mvae float32"]
        assert line["ratio_vs_multivae"] == pytest.approx(ratio, abs=0.006 + rounding * ratio)
        over = 4000 / mine / line["roofline_ms"]  # a step has four rows
        off = 0.006 + (rounding + 0.01) * over
        assert line["ratio_vs_roofline"] == pytest.approx(over, abs=off)
        if line["cost_vs_none"] is not None:
            cost = rate[f"poe+none {line['case'].split()[1]}"] / mine
            assert line["cost_vs_none"] == pytest.approx(cost, abs=0.006 + rounding * cost)
    assert [line["case"] for line in lines if line["cost_vs_none"] is None] == [lines[0]["case"]]


def test_the_work_of_a_step_is_counted() -> None:
    """A linear layer: two products, its weights moved ten times and its input, saved, twice."""
    layer, x = torch.nn.Linear(8, 4, bias=False), torch.ones(5, 8)
    work = train._work(lambda: layer(x).sum().backward(), layer)
    assert work == (2 * 2 * 5 * 8 * 4, 10 * 4 * 8 * 4 + 2 * 4 * 5 * 8)


def test_networks_are_compared(smoke: Path, tmp_path: Path) -> None:
    """A second of training each, and a line for every point."""
    options = ["--seconds", "1", "--points", "2", "--kinds", "mixer", "cnn", "--out", str(tmp_path)]
    ran = run(smoke, sys.executable, "-m", "benchmarks.networks", *options)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(line["kind"], line["seconds"]) for line in lines] == [
        ("mixer", 0.5), ("mixer", 1.0), ("cnn", 0.5), ("cnn", 1.0)
    ]  # fmt: skip
    for line in lines:
        assert line["step"] > 0
        assert 0 <= line["map50_95"] <= line["map50"] <= 1
        assert 0 < line["psnr"] < 60
    (folder,) = tmp_path.iterdir()
    assert folder.name == "image-1s-2-0.001-bfloat16"  # another budget is another training
    assert len(list(folder.iterdir())) == 4


@pytest.mark.slow
def test_scenes_are_searched_for_room(smoke: Path, tmp_path: Path) -> None:
    """A detector a sensor, and of each model its curve's end and what it generates from each
    subset, next to its own validation curve."""
    short = {"steps": 5, "log_every": 1}
    plan = [
        {"name": "depth", "sensors": ["depth"], "training": short},
        {"name": "both", "cell": {"objective": "ecg"}, "training": short, "folders": ["elsewhere"]},
        {"name": "all", "cell": {"objective": "ecg"}, "training": short, "network": {"blocks": 0}},
    ]
    file, out = tmp_path / "plan.json", tmp_path / "lines"
    file.write_text(json.dumps(plan))
    run(
        smoke, sys.executable, "-m", "benchmarks.room", "data/shapes3d", "--plan", str(file),
        "--out", str(out), "--scratch", str(tmp_path / "scratch"), "--epochs", "0.1",
    )  # fmt: skip
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    seen = sorted(line["detector"] for line in lines if "detector" in line)
    assert seen == ["depth", "image", "radar"]
    curves = {line["model"]: line for line in lines if "last_fifth" in line}
    found = {
        line["model"]: line["map50"]
        for line in lines
        if "last_fifth" not in line and "model" in line
    }
    assert set(curves) == set(found) == {"depth", "all"}, "the other is of other scenes"
    assert [len(found[name]) for name in ("depth", "all")] == [1, 7]
    assert all(0 <= x <= 1 for given in found["all"].values() for x in given.values())
    for line in curves.values():
        assert line["least_validation_loss"] <= line["validation_loss"]


def test_what_radar_can_tell_is_the_nearest_neighbours(smoke: Path) -> None:
    dataset = open_dataset(smoke / "data/shapes3d")
    (known, names), (asked, truth) = (radar.objects(dataset, s) for s in ("train", "validation"))
    assert len(truth) == sum(len(labels) for _, labels in dataset.boxes("radar", "validation"))
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(known, names)
    assert radar.accuracy(known, names, asked, truth) == nearest.score(asked, truth)
    assert radar.accuracy(known, names, known, names) == 1
    assert radar.accuracy(known, names, asked, truth) > 0.6  # of three classes

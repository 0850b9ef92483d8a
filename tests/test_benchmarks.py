"""The benchmarks start, and print what they promise; their figures are nothing a test can hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.neighbors import KNeighborsClassifier

from benchmarks import radar
from scenegen.dataset import open_dataset


def test_training_is_measured_beside_multivae() -> None:
    small = ["--rounds", "1", "--size", "16", "--batch", "4", "--latent", "8"]
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
        "poe+none bfloat16",
        "poe+ecg bfloat16",
        "bce+lcd bfloat16",
    ]
    for line in lines:
        assert line["samples_per_s"] > 0
        assert line["peak_mb"] > 0
    rate = {line["case"]: line["samples_per_s"] for line in lines}
    for line in lines:  # of one round: the ratios are those of the rates, to rounding
        mine = rate[line["case"]]
        ratio = mine / rate["multivae mvae float32"]
        assert line["ratio_vs_multivae"] == pytest.approx(ratio, rel=0.005, abs=0.006)
        if line["cost_vs_none"] is not None:
            cost = rate[f"poe+none {line['case'].split()[1]}"] / mine
            assert line["cost_vs_none"] == pytest.approx(cost, rel=0.005, abs=0.006)
    assert [line["case"] for line in lines if line["cost_vs_none"] is None] == [lines[0]["case"]]


def test_what_radar_can_tell_is_the_nearest_neighbours(smoke: Path) -> None:
    dataset = open_dataset(smoke / "data/shapes3d")
    (known, names), (asked, truth) = (radar.objects(dataset, s) for s in ("train", "validation"))
    assert len(truth) == sum(len(labels) for _, labels in dataset.boxes("radar", "validation"))
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(known, names)
    assert radar.accuracy(known, names, asked, truth) == nearest.score(asked, truth)
    assert radar.accuracy(known, names, known, names) == 1
    assert radar.accuracy(known, names, asked, truth) > 0.6  # of three classes

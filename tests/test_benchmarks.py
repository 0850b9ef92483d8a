"""The benchmarks start, and print what they promise; their figures are nothing a test can hold."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


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
    peer, plain, _, ecg, _ = lines  # of one round: the ratios are those of the rates
    assert plain["ratio_vs_multivae"] == pytest.approx(
        plain["samples_per_s"] / peer["samples_per_s"], rel=0.02
    )
    assert ecg["cost_vs_none"] > 1
    assert peer["ratio_vs_multivae"] == plain["cost_vs_none"] == 1

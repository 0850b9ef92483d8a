"""docs/reference/scale.md says what follows from the committed results and the figures it names."""

from __future__ import annotations

import json
import re
from statistics import mean

from ruamel.yaml import YAML

from scenegen.manifest import read_manifest
from scenegen.params import SENSORS as MODALITIES
from scenegen.splits import split_scenes
from tests.conftest import ROOT, shipped

PAGE = shipped("docs/reference/scale.md")


def measured(pattern: str, text: str = PAGE) -> list[float]:
    """The numbers in brackets of the one place that reads like this."""
    (found,) = re.finditer(pattern, text)
    return [float(number) for number in found.groups()]


def said(*texts: str) -> None:
    assert [t for t in texts if t not in PAGE] == [], "docs/reference/scale.md should say so"


def test_a_million_scenes() -> None:
    scenes = read_manifest(ROOT / "results/paper").count
    stages = YAML(typ="safe").load(shipped("results/paper/dvc.lock"))["stages"]
    size = next(o["size"] for o in stages["render"]["outs"] if o["path"] == "data/shapes3d")
    about = shipped("results/paper/README.md")
    (seconds,) = measured(r"dvc repro render`: (\d+) s", about)
    shard = YAML(typ="safe").load(shipped("params.yaml"))["scenes"]["shard_size"]
    core_hours, gigabytes = 4 * seconds / scenes * 1e6 / 3600, size / scenes * 1e6 / 1e9
    md5, check = measured(r"\| ([\d.]+) and ([\d.]+) GB/s of one core:")
    trained = sum(
        json.loads(shipped(f"results/detectors/{m}.json"))["train_seconds"] for m in MODALITIES
    )
    share = len(split_scenes("train", 1000)) / 1000
    bytes_a_scene = 64 * 64 * (3 + 1 + 1)
    said(
        f"{core_hours:.0f} core-hours: {core_hours / 4:.0f} h on 4 cores, "
        f"{core_hours / 64 * 60:.0f} min on 64",
        f"{seconds:.0f} s for {scenes:,} on four",
        f"| {gigabytes:.0f} GB | {size / 1e6:.0f} MB for {scenes:,} |",
        f"| {1e6 / shard:,.0f} shards of {shard}; "
        f"`shard_size: {10 * shard}` makes {1e5 / shard:,.0f} |",
        f"| {gigabytes / md5:.0f} s by DVC, {gigabytes / check:.0f} s by the manifest",
        f"| {bytes_a_scene * share * 1e6 / 1e9:.0f} GB: all training scenes",
        f"{bytes_a_scene / 1e3:.0f} kB a scene, {100 * share:.0f} % of the scenes",
        f"{bytes_a_scene * share * 1e5 / 1e9:.1f} GB for each 100,000 scenes",
        f"| {trained / scenes * 1e6 / 3600:.1f} h on those two | {trained:.0f} s for",
    )


def test_a_thousand_cells() -> None:
    cells = YAML(typ="safe").load(shipped("params.yaml"))["grid"]["cells"]
    assert len(cells) == 6
    models, files = (
        [shipped(f"results/{kind}/{cell}-0.json") for cell in cells]
        for kind in ("models", "scores")
    )
    costs = [json.loads(model) for model in models]
    seconds = [cost["train_seconds"] for cost in costs]
    scores = measured(r"\| (\d+) and (\d+) s a cell on average")
    weights = max(cost["parameters"] for cost in costs)
    kilobytes = max(len(file) for file in files) / 1e3
    faults = len(shipped("results/faults.csv")) / len(cells) / 1e3
    stages = YAML(typ="safe").load(shipped("dvc.lock"))["stages"]
    behind = max(
        sum(
            out["size"]
            for stage in ("score", "score_faults")
            for out in stages[f"{stage}@{cell}-0"]["outs"]
            if out["path"].startswith("data/")
        )
        / 1e6
        for cell in cells
    )
    files_of = [
        sum(
            out.get("nfiles", 0) + 1  # a folder has an object of its own, its list
            for stage in ("train_vae", "score", "score_faults")
            for out in stages[f"{stage}@{cell}-0"]["outs"]
            if out["path"].startswith("data/")
        )
        for cell in cells
    ]
    (page,) = (o["size"] for o in stages["report"]["outs"] if o["path"] == "results/report.html")
    said(
        f"| {1000 * min(files_of):,} to {1000 * max(files_of):,} | {min(files_of)} a cell, "
        f"{max(files_of)} with the curves of seven terms |",
        f"{min(seconds):,.0f} to {max(seconds):,.0f} s a cell, {mean(seconds):.0f} s on average",
        f"| training | {1000 * mean(seconds) / 3600:.0f} h on those two",
        f"| {1000 * sum(scores) / 3600:.0f} h on those two |",
        f"| {1000 * weights * 4 / 1e9:.0f} GB | {weights / 1e6:.1f} M parameters in float32",
        f"{kilobytes:.0f} MB of scores, {faults:.0f} of faults | "
        f"up to {kilobytes:.0f} and {faults:.0f} kB a cell",
        f"| {behind:.1f} GB | up to {behind:.1f} MB a cell |",
        f"| {page / 1e6:.1f} MB for six cells |",
    )

"""A metric is one entry, and every file and page has it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from detector.boxes import Detections
from pipeline.reporting import fault_table
from pipeline.run import Run
from pipeline.scoring.bootstrap import copies
from pipeline.scoring.decoding import Items
from pipeline.scoring.metrics import DETECTED, Metric, under_faults
from pipeline.scoring.params import FaultParams
from pipeline.stages import report, score, score_faults
from pipeline.study import ROOT, STUDIES
from scenegen.params import SENSORS as MODALITIES
from studies.shapes3d.judge import Judge
from tests.conftest import shipped
from tests.pipeline.test_stages import change

BRIGHT = Metric(
    "bright",
    "brightness",
    True,
    lambda seen: seen.copies @ seen.generated.mean((1, 2, 3)) / seen.copies.sum(1) / 255,
    "mean of the pixels",
)


class Blind:
    """A detector that finds nothing."""

    def detect(self, pictures: np.ndarray) -> list[Detections]:
        nothing = Detections(
            np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, int)
        )
        return [nothing] * len(pictures)


def test_a_new_entry_is_in_scores_and_tables_of_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DETECTED, BRIGHT.key, BRIGHT)
    seen = {m: np.full((4, 16, 16, 1), 51, np.uint8) for m in MODALITIES}
    truth = [(np.array([[4, 4, 9, 9]], np.float32), np.array([0]))] * 4
    scenes = Items(np.arange(4), seen, dict.fromkeys(MODALITIES, truth))
    drawn = copies(4, 100, 0)
    judge = Judge(dict.fromkeys(MODALITIES, Blind()), scenes, 1, drawn, "bright")  # type: ignore[arg-type]
    part = judge.part(seen, MODALITIES)
    assert part["figures/radar/bright"] == pytest.approx(np.full(101, 0.2))
    assert part["figures/radar/map50"] == pytest.approx(np.zeros(101))
    assert judge.ceiling(["depth"])["figures/depth/bright"][0] == pytest.approx(0.2)
    assert judge.quality("image", seen["image"])[0] == pytest.approx(0.2)  # it is the headline

    faults = FaultParams(kinds=["noise"], severities=[1.0], scenes=4)
    named = ["clean", *(f"{how}{m}{end}" for how, end in (("without-", ""), ("", "/noise/1.0"))
                        for m in MODALITIES)]  # fmt: skip
    found = {
        f"{name}/{m}" + ("" if key == "bright" else f"/{key}"): np.full(101, 0.2)
        for name in named
        for m in MODALITIES
        for key in under_faults(DETECTED, "bright")
    }
    of = {"a": ("poe", "none")}, {"a": found}, faults, {"a": {}}, "bright"
    assert {row["bright"] for row in fault_table.conditions(*of)} == {0.2}
    (row,) = fault_table.summarise(*of)
    assert [row["clean"], row["faulty_map50"]] == pytest.approx([0.2, 0.2])


def test_a_new_entry_is_in_every_file_and_may_be_the_headline(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DETECTED, BRIGHT.key, BRIGHT)
    monkeypatch.chdir(project)
    for key, value in {"scenes": 8, "samples": 0, "resamples": 100, "headline": "ssim"}.items():
        change(project, f"score.{key}", value)
    change(project, "score.faults", {"kinds": ["noise"], "severities": [1.0], "scenes": 4})
    cells = list(YAML(typ="safe").load(Path("params.yaml").read_text())["grid"]["cells"])
    for name in (*cells, *MODALITIES):
        score.main(ROOT, Run(name, 0))
        if name in cells:
            score_faults.main(Run(name, 0))
    report.main(ROOT)
    told = json.loads(Path("results/scores/poe-ecg-0.json").read_text())
    entry = told["subsets"]["depth+radar"]["image"]
    assert 0 < entry["bright"] < 1
    table = json.loads(Path("results/table3.json").read_text())
    assert table["headline"] == "ssim"
    (row,) = (row for row in table["rows"] if row["cell"] == "poe-ecg")
    assert row["cross_image"] == pytest.approx(entry["ssim"], abs=1e-5)
    assert row["cross_image_paper"] is None  # the paper has mAP@0.5 alone
    (gains,) = (row["metrics"] for row in table["gains"] if row["cell"] == "poe-ecg")
    assert set(gains) == {*DETECTED} - {"ssim"}
    alone = json.loads(Path("results/scores/image-0.json").read_text())["synergy"]["image"]
    gain = told["synergy"]["image"]["bright"] - alone["bright"]
    assert gains["bright"]["image"]["gain"] == pytest.approx(gain, abs=2e-5)
    with open("results/faults.csv", newline="") as file:
        assert {"ssim", "bright", "clean_bright", "map50"} <= set(next(csv.DictReader(file)))
    page = Path("results/report.html").read_text()
    assert '<option value="bright">brightness</option>' in page
    assert f'data-bright="{entry["bright"]:.2f}"' in page
    assert "brightness: mean of the pixels" in page
    assert Path("results/faults.md").read_text().count("SSIM of what is generated") == 1


@pytest.fixture
def project(smoke: Path, tmp_path: Path) -> Path:
    """A copy of the finished smoke run, without git and DVC's cache, that a test may change."""
    ignore = shutil.ignore_patterns(".git", ".dvc", ".cache", ".venv")
    return Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True, ignore=ignore))


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("asked", ["mse", "x"])
def test_a_headline_that_is_none_is_one_line(
    study: str,
    asked: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    of, schema = STUDIES[study], STUDIES[study].part("params").ScoreParams
    assert of.section("score", schema).headline == next(iter(schema.metrics))
    monkeypatch.chdir(tmp_path)
    of.home.mkdir(parents=True, exist_ok=True)
    of.params.write_text(shipped(str(of.params)))
    change(of.home, "score.headline", asked)
    with pytest.raises(SystemExit, match="2"):
        of.section("score", schema)
    (told,) = capsys.readouterr().err.splitlines()
    allowed = [key for key, metric in schema.metrics.items() if metric.higher_is_better]
    assert told.startswith(f"{of.params}: score.headline = '{asked}': must be one of ")
    assert told.endswith(f" {', '.join(allowed)}, of which more is better")


def test_the_reference_has_every_metric() -> None:
    page = shipped("docs/reference/scores.md")
    assert [key for key in DETECTED if f"`{key}`" not in page] == []

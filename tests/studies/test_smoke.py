"""Both studies from an empty disk to their pages, at smoke scale, and what DVC knows of them."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors import safe_open

from models.params import Cell
from pipeline import presets
from pipeline.__main__ import main
from pipeline.running import plan, status, without_dvc
from pipeline.running.params import read_params
from pipeline.stages import report, summary
from studies.cub.paper import TABLE as TABLE2
from studies.mnist_svhn.paper import TABLE as TABLE1
from tests.conftest import OTHERS, ROOT, clone, run, shipped
from tests.pipeline.test_report import browse
from tests.pipeline.test_stages import leaves

YAML_READER = YAML(typ="safe")
STAGES = {
    name: YAML_READER.load((ROOT / f"studies/{name}/dvc.yaml").read_text())["stages"]
    for name in OTHERS
}
# Appended to a page: how much of it is too wide, its pictures, and those of them that are there.
PROBE = """
const page = document.documentElement, pictures = [...document.images];
const loaded = pictures.filter((picture) => picture.complete && picture.naturalWidth);
window.parent.document.body.dataset.probe =
  `${page.scrollWidth - page.clientWidth} ${pictures.length} ${loaded.length}`;
"""
LEAST, MOST = {"mnist_svhn": 0, "cub": -1}, {"mnist_svhn": 100, "cub": 1}  # percent; cosines
HEADLINE = {"mnist_svhn": "accuracy", "cub": "cosine"}
TABLES = {"mnist_svhn": ("table1", TABLE1), "cub": ("table2", TABLE2)}


def split_sizes(study: str, data: Path) -> tuple[int, int]:
    """How many pairs there are in train and in test, by what the study's data stage stored."""
    if study == "cub":
        with np.load(data / "features.npz") as file:
            test, each = file["test"], file["captions"].shape[1]
        return each * int((~test).sum()), each * int(test.sum())
    with np.load(data / "pairs.npz") as file:
        return len(file["train_pairs"]), len(file["test_pairs"])


@pytest.mark.parametrize("study", OTHERS)
def test_every_model_is_trained_scored_and_in_the_table(
    studies_smoke: dict[str, Path], study: str
) -> None:
    folder = studies_smoke[study]
    home, data = folder / f"studies/{study}", folder / f"data/studies/{study}"
    of_train, of_test = split_sizes(study, data)
    assert of_train != of_test  # else the next would not tell one from the other
    for name in ("poe-ecg", *OTHERS[study].modalities):
        with safe_open(data / f"models/{name}-0.safetensors", "np") as file:
            assert all(np.isfinite(file.get_tensor(key)).all() for key in file.keys())  # noqa: SIM118
        score = json.loads((home / f"results/scores/{name}-0.json").read_text())
        assert score["scenes"] == of_test
    name, paper = TABLES[study]
    with open(home / f"results/{name}.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["data"] for row in rows} == {"embedded"}
    assert json.loads((home / f"results/{name}.json").read_text())["data"] == "embedded"
    assert (home / f"results/{name}.md").read_text().startswith("Embedded study (")
    assert [row["cell"] for row in rows] == ["poe-ecg"]  # test_files.py has all eleven
    for row in rows:
        for key, printed in paper[row["fusion"], row["objective"]].items():
            assert float(row[f"{key}_paper"]) == pytest.approx(printed)
        told = json.loads((home / f"results/scores/{row['cell']}-0.json").read_text())["subsets"]
        first, second = OTHERS[study].modalities
        for given, target in ((second, first), (first, second)):
            [figure] = [
                told[given][target][k] for k in ("accuracy", "cosine") if k in told[given][target]
            ]
            assert LEAST[study] <= figure <= MOST[study]
            # One seed, so that the mean is the figure itself, of the direction it names.
            assert float(row[f"cross_{target}"]) == pytest.approx(figure, abs=1e-4)


@pytest.mark.parametrize("study", OTHERS)
def test_the_page_is_self_contained_and_says_whose_data_it_shows(
    studies_smoke: dict[str, Path], study: str
) -> None:
    page = (studies_smoke[study] / f"studies/{study}/results/report.html").read_text()
    assert "This is not the paper" in page
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page.replace("data:image", "")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (375, True)])
@pytest.mark.parametrize("study", OTHERS)
def test_the_page_in_a_browser(
    studies_smoke: dict[str, Path], tmp_path: Path, study: str, width: int, dark: bool
) -> None:
    page = (studies_smoke[study] / f"studies/{study}/results/report.html").read_text()
    probed = tmp_path / "probed.html"
    probed.write_text(page.replace("</body>", f"<script>{PROBE}</script></body>"))
    document, said = browse(probed, tmp_path / "profile", width=width, dark=dark)
    assert said == []
    wide, pictures, loaded = map(int, re.findall(r'data-probe="(-?\d+) (\d+) (\d+)"', document)[0])
    assert wide <= 0
    assert loaded == pictures == page.count("<img ") > 0


@pytest.mark.parametrize("study", OTHERS)
def test_a_second_repro_has_nothing_to_do(studies_smoke: dict[str, Path], study: str) -> None:
    assert (
        "up to date"
        in run(studies_smoke[study], "dvc", "repro", f"studies/{study}/dvc.yaml").stdout
    )


def test_stale_scores_run_side_by_side_and_are_recorded(
    studies_smoke: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(studies_smoke["mnist_svhn"], folder, symlinks=True)
    params = folder / "studies/mnist_svhn/params.yaml"
    text = params.read_text()
    assert "  samples: 200 " in text
    params.write_text(text.replace("  samples: 200 ", "  samples: 100 "))
    command = ("python", "-m", "pipeline", "train", "--study", "mnist_svhn", "--jobs", "3")
    said = run(folder, *command).stdout
    # No score and no training is DVC's to run: they were, beside each other, and are recorded.
    ran = re.findall(r"Running stage '.*:(.+)'", said)
    assert ran == ["check", "report"]
    for name in ("score@poe-ecg-0", "score_unimodal@mnist-0", "score_unimodal@svhn-0"):
        assert (folder / f".cache/logs/{name}.log").is_file()
    status = run(folder, "dvc", "status", "studies/mnist_svhn/dvc.yaml").stdout
    assert "up to date" in status


@pytest.mark.parametrize("name", OTHERS)
def test_a_study_without_dvc_is_known_and_taken_over(
    studies_smoke: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Its record is of entries of the study's dvc.lock, and DVC writes them as they were."""
    study, folder = OTHERS[name], tmp_path / "project"
    shutil.copytree(studies_smoke[name], folder, symlinks=True)
    monkeypatch.chdir(folder)
    assert {entry.state for entry in status.look(study)} == {"done"}
    lock = study.definition.with_suffix(".lock")
    before, params = YAML_READER.load(lock.read_text())["stages"], read_params(study.params)
    entries = {job.name: without_dvc.entry(job, study, params) for job in plan.plan(study)}
    assert len(entries) > 5
    assert entries == {job: before[job] for job in entries}
    record = without_dvc.record_of(study)
    record.write_text(json.dumps({"schema": "2.0", "stages": entries}))
    said = run(folder, "python", "-m", "pipeline", "study", "--study", name).stdout
    assert f"0 stages done. Record: {record}; " in said
    lock.unlink()
    without_dvc.adopt(study, record)
    assert YAML_READER.load(lock.read_text())["stages"] == entries


@pytest.mark.slow
def test_the_roots_repro_leaves_the_studies_alone(tmp_path: Path) -> None:
    plan = run(clone(tmp_path / "project"), "dvc", "repro", "--dry", "--force").stdout
    assert "train_vae" in plan
    assert "studies" not in plan


@pytest.mark.parametrize("study", OTHERS)
def test_every_param_reaches_a_stage(study: str) -> None:
    listed = {
        key.replace("${item.modality}", modality)
        for stage in STAGES[study].values()
        for section in stage.get("params", [])
        for key in section[f"studies/{study}/params.yaml"]
        for modality in OTHERS[study].modalities
    }
    for key in leaves(YAML(typ="safe").load(shipped(f"studies/{study}/params.yaml")), ""):
        parts = key.split(".")
        groups = {".".join(parts[: n + 1]) for n in range(len(parts))}
        assert groups & (listed | {"grid.cells"}), key


PRESETS = [(s, p.stem) for s in OTHERS for p in (ROOT / f"studies/{s}/presets").glob("*.yaml")]


@pytest.mark.slow
@pytest.mark.parametrize(("study", "preset"), PRESETS)
def test_every_preset_makes_valid_params(tmp_path: Path, study: str, preset: str) -> None:
    home = tmp_path / f"studies/{study}"
    home.mkdir(parents=True)
    text = shipped(f"studies/{study}/params.yaml")
    (home / "params.yaml").write_text(text)
    (home / "dvc.yaml").write_text(shipped(f"studies/{study}/dvc.yaml"))
    (tmp_path / "models").symlink_to(ROOT / "models")
    path = {"PYTHONPATH": str(ROOT)}
    run(tmp_path, "python", "-m", "pipeline", "preset", preset, "--study", study, **path)
    run(tmp_path, "python", "-m", "pipeline.stages.check", "--study", study, **path)
    assert (preset == "default") == ((home / "params.yaml").read_text() == text)


@pytest.mark.parametrize("study", OTHERS)
def test_a_preset_leaves_nothing_of_the_one_before(study: str) -> None:
    folder = ROOT / f"studies/{study}/presets"
    text = (ROOT / f"studies/{study}/params.yaml").read_text()
    alone = {name: presets.render(name, text, folder) for name in presets.names(folder)}
    assert {"default", "eleven", "paper", "smoke"} == set(alone)
    for before in alone.values():
        for name, expected in alone.items():
            assert YAML_READER.load(presets.render(name, before, folder)) == (
                YAML_READER.load(expected)
            ), name


@pytest.mark.slow
def test_a_hand_edit_that_no_preset_sets_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "studies/mnist_svhn/params.yaml"
    (tmp_path / "studies/mnist_svhn").mkdir(parents=True)
    (tmp_path / name).write_text(shipped(name))
    monkeypatch.chdir(tmp_path)
    for command in (("init", "-q"), ("add", name), ("-c", "user.name=a", "-c", "user.email=a@b",
                    "commit", "-qm", "params")):  # fmt: skip
        run(tmp_path, "git", *command)
    main(["preset", "paper", "--study", "mnist_svhn"])
    assert "left as you have set them" not in capsys.readouterr().out
    edited = (tmp_path / name).read_text().replace("logit_scale: 16.0", "logit_scale: 8.0")
    (tmp_path / name).write_text(edited)
    main(["preset", "smoke", "--study", "mnist_svhn"])
    assert "left as you have set them: vae.network.logit_scale." in capsys.readouterr().out
    assert "logit_scale: 8.0" in (tmp_path / name).read_text()


@pytest.mark.parametrize("study", OTHERS)
def test_the_paper_preset_has_the_papers_rows_and_setting(study: str) -> None:
    preset = YAML_READER.load((ROOT / f"studies/{study}/presets/paper.yaml").read_text())
    cells = [Cell.model_validate(cell) for cell in preset["grid"]["cells"].values()]
    assert {(c.fusion, c.objective) for c in cells} == set(TABLES[study][1])
    importance, latent, rate = {"mnist_svhn": (30, 20, 1e-3), "cub": (10, 64, 5e-4)}[study]
    assert {c.samples for c in cells if c.objective != "jmvae"} == {importance}
    assert preset["vae"]["latent"] == latent
    assert preset["vae"]["training"]["learning_rate"] == rate
    assert len(preset["grid"]["seeds"]) == 5
    assert preset["grid"]["unimodal"] == {"samples": importance}
    assert preset["vae"]["training"]["schedule"] == "constant"
    if study == "mnist_svhn":
        assert preset["vae"]["network"]["kind"] == "cnn"
        assert preset["data"]["repeats"] == 1  # a pair for each digit: 60,000 and 10,000
    else:
        assert (preset["text"]["size"], preset["features"]["extractor"]) == (300, "resnet101")
        assert preset["cca"] == {"size": 40, "ridge": 0.0}  # the field's k, and next to no ridge
        assert (preset["text"]["recipe"], preset["features"]["normalise"]) == ("field", False)


BAD = [
    ("mnist_svhn", "samples: 5}", "samples: 0}", "grid.cells.moe-none.samples"),
    ("mnist_svhn", "source: embedded", "source: Embedded", "data.source"),
    ("mnist_svhn", "    svhn:", "    sign:", "vae.modalities"),
    ("mnist_svhn", "kl_warmup: 0", "kl_warmup: 9", "kl_warmup"),
    ("cub", "  size: 10 ", "  size: 33 ", "cca.size"),
    ("cub", "test_share: 0.25", "test_share: 1.0", "data.test_share"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("study", "old", "new", "key"), BAD, ids=[key for *_, key in BAD])
def test_bad_params_are_refused_in_one_line_before_any_work(
    tmp_path: Path, study: str, old: str, new: str, key: str
) -> None:
    home = tmp_path / f"studies/{study}"
    home.mkdir(parents=True)
    text = shipped(f"studies/{study}/params.yaml")
    assert old in text
    (home / "params.yaml").write_text(text.replace(old, new, 1))
    (tmp_path / "models").symlink_to(ROOT / "models")  # which options a cell's code reads
    done = run(tmp_path, "python", "-m", "pipeline.stages.check", "--study", study, check=False,
               PYTHONPATH=str(ROOT))  # fmt: skip
    assert done.returncode == 2
    assert key in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("source", ["embedded", "files"])
@pytest.mark.parametrize("study", OTHERS)
def test_every_table_says_which_data_it_was_made_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: str, source: str
) -> None:
    home, data = tmp_path / f"studies/{study}", tmp_path / f"data/studies/{study}"
    params = YAML_READER.load(shipped(f"studies/{study}/params.yaml"))
    params["data"]["source"] = source
    params["grid"] |= {"cells": {"poe-ecg": {"fusion": "poe", "objective": "ecg"}}, "seeds": [0]}
    first, second = OTHERS[study].modalities
    names = [f"{first}/{second}", f"{second}/{first}", f"synergy/{first}", f"synergy/{second}"]
    arrays = {name: np.full(101, 0.5) for name in [*names, f"joint/{first}-{second}"]}
    (data / "bootstrap").mkdir(parents=True)
    for run_name in ("poe-ecg", first, second):
        np.savez(data / f"bootstrap/{run_name}-0.npz", **arrays)
    score = {"scenes": 5}
    model = {"parameters": 7, "steps": 3, "encodes": 2, "decodes": 2}
    files = {f"scores/{run}-0.json": score for run in ("poe-ecg", first, second)}
    files |= {f"models/{run}-0.json": model for run in ("poe-ecg", first, second)}
    files |= {f"classifiers/{m}.json": {"accuracy": 90.0} for m in (first, second)}
    files["truth.json"] = {"train": 0.5, "test": 0.4}
    for name, content in files.items():
        (home / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "results" / name).write_text(json.dumps(content))
    with open(home / "params.yaml", "w") as file:
        YAML_READER.dump(params, file)
    monkeypatch.chdir(tmp_path)
    page_of = importlib.import_module(f"studies.{study}.page")
    if study == "cub":
        none = SimpleNamespace(paths=[], ids=np.zeros((0, 10, 4), np.int32))
        space = SimpleNamespace(language=SimpleNamespace(text=lambda _: []))
        monkeypatch.setattr(page_of, "load", lambda: (space, {"test": none}))
        monkeypatch.setattr(page_of, "strip", lambda _: b"")
        (data / "samples").mkdir(parents=True)
        captions = {"first/text/captions": np.array([], np.str_)}
        np.savez(data / "samples/poe-ecg-0.npz", **captions)
    else:
        monkeypatch.setattr(page_of, "pictures", lambda *_: {})
    report.main(OTHERS[study])
    name, results = TABLES[study][0], home / "results"
    said, empty, *table_lines = (results / f"{name}.md").read_text().splitlines()
    whose = "Embedded study (" if source == "embedded" else "Made on the files of "
    assert said.startswith(whose)
    assert ("not the paper's data" in said) == (source == "embedded")
    assert empty == ""
    assert table_lines[0].startswith("| objective |")
    with open(results / f"{name}.csv") as file:
        assert [row["data"] for row in csv.DictReader(file)] == [source]
    assert json.loads((results / f"{name}.json").read_text())["data"] == source
    page = (results / "report.html").read_text()
    assert whose in page
    assert ("This is not the paper" in page) == (source == "embedded")


@pytest.mark.parametrize("study", OTHERS)
def test_a_study_has_the_summary_of_shapes_3d(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headline from the other modality and from both, and the curves of every run."""
    home, data = tmp_path / f"studies/{study}", tmp_path / f"data/studies/{study}"
    first, second = names = OTHERS[study].modalities
    params = YAML_READER.load(shipped(f"studies/{study}/params.yaml"))
    params["grid"] |= {"cells": {"poe-ecg": {"fusion": "poe", "objective": "ecg"}}, "seeds": [0]}
    of = [{"other": 9.0, HEADLINE[study]: value} for value in (0.1, 0.2, 0.3, 0.4)]
    scores = {
        name: {"modalities": [name], "subsets": {}, "synergy": {name: of[0]}} for name in names
    }
    scores["poe-ecg"] = {
        "modalities": list(names),
        "subsets": {first: {second: of[0]}, second: {first: of[1]}},
        "synergy": {first: of[2], second: of[3]},
    }
    (home / "results/scores").mkdir(parents=True)
    for name, score in scores.items():
        (home / f"results/scores/{name}-0.json").write_text(json.dumps(score))
        logged = data / f"curves/{name}-0/plots/metrics"
        logged.mkdir(parents=True)
        logged.joinpath("validation_loss.tsv").write_text("step\tvalidation_loss\n5\t-2.5\n")
    with open(home / "params.yaml", "w") as file:
        YAML_READER.dump(params, file)
    monkeypatch.chdir(tmp_path)
    summary.main(OTHERS[study])
    assert json.loads((home / "results/metrics/poe-ecg-0.json").read_text()) == {
        "cross": {second: 0.1, first: 0.2},
        "all": {first: 0.3, second: 0.4},
    }
    curves = (home / "results/curves.csv").read_text().splitlines()
    assert curves[:2] == ["run,step,validation_loss", "poe-ecg-0,5,-2.5"]
    assert len(curves) == 4

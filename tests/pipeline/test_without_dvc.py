"""A study without DVC leaves entries of a dvc.lock, which are taken over where they fit."""

from __future__ import annotations

import copy
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.running import plan, stage, without_dvc
from pipeline.study import ROOT as SHAPES
from tests.conftest import clone, run
from tests.pipeline.test_record import another_dvc, locked
from tests.pipeline.test_stages import change
from tests.pipeline.test_team import ran

STUDY = without_dvc.record_of(SHAPES)
WITHOUT = """import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dvc", "dvclive", "bpy"):
            raise ImportError(name + " is not on this machine")
sys.meta_path.insert(0, Block())
"""


def test_a_record_is_an_entry_of_dvcs_lock(smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(smoke)
    lock, params = locked(smoke), stage.read_params()
    for job in plan.plan(SHAPES):
        assert without_dvc.entry(job, SHAPES, params) == lock[job.name]


def test_a_folder_that_stages_fill_is_known_by_what_they_wrote(here: Path) -> None:
    """As `data/detectors`, which is no stage's output, and may be absent where it is adopted."""
    files = ["made/b.x", "made/a/c.x", "made/a.x"]
    for number, name in enumerate(files):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(str(number))
    outs = {name: without_dvc._described(name) for name in files}
    writes = [{"deps": [], "outs": [out]} for out in outs.values()]
    reads = {"deps": [{"path": "made"}, {"path": "params"}], "outs": []}
    written = {out["md5"] for out in outs.values()}
    whole = without_dvc._described("made")["md5"]
    assert without_dvc._written([*writes, reads]) == written | {whole}
    assert without_dvc._written(writes) == written
    assert whole not in without_dvc._written([*writes[:2], reads])


def test_a_second_study_in_a_folder_is_refused(smoke: Path, tmp_path: Path) -> None:
    """Each would write the record without the other's stages."""
    project = Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))
    command = ("python", "-m", "pipeline", "study", "--minutes", "0")
    (project / stage.RUNS).mkdir(parents=True, exist_ok=True)
    with open(project / stage.RUNS / "study.lock", "a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = run(project, *command, check=False)
    assert (second.returncode, second.stderr) == (
        2,
        "study: already running in this folder; wait for it, or stop it first\n",
    )
    assert not (project / STUDY).exists()


@pytest.fixture(scope="module")
def studied(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of a small grid, on a machine without DVC and Blender, broken off and gone on."""
    project = clone(tmp_path_factory.mktemp("study") / "project")
    run(project, "python", "-m", "pipeline", "preset", "smoke")
    for key, value in {
        "grid.cells": {"poe-none": {"fusion": "poe", "objective": "none"}},
        "score.faults.scenes": 5,
        "score.resamples": 100,
        "vae.training.steps": 6,
        "detector.default.epochs": 1,
    }.items():
        change(project, key, value)
    shutil.copytree(smoke / "data/shapes3d", project / "data/shapes3d")
    (project / "without").mkdir()
    (project / "without/sitecustomize.py").write_text(WITHOUT)
    command = [sys.executable, "-m", "pipeline", "study", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(project / "without")}
    hurried = run(project, *command, "--minutes", "0.05", PYTHONPATH=str(project / "without"))
    (left,) = re.findall("^left: (.*)$", hurried.stderr, re.MULTILINE)
    assert "train_detector@image" in left.split(", ")  # in the order in which they stopped
    assert "stages done" in hurried.stdout
    first = subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.PIPE)
    while not (project / STUDY).exists():
        assert first.poll() is None
        time.sleep(0.2)
    first.terminate()
    first.communicate(timeout=60)
    assert first.returncode == 130
    before = json.loads((project / STUDY).read_text())["stages"]
    assert 0 < len(before) < 12
    shown = run(project, *command, PYTHONPATH=str(project / "without"))
    assert f"{12 - len(before)} stages done" in shown.stdout
    return project


def brought_back(studied: Path, smoke: Path, to: Path) -> Path:
    """The project at home: shards of its own, and what is small of the study."""
    home = clone(to)
    shutil.copy(studied / "params.yaml", home / "params.yaml")
    shutil.copytree(smoke / "data/shapes3d", home / "data/shapes3d")
    shutil.copytree(smoke / ".dvc/cache", home / ".dvc/cache")
    shutil.rmtree(home / "results")
    shutil.copytree(studied / "results", home / "results")
    for name in ("samples", "bootstrap", "faults", "curves"):
        shutil.copytree(studied / "data" / name, home / "data" / name)
    shutil.copy(studied / STUDY, home / STUDY)
    run(home, "dvc", "repro", "check", "render")
    return home


DIGEST = "0123456789abcdef" * 2
KNOWN = {
    "cmd": "touch score-a",
    "deps": [{"path": "data/in", "hash": "md5", "md5": DIGEST, "size": 3}],
    "params": {"params.yaml": {"steps": 5}},
    "outs": [{"path": "out-a", "hash": "md5", "md5": DIGEST + ".dir", "size": 3, "nfiles": 1}],
}


@pytest.fixture(scope="module")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project of one stage, which has not run."""
    folder = tmp_path_factory.mktemp("one") / "project"
    folder.mkdir()
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    (folder / "params.yaml").write_text("steps: 5\n")
    score = {
        "matrix": {"cell": ["a"]},
        "cmd": "touch score-${key}",
        "deps": ["data/in"],
        "params": ["steps"],
        "outs": ["out-${key}"],
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"score": score}}))
    (folder / "dvc.lock").write_text("schema: '2.0'\nstages:  # none\n  {}\n")
    return folder


@pytest.fixture
def awaiting(one_stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That project; its lock is to stay as it is."""
    folder = Path(shutil.copytree(one_stage, tmp_path / "project"))
    monkeypatch.chdir(folder)
    return folder


def put(path: str, value: Any) -> dict[str, Any]:
    """The record of a study with one value of another kind, at a dotted path of keys."""
    record = {"schema": "2.0", "stages": {"score@a": copy.deepcopy(KNOWN)}}
    inside: Any = record
    *parents, leaf = [int(key) if key.isdigit() else key for key in path.split("/")]
    for key in parents:
        inside = inside[key]
    inside[leaf] = value
    return record


OUT = "stages/score@a/outs/0"
WRONG = [
    (put("more", 1), 2, "more = 1: unknown key; there are schema, stages"),
    (put("schema", "1.0"), 2, "schema = '1.0': "),
    (put("stages", []), 2, "stages = []: "),
    (put("stages/score@a", None), 2, "stages.score@a = None: "),
    (put("stages/score@a/cmd", 1), 2, "stages.score@a.cmd = 1: "),
    (put("stages/score@a/more", 1), 2, "stages.score@a.more = 1: unknown key; there are cmd, "),
    (put("stages/score@a/params", [1]), 2, "stages.score@a.params = [1]: "),
    (put(f"{OUT}/size", "3"), 2, "stages.score@a.outs.0.size = '3': "),
    (put(f"{OUT}/size", -1), 2, "stages.score@a.outs.0.size = -1: "),
    (put(f"{OUT}/nfiles", True), 2, "stages.score@a.outs.0.nfiles = True: "),
    (put(f"{OUT}/md5", "zz"), 2, "stages.score@a.outs.0.md5 = 'zz': "),
    (put(f"{OUT}/hash", "sha1"), 2, "stages.score@a.outs.0.hash = 'sha1': "),
    (put(f"{OUT}/path", "/etc/x"), 2, "outs.0.path = '/etc/x': must be a path inside the project"),
    (put(f"{OUT}/path", "../x"), 2, "outs.0.path = '../x': must be a path inside the project"),
    (put(f"{OUT}/path", "a/../../x"), 2, "outs.0.path = 'a/../../x': must be a path inside"),
    (put(f"{OUT}/path", "."), 2, "outs.0.path = '.': must be a path inside the project"),
    (put("stages/score@a/outs", KNOWN["outs"] * 2), 1, "score@a: out-a is not of its outs, or tw"),
    (put(f"{OUT}/path", "README.md"), 1, "score@a: README.md is not of its outs"),
    (put("stages/score@a/deps", KNOWN["outs"]), 1, "score@a: out-a is not of its deps"),
    (put("stages/score@a/params/other.yaml", {}), 1, "score@a: params of another file than "),
    (put("stages/score@a/params/params.yaml/more", 1), 1, "score@a: more is not a key that it "),
    (put("stages/other@a", KNOWN), 1, "other@a: not a stage of this pipeline"),
]


@pytest.mark.parametrize(("record", "code", "said"), WRONG, ids=[said for _, _, said in WRONG])
def test_a_record_that_is_none_changes_nothing(
    awaiting: Path,
    record: dict[str, Any],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage.write_json(STUDY, record)
    before = (awaiting / "dvc.lock").read_bytes()
    with pytest.raises(SystemExit) as stop:
        without_dvc.adopt(SHAPES, STUDY)
    assert stop.value.code == code
    assert said in capsys.readouterr().err
    assert (awaiting / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "null", '{"schema": "2.0", "stages": {"a"'])
def test_a_file_that_is_no_record_is_named(
    awaiting: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    STUDY.parent.mkdir()
    STUDY.write_text(content)
    with pytest.raises(SystemExit) as stop:
        without_dvc.adopt(SHAPES, STUDY)
    assert stop.value.code == 2
    assert re.fullmatch(r"data/study\.json: .+\n", capsys.readouterr().err)


@pytest.mark.slow
def test_a_study_is_taken_over_without_its_models(
    studied: Path, smoke: Path, tmp_path: Path
) -> None:
    home = brought_back(studied, smoke, tmp_path / "home")
    shown = run(home, "python", "-m", "pipeline", "adopt")
    assert "12 stages taken over" in shown.stdout
    repro = run(home, "dvc", "repro", "--allow-missing")
    started = {line.split("'")[1] for line in repro.stdout.splitlines() if "Running" in line}
    assert started == {"summary", "report"}
    assert not (home / "data/models").exists()
    assert "poe" in (home / "results/table3.md").read_text()


@pytest.mark.slow
def test_what_a_study_brought_along_is_in_dvcs_cache(
    studied: Path, smoke: Path, tmp_path: Path
) -> None:
    """So that it is not made anew, and comes back when something else lay in its place."""
    home = brought_back(studied, smoke, tmp_path / "home")
    shutil.copytree(studied / "data/detectors", home / "data/detectors")
    before = locked(home)
    with another_dvc(home):
        refused = run(home, "python", "-m", "pipeline", "adopt", check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert locked(home) == before
    run(home, "python", "-m", "pipeline", "adopt")
    assert ran(run(home, "dvc", "repro", "train_detector").stdout) == set()
    brought = ("detectors", "samples", "bootstrap", "faults", "curves")
    for name in brought:
        shutil.rmtree(home / "data" / name)
    (home / "data/detectors").mkdir()
    (home / "data/detectors/image.safetensors").write_bytes(b"of another training")
    run(home, "dvc", "checkout", "--force", "--allow-missing", "dvc.yaml")
    for name in brought:
        for file in (studied / "data" / name).rglob("*.*"):
            assert (home / file.relative_to(studied)).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_a_study_of_other_params_is_refused_by_key(
    studied: Path, smoke: Path, tmp_path: Path
) -> None:
    home = brought_back(studied, smoke, tmp_path / "home")
    change(home, "vae.latent", 48)
    (home / "results/scores/image-0.json").write_text("{}\n")
    before = locked(home)
    refused = run(home, "python", "-m", "pipeline", "adopt", check=False)
    assert refused.returncode == 1
    assert "train_vae@poe-none-0: vae.latent was 32, here it is 48" in refused.stderr
    assert (
        "score_unimodal@image-0: results/scores/image-0.json differs from the study's; "
        "remove it, or bring the study's\n"
    ) in refused.stderr
    assert "train_vae@poe-none-0" not in set(locked(home)) - set(before)
    missing = run(
        home, "python", "-m", "pipeline", "adopt", "--record", "data/none.json", check=False
    )
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)

"""What ran side by side is recorded with DVC, which has nothing left to do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import zc.lockfile
from ruamel.yaml import YAML

from pipeline.running import parallel, record, stage, train, without_dvc
from pipeline.running.plan import Job
from pipeline.study import ROOT as SHAPES
from tests.conftest import run
from tests.pipeline.test_parallel import job
from tests.pipeline.test_stages import change
from tests.pipeline.test_team import ran


def locked(project: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load((project / "dvc.lock").read_text())["stages"])


@pytest.mark.slow
@pytest.mark.usefixtures("heeding")
def test_a_signal_reaches_the_stage_that_dvc_runs_and_not_dvc(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC ends by itself, with what was finished before in its lock."""
    (here / "slow.py").write_text(
        "import time\n"
        "try:\n"
        "    open('on', 'w').close()\n"
        "    time.sleep(60)\n"
        "finally:\n"
        "    open('told', 'w').close()\n"
    )
    stages = {
        "one": {"cmd": "touch out", "outs": ["out"]},
        "two": {"cmd": "python slow.py", "deps": ["out"], "outs": ["told"]},
    }
    run(here, "git", "init", "-q")
    run(here, "dvc", "init", "-q")
    (here / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    sent: list[list[str]] = []
    real = psutil.Process.send_signal

    def send(process: psutil.Process, kind: int) -> None:
        sent.append(process.cmdline())
        real(process, kind)

    def press() -> None:
        while not (here / "on").exists():
            time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    monkeypatch.setattr(psutil.Process, "send_signal", send)
    threading.Thread(target=press, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        record.dvc("repro")
    assert time.monotonic() - began < 50
    assert (here / "told").exists()
    assert set(locked(here)) == {"one"}
    assert sent
    assert all("slow.py" in " ".join(words) for words in sent)


def test_what_was_edited_while_a_stage_ran_is_not_what_made_it(here: Path) -> None:
    one = Job("score@a", "true", (), ("vae.steps", "grid.cells.a"), ())
    began = {"vae": {"steps": 5, "batch": 1}, "grid": {"cells": {"a": {}}}}
    stage.write_json(here / stage.RUNS / "score@a.json", {"seconds": 1.0, "params": began})
    read = (SHAPES.note(one.name) or {})["params"]
    assert without_dvc.entry(one, SHAPES, read)["params"]["params.yaml"]["vae.steps"] == 5
    assert train._edited(one, read, {**began, "vae": {"steps": 5, "batch": 2}}) is None
    assert train._edited(one, read, {**began, "vae": {"steps": 6}}) == "vae.steps"
    assert train._edited(one, read, {**began, "grid": {"cells": {}}}) == "grid.cells.a"


HOLD = """import sys, time
from zc.lockfile import LockFile
lock = LockFile(".dvc/tmp/lock")
print("held", flush=True)
time.sleep(float(sys.argv[1]))
"""


@contextmanager
def another_dvc(folder: Path, seconds: float = 99) -> Iterator[None]:
    """A DVC command at work in the folder."""
    command = [sys.executable, "-c", HOLD, str(seconds)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout
            assert other.stdout.readline() == "held\n"
            yield
        finally:
            other.kill()


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True])
def test_recording_waits_for_another_dvc_command(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stopped: bool
) -> None:
    """As long as it takes; once told to stop, for a bounded time."""
    monkeypatch.setattr(record, "ATTEMPTS", 1)
    monkeypatch.setattr(record, "told", threading.Event())
    run(here, "git", "init", "-q")
    run(here, "dvc", "init", "-q")
    (here / "dvc.yaml").write_text("stages: {one: {cmd: touch out, outs: [out]}}\n")
    (here / "out").touch()
    if stopped:
        record.told.set()
    with another_dvc(here, 99 if stopped else 12):
        why = record.record("one")
    assert capsys.readouterr().err.startswith("one: done; another DVC command must end before ")
    if not stopped:
        assert why is None
        assert set(locked(here)) == {"one"}
    else:
        assert why
        assert "dvc commit one" in why
        assert "lock" in why
        assert not (here / "dvc.lock").exists()


def test_train_runs_what_is_stale_and_leaves_dvc_nothing_to_do(smoke: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))
    wider = {"fusion": "poe", "objective": "none", "beta": 0.5}
    change(project, "grid.cells.poe-none", wider)
    before = (project / "data/models/poe-none-0.safetensors").read_bytes()
    shown = run(project, "python", "-m", "pipeline", "train", "--jobs", "2")
    assert "3 stages done" in shown.stdout  # the training, its scores, its scores with faults
    assert (project / "data/models/poe-none-0.safetensors").read_bytes() != before
    assert ran(shown.stdout) == {"check", "summary", "report"}
    assert json.loads(run(project, "dvc", "status", "--json", "dvc.yaml").stdout) == {}
    again = run(project, "dvc", "repro", "dvc.yaml").stdout
    assert ran(again) == set()
    assert "up to date" in again


DIVERGES = """from dataclasses import replace

from models.fusions import poe


def fuse(experts, options, draws):
    spoiled = replace(experts, mean=experts.mean * float("nan"))
    return poe.fuse(spoiled, poe.Options(), draws)
"""


def test_a_training_that_fails_costs_its_own_cell_alone(smoke: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))
    (project / "models/fusions/bad.py").write_text(DIVERGES)
    change(project, "grid.cells.bad-none", {"fusion": "bad", "objective": "none"})
    change(project, "grid.cells.poe-none", {"fusion": "poe", "objective": "none", "beta": 0.5})
    done = run(project, "python", "-m", "pipeline", "train", "--jobs", "1", check=False)
    assert done.returncode == 1
    (told,) = re.findall(r"^train_vae@bad-none-0 failed: (.*)$", done.stderr, re.MULTILINE)
    assert told.startswith("bad-none-0: step 0: ")
    assert "is not finite; " in told
    assert "left: score@bad-none-0, score_faults@bad-none-0\n" in done.stderr
    assert done.stdout.endswith("3 stages done. To go on: dvc repro\n")
    bad = {f"{stage}@bad-none-0" for stage in ("train_vae", "score", "score_faults")}
    left = json.loads(run(project, "dvc", "status", "--json", "dvc.yaml").stdout)
    assert set(left) == bad | {"summary", "report"}


@pytest.mark.slow
def test_repro_beside_train_is_refused_and_takes_nothing_from_it(
    smoke: Path, tmp_path: Path
) -> None:
    """DVC deletes a stage's outputs, such as curves in the making, before it runs its command."""
    project = Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))
    change(project, "vae.training.steps", 400)
    change(project, "score.faults.scenes", 5)
    curve = project / "data/curves/image-0/plots/metrics/loss.tsv"
    curve.unlink()
    name = "train_unimodal@image-0"
    before = locked(project)[name]
    command = [sys.executable, "-m", "pipeline", "train", "--jobs", "1"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) as train:
        try:
            while not curve.exists():
                assert train.poll() is None
                time.sleep(0.1)
            beside = run(project, "dvc", "repro", name, check=False)
            assert beside.returncode != 0
            assert "is busy" in beside.stderr
            assert f"python -m pipeline train, {name}" in beside.stderr
            assert curve.exists()
            log = project / parallel.LOGS / f"{name}.log"
            while locked(project)[name] == before:
                assert train.poll() is None, log.read_text()
                time.sleep(0.5)
        finally:
            train.terminate()
            train.communicate(timeout=60)
    steps = [int(line.split()[0]) for line in curve.read_text().splitlines()[1:]]
    every = steps[0]
    assert steps == list(range(every, every * len(steps) + 1, every)), "a part of it is lost"
    assert steps[-1] > 400 - every


@pytest.mark.slow
def test_train_leaves_alone_what_another_dvc_command_works_on(here: Path) -> None:
    run(here, "git", "init", "-q")
    run(here, "dvc", "init", "-q")
    jobs = [job("one", "pass"), job("two", "pass", ("one",)), job("other", "pass")]
    busy = {"write": {str(here / "one"): {"pid": os.getpid(), "cmd": "dvc repro one"}}}
    (here / ".dvc/tmp/rwlock").write_text(json.dumps(busy))
    outcome = parallel.run(jobs, 1, lambda *_: None, held=record.reserved)
    assert (outcome.done, outcome.left) == (["other"], ["two"])
    assert "is busy" in outcome.failed["one"]
    assert "dvc repro one" in outcome.failed["one"]
    assert json.loads((here / ".dvc/tmp/rwlock").read_text())["write"].keys() == {str(here / "one")}


@pytest.mark.slow
def test_an_interrupted_train_stops_what_runs_and_says_what_is_kept(
    smoke: Path, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))
    change(project, "vae.training.steps", 100_000)
    log = project / parallel.LOGS / "train_unimodal@image-0.log"
    command = [sys.executable, "-m", "pipeline", "train", "--jobs", "1"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) as train:
        while not (log.exists() and " steps, " in log.read_text()):
            assert train.poll() is None
            time.sleep(0.2)
        train.terminate()
        _, told = train.communicate(timeout=60)
    assert train.returncode == 130
    assert "told to stop, and waited for: train_unimodal@image-0\n" in told
    assert "train: interrupted; what is finished is kept" in told
    assert "interrupted; the checkpoint in" in log.read_text()


@pytest.mark.slow
def test_a_stage_is_reserved_until_it_is_recorded(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or `dvc repro` could delete what has just been made."""
    run(here, "git", "init", "-q")
    run(here, "dvc", "init", "-q")
    (here / "dvc.yaml").write_text("stages: {one: {cmd: touch out, outs: [out]}}\n")
    (here / "out").touch()
    one, busy = Job("one", "touch out", (), (), ("out",)), []
    with contextlib.ExitStack() as stack:
        stack.enter_context(record.reserved(one))

        def release() -> None:
            # Nobody else comes in between: DVC's own lock is held by now.
            with pytest.raises(zc.lockfile.LockError):
                zc.lockfile.LockFile(str(here / ".dvc/tmp/lock"))
            busy.append(json.loads((here / ".dvc/tmp/rwlock").read_text())["write"])
            stack.close()

        assert record.record(one.name, release) is None
    assert [list(held) for held in busy] == [[str(here / "out")]]
    assert set(locked(here)) == {"one"}

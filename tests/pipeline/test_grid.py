"""Stages side by side: the plan is DVC's own, records are a dvc.lock's, failures stay apart."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import copy
import fcntl
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
from distributed import LocalCluster
from dvc.repo import Repo
from ruamel.yaml import YAML

from pipeline.running import grid, stage
from pipeline.running.grid import Job
from scenegen.dataset import MODALITIES
from scenegen.executors import available_cores, dask_executor
from tests.conftest import ROOT, clone, run
from tests.pipeline.test_stages import change
from tests.pipeline.test_team import ran

WITHOUT = """import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("dvc", "dvclive", "bpy"):
            raise ImportError(name + " is not on this machine")
sys.meta_path.insert(0, Block())
"""


def locked(project: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load((project / "dvc.lock").read_text())["stages"])


def test_the_plan_is_what_dvc_makes_of_its_file(
    smoke: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(smoke)
    with Repo() as repo:
        stages = {s.addressing: s for s in repo.index.stages if s.path_in_repo == "dvc.yaml"}
    jobs = {job.name: job for job in grid.plan()}
    assert set(jobs) == {n for n in stages if n.startswith(("train_", "score"))}
    assert len(jobs) == 18
    for name, job in jobs.items():
        assert job.command == stages[name].cmd
        assert set(job.outs) == {out.def_path for out in stages[name].outs}
        files = {dep.def_path for dep in stages[name].deps if dep.def_path != "params.yaml"}
        assert set(job.deps) == files


def test_a_record_is_an_entry_of_dvcs_lock(smoke: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(smoke)
    lock, params = locked(smoke), stage.read_params()
    for job in grid.plan():
        assert grid.entry(job, params) == lock[job.name]


def test_the_plan_makes_row_after_row() -> None:
    """Detectors, then seed by seed what its cells share, then cell by cell with its scores."""
    params = stage.read_params()
    params["grid"]["seeds"] = [0, 1]
    names = [job.name for job in grid.plan(params=params)]
    assert [name.split("@")[0] for name in names[:3]] == ["train_detector"] * 3
    shared = ["train_unimodal"] * 3 + ["score_unimodal"] * 3
    row = ["train_vae", "score", "score_faults"]
    cells = list(params["grid"]["cells"])
    assert [name.split("@")[0] for name in names[3:]] == (shared + row * len(cells)) * 2
    of_seed = names[9 : 9 + 3 * len(cells)]
    assert of_seed == [f"{kind}@{cell}-0" for cell in cells for kind in row]


# --- running -----------------------------------------------------------------------------------


def job(name: str, code: str, needs: tuple[str, ...] = ()) -> Job:
    """A stage that runs Python code and writes the file of its name."""
    command = f"python -c \"import sys, time, pathlib; {code}; pathlib.Path('{name}').touch()\""
    return Job(name, command, needs, (), (name,))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def heeding() -> Iterator[None]:
    """Every signal to stop is a KeyboardInterrupt, also where a background's shell ignores it."""
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in grid.STOPS}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


def test_a_failure_costs_what_needs_it_and_nothing_else(here: Path) -> None:
    jobs = [
        job("score", "pass", ("bad",)),
        job("bad", "print('loading'); sys.exit('out of tea')"),
        job("good", "pass"),
        job("report", "pass", ("score",)),
        job("late", "assert pathlib.Path('good').exists()", ("good",)),
    ]
    finished: list[str] = []
    outcome = grid.run(jobs, 2, lambda one: finished.append(one.name))
    assert outcome.failed == {"bad": "out of tea"}
    assert sorted(outcome.left) == ["report", "score"]
    assert sorted(outcome.done) == sorted(finished) == ["good", "late"]
    assert "loading" in (here / grid.LOGS / "bad.log").read_text()


@pytest.mark.parametrize("slots", [1, 3])
def test_no_more_run_at_once_than_there_are_slots(here: Path, slots: int) -> None:
    code = (
        "running = pathlib.Path('running-{0}'); running.touch(); time.sleep(0.5);"
        "print(len(list(pathlib.Path().glob('running-*')))); running.unlink()"
    )
    jobs = [job(name, code.format(name)) for name in "abcdef"]
    assert len(grid.run(jobs, slots, lambda one: None).done) == 6
    most = max(int((here / grid.LOGS / f"{name}.log").read_text()) for name in "abcdef")
    assert most == slots


@pytest.mark.parametrize(
    ("jobs", "slots", "share"), [(2, 1, 1), (2, 2, 2), (1, 2, 1), (2, 10**6, 2), (40, 10**6, 40)]
)
def test_side_by_side_they_share_the_cores(
    here: Path, jobs: int, slots: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word from the user, whose own OMP_NUM_THREADS is left as it is."""
    code = "import os; print(os.environ['OMP_NUM_THREADS'])"
    few = [job(f"job-{number}", code) for number in range(jobs)]
    log = here / grid.LOGS / "job-0.log"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    grid.run(few, slots, lambda one: None)
    assert int(log.read_text()) == max(len(available_cores()) // share, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    grid.run(few[:1], slots, lambda one: None)
    assert int(log.read_text()) == 7


def test_a_time_limit_interrupts_and_names_what_is_left(here: Path) -> None:
    handled = "import signal; signal.signal(15, signal.default_int_handler); time.sleep(60)"
    jobs = [job("quick", "pass"), job("slow", handled), job("never", "pass", ("slow",))]
    started = time.monotonic()
    outcome = grid.run(jobs, 2, lambda one: None, seconds=10)
    assert time.monotonic() - started < 40
    assert (outcome.done, outcome.failed) == (["quick"], {})
    assert outcome.left == ["slow", "never"]
    assert "KeyboardInterrupt" in (here / grid.LOGS / "slow.log").read_text()


@pytest.mark.usefixtures("heeding")
@pytest.mark.parametrize("kind", grid.STOPS)
def test_interrupted_it_records_what_has_ended_and_stops_the_rest(
    here: Path, kind: signal.Signals
) -> None:
    handled = (
        "import signal; signal.signal(15, signal.default_int_handler); print('on', flush=True)"
    )
    jobs = [job("one", "pass"), job("two", "pass"), job("slow", f"{handled}; time.sleep(60)")]
    log = here / grid.LOGS / "slow.log"
    recorded: list[str] = []

    def finished(one: Job) -> None:
        recorded.append(one.name)
        if len(recorded) == 1:  # the signal comes while this one is recorded and another has ended
            while not (Path("one").exists() and Path("two").exists() and "on" in log.read_text()):
                time.sleep(0.1)
            time.sleep(0.5)
            signal.raise_signal(kind)

    with pytest.raises(KeyboardInterrupt):
        grid.run(jobs, 3, finished)
    assert signal.getsignal(kind) is signal.default_int_handler
    assert sorted(recorded) == ["one", "two"]
    assert "KeyboardInterrupt" in log.read_text()
    assert not list((here / grid.LOGS).glob("*.wanted"))


CLOSED = """
import fcntl, sys, termios
from pathlib import Path
from pipeline.running import grid

fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # its terminal, whose end it hears of
code = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); "
code += "open('on', 'w').close(); time.sleep(3); open('out', 'w').close()"
job = grid.Job("one", f'python -c "{code}"', (), (), ("out",))
print("begins")
grid.run([job], 1, lambda one: Path("recorded").touch())
"""


def test_where_the_terminal_was_closed_what_ends_is_recorded(here: Path) -> None:
    """To write to it is an error then, and there is much to write: bars and last words."""
    mine, its = os.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", CLOSED],
        cwd=here,
        env=environment,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    while not (here / "on").exists():
        assert process.poll() is None
        time.sleep(0.1)
    os.close(mine)
    process.wait(30)
    assert (here / "out").exists()
    assert (here / "recorded").exists()


@pytest.mark.usefixtures("heeding")
def test_interrupted_it_names_what_had_failed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def finished(one: Job) -> str:
        signal.raise_signal(signal.SIGTERM)
        return "finished, but not recorded"

    with pytest.raises(KeyboardInterrupt):
        grid.run([job("bad", "sys.exit('no tea')"), job("one", "pass")], 1, finished)
    told = capsys.readouterr().err
    assert "bad failed: no tea" in told
    assert "one failed: finished, but not recorded" in told
    assert "told to stop" not in told


def test_a_cluster_that_is_lost_costs_what_it_ran(here: Path) -> None:
    class Lost(cf.ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> cf.Future[Any]:  # type: ignore[override]
            future: cf.Future[Any] = cf.Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    jobs = [job("one", "pass"), job("two", "pass", ("one",))]
    outcome = grid.run(jobs, 1, lambda one: None, executor=Lost())
    assert outcome.failed == {"one": "the cluster is lost"}
    assert outcome.left == ["two"]


def test_a_job_that_was_killed_says_so(here: Path) -> None:
    """The last line of its log is of its progress."""
    code = "import os; print('400/3600', flush=True); os.kill(os.getpid(), {})"
    jobs = [job("one", code.format(9)), job("two", code.format(11))]
    outcome = grid.run(jobs, 2, lambda one: None)
    killed = {"one": "killed by SIGKILL (out of memory?)", "two": "killed by SIGSEGV"}
    assert outcome.failed == killed


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
        grid._dvc("repro")
    assert time.monotonic() - began < 50
    assert (here / "told").exists()
    assert set(locked(here)) == {"one"}
    assert sent
    assert all("slow.py" in " ".join(words) for words in sent)


ORPHAN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pipeline.running import stage
with stage.running("one", lambda: "all is kept"):
    Path("on").touch()
    time.sleep(60)
Path("out").touch()
"""
BEGINS = """
import sys
from pipeline.running import grid
jobs = [grid.Job("one", f"python orphan.py {sys.argv[1]}", (), (), ("out",))]
grid.run(jobs, 1, lambda one: None)
"""


@pytest.mark.slow
def test_a_stage_ends_with_a_command_that_was_killed(here: Path) -> None:
    """Or whoever goes on would begin it beside itself."""
    (here / "params.yaml").write_text("a: 1\n")
    (here / "orphan.py").write_text(ORPHAN)
    command = [sys.executable, "-c", BEGINS, str(ROOT)]
    process = subprocess.Popen(command, cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not (here / "on").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    log = here / grid.LOGS / "one.log"
    deadline = time.monotonic() + 40
    while "all is kept" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_was_edited_while_a_stage_ran_is_not_what_made_it(here: Path) -> None:
    one = Job("score@a", "true", (), ("vae.steps", "grid.cells.a"), ())
    began = {"vae": {"steps": 5, "batch": 1}, "grid": {"cells": {"a": {}}}}
    stage.write_json(here / stage.RUNS / "score@a.json", {"seconds": 1.0, "params": began})
    read = grid._ran_with(one)
    assert grid.entry(one, read or {})["params"]["params.yaml"]["vae.steps"] == 5
    assert grid._edited(one, read, {**began, "vae": {"steps": 5, "batch": 2}}) is None
    assert grid._edited(one, read, {**began, "vae": {"steps": 6}}) == "vae.steps"
    assert grid._edited(one, read, {**began, "grid": {"cells": {}}}) == "grid.cells.a"
    assert grid._edited(one, None, {}) is None  # not known of a command that is no stage


def test_a_stage_that_cannot_be_recorded_counts_as_failed(here: Path) -> None:
    jobs = [job("one", "pass"), job("two", "pass", ("one",)), job("other", "pass")]
    outcome = grid.run(jobs, 1, lambda one: "no room" if one.name == "one" else None)
    assert outcome.failed == {"one": "no room"}
    assert (outcome.done, outcome.left) == (["other"], ["two"])


def test_jobs_go_to_a_dask_cluster(here: Path) -> None:
    jobs = [
        job("one", "import os; time.sleep(1); print(os.getppid())"),
        job("two", "import os; time.sleep(1); print(os.getppid())"),
        job("bad", "sys.exit('out of tea')"),
        job("after", "assert pathlib.Path('one').exists()", ("one",)),
    ]
    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        executor, disconnect = dask_executor(cluster.scheduler_address)
        outcome = grid.run(jobs, 2, lambda one: None, executor=executor)
        disconnect()
    assert sorted(outcome.done) == ["after", "one", "two"]
    assert outcome.failed == {"bad": "out of tea"}
    ran_by = [int((here / grid.LOGS / f"{name}.log").read_text()) for name in ("one", "two")]
    assert os.getpid() not in ran_by


@pytest.mark.slow
@pytest.mark.usefixtures("heeding")
def test_interrupted_it_stops_a_cluster_and_names_what_does_not(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(grid, "PATIENCE", 8.0)
    handler = "import signal; signal.signal(15, signal.{}); print('on', flush=True); "
    endless = "[time.sleep(1) for _ in range(40)]"
    jobs = [
        job("heeds", handler.format("default_int_handler") + endless),
        job("deaf", handler.format("SIG_IGN") + endless),
    ]
    logs = {one.name: here / grid.LOGS / f"{one.name}.log" for one in jobs}

    def press() -> None:
        while not all(log.exists() and "on" in log.read_text() for log in logs.values()):
            time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        executor, disconnect = dask_executor(cluster.scheduler_address)
        threading.Thread(target=press).start()
        with pytest.raises(KeyboardInterrupt):
            grid.run(jobs, 2, lambda one: None, executor=executor)
        disconnect()
    assert "KeyboardInterrupt" in logs["heeds"].read_text()
    assert "\nmay still run on the cluster: deaf\n" in capsys.readouterr().err
    assert not list((here / grid.LOGS).glob("*.wanted"))


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
    monkeypatch.setattr(grid, "ATTEMPTS", 1)
    monkeypatch.setattr(grid, "_stop", threading.Event())
    run(here, "git", "init", "-q")
    run(here, "dvc", "init", "-q")
    (here / "dvc.yaml").write_text("stages: {one: {cmd: touch out, outs: [out]}}\n")
    (here / "out").touch()
    if stopped:
        grid._stop.set()
    with another_dvc(here, 99 if stopped else 12):
        why = grid._record("one")
    assert capsys.readouterr().err.startswith("one: done; another DVC command must end before ")
    if not stopped:
        assert why is None
        assert set(locked(here)) == {"one"}
    else:
        assert why
        assert "dvc commit one" in why
        assert "lock" in why
        assert not (here / "dvc.lock").exists()


# --- the whole, on real stages -----------------------------------------------------------------


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
            log = project / grid.LOGS / f"{name}.log"
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
    outcome = grid.run(jobs, 1, lambda one: None, held=grid._reserved)
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
    log = project / grid.LOGS / "train_unimodal@image-0.log"
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
        stack.enter_context(grid._reserved(one))

        def release() -> None:
            # Nobody else comes in between: DVC's own lock is held by now.
            with pytest.raises(zc.lockfile.LockError):
                zc.lockfile.LockFile(str(here / ".dvc/tmp/lock"))
            busy.append(json.loads((here / ".dvc/tmp/rwlock").read_text())["write"])
            stack.close()

        assert grid._record(one.name, release) is None
    assert [list(held) for held in busy] == [[str(here / "out")]]
    assert set(locked(here)) == {"one"}


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
    assert not (project / grid.STUDY).exists()


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
    }.items():
        change(project, key, value)
    for modality in MODALITIES:
        change(project, f"detector.{modality}.epochs", 1)
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
    while not (project / grid.STUDY).exists():
        assert first.poll() is None
        time.sleep(0.2)
    first.terminate()
    first.communicate(timeout=60)
    assert first.returncode == 130
    before = json.loads((project / grid.STUDY).read_text())["stages"]
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
    shutil.copy(studied / grid.STUDY, home / grid.STUDY)
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
    stage.write_json(grid.STUDY, record)
    before = (awaiting / "dvc.lock").read_bytes()
    with pytest.raises(SystemExit) as stop:
        grid.adopt()
    assert stop.value.code == code
    assert said in capsys.readouterr().err
    assert (awaiting / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", "null", '{"schema": "2.0", "stages": {"a"'])
def test_a_file_that_is_no_record_is_named(
    awaiting: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grid.STUDY.parent.mkdir()
    grid.STUDY.write_text(content)
    with pytest.raises(SystemExit) as stop:
        grid.adopt()
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

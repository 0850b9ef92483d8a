"""Stages side by side: the plan is DVC's own, and failures stay apart."""

from __future__ import annotations

import concurrent.futures as cf
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster
from dvc.repo import Repo

from pipeline.running import parallel, plan, stage
from pipeline.running.patience import STOPS
from pipeline.running.plan import Job
from pipeline.study import ROOT as SHAPES
from scenegen.executors import available_cores, dask_executor
from tests.conftest import ROOT


def test_the_plan_is_what_dvc_makes_of_its_file(
    smoke: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(smoke)
    with Repo() as repo:
        stages = {s.addressing: s for s in repo.index.stages if s.path_in_repo == "dvc.yaml"}
    jobs = {job.name: job for job in plan.plan(SHAPES)}
    assert set(jobs) == {n for n in stages if n.startswith(("train_", "score"))}
    assert len(jobs) == 18
    for name, job in jobs.items():
        assert job.command == stages[name].cmd
        assert set(job.outs) == {out.def_path for out in stages[name].outs}
        files = {dep.def_path for dep in stages[name].deps if dep.def_path != "params.yaml"}
        assert set(job.deps) == files


def test_the_plan_makes_row_after_row() -> None:
    """Detectors, then seed by seed what its cells share, then cell by cell with its scores."""
    params = stage.read_params()
    params["grid"]["seeds"] = [0, 1]
    names = [job.name for job in plan.plan(SHAPES, params)]
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


def test_a_failure_costs_what_needs_it_and_nothing_else(here: Path) -> None:
    jobs = [
        job("score", "pass", ("bad",)),
        job("bad", "print('loading'); sys.exit('out of tea')"),
        job("good", "pass"),
        job("report", "pass", ("score",)),
        job("late", "assert pathlib.Path('good').exists()", ("good",)),
    ]
    finished: list[str] = []
    outcome = parallel.run(jobs, 2, lambda one, _: finished.append(one.name))
    assert outcome.failed == {"bad": "out of tea"}
    assert sorted(outcome.left) == ["report", "score"]
    assert sorted(outcome.done) == sorted(finished) == ["good", "late"]
    assert "loading" in (here / parallel.LOGS / "bad.log").read_text()


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.slow
def test_no_more_run_at_once_than_there_are_slots(here: Path, slots: int) -> None:
    code = (
        "running = pathlib.Path('running-{0}'); running.touch(); time.sleep(0.5);"
        "print(len(list(pathlib.Path().glob('running-*')))); running.unlink()"
    )
    jobs = [job(name, code.format(name)) for name in "abcdef"]
    assert len(parallel.run(jobs, slots, lambda *_: None).done) == 6
    most = max(int((here / parallel.LOGS / f"{name}.log").read_text()) for name in "abcdef")
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
    log = here / parallel.LOGS / "job-0.log"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    parallel.run(few, slots, lambda *_: None)
    assert int(log.read_text()) == max(len(available_cores()) // share, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    parallel.run(few[:1], slots, lambda *_: None)
    assert int(log.read_text()) == 7


@pytest.mark.slow
def test_a_time_limit_interrupts_and_names_what_is_left(here: Path) -> None:
    handled = "import signal; signal.signal(15, signal.default_int_handler); time.sleep(60)"
    jobs = [job("quick", "pass"), job("slow", handled), job("never", "pass", ("slow",))]
    started = time.monotonic()
    outcome = parallel.run(jobs, 2, lambda *_: None, seconds=10)
    assert time.monotonic() - started < 40
    assert (outcome.done, outcome.failed) == (["quick"], {})
    assert outcome.left == ["slow", "never"]
    assert "KeyboardInterrupt" in (here / parallel.LOGS / "slow.log").read_text()


@pytest.mark.usefixtures("heeding")
@pytest.mark.parametrize("kind", STOPS)
def test_interrupted_it_records_what_has_ended_and_stops_the_rest(
    here: Path, kind: signal.Signals
) -> None:
    handled = (
        "import signal; signal.signal(15, signal.default_int_handler); print('on', flush=True)"
    )
    jobs = [job("one", "pass"), job("two", "pass"), job("slow", f"{handled}; time.sleep(60)")]
    log = here / parallel.LOGS / "slow.log"
    recorded: list[str] = []

    def finished(one: Job, _: object) -> None:
        recorded.append(one.name)
        if len(recorded) == 1:  # the signal comes while this one is recorded and another has ended
            while not (Path("one").exists() and Path("two").exists() and "on" in log.read_text()):
                time.sleep(0.1)
            time.sleep(0.5)
            signal.raise_signal(kind)

    with pytest.raises(KeyboardInterrupt):
        parallel.run(jobs, 3, finished)
    assert signal.getsignal(kind) is signal.default_int_handler
    assert sorted(recorded) == ["one", "two"]
    assert "KeyboardInterrupt" in log.read_text()
    assert not list((here / parallel.LOGS).glob("*.wanted"))


CLOSED = """
import fcntl, sys, termios
from pathlib import Path
from pipeline.running import parallel, plan

fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # its terminal, whose end it hears of
code = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); "
code += "open('on', 'w').close(); time.sleep(3); open('out', 'w').close()"
job = plan.Job("one", f'python -c "{code}"', (), (), ("out",))
print("begins")
parallel.run([job], 1, lambda *_: Path("recorded").touch())
"""


@pytest.mark.slow
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
    def finished(one: Job, _: object) -> str:
        signal.raise_signal(signal.SIGTERM)
        return "finished, but not recorded"

    with pytest.raises(KeyboardInterrupt):
        parallel.run([job("bad", "sys.exit('no tea')"), job("one", "pass")], 1, finished)
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
    outcome = parallel.run(jobs, 1, lambda *_: None, executor=Lost())
    assert outcome.failed == {"one": "the cluster is lost"}
    assert outcome.left == ["two"]


def test_a_job_that_was_killed_says_so(here: Path) -> None:
    """The last line of its log is of its progress."""
    code = "import os; print('400/3600', flush=True); os.kill(os.getpid(), {})"
    jobs = [job("one", code.format(9)), job("two", code.format(11))]
    outcome = parallel.run(jobs, 2, lambda *_: None)
    killed = {"one": "killed by SIGKILL (out of memory?)", "two": "killed by SIGSEGV"}
    assert outcome.failed == killed


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
from pipeline.running import parallel, plan
jobs = [plan.Job("one", f"python orphan.py {sys.argv[1]}", (), (), ("out",))]
parallel.run(jobs, 1, lambda *_: None)
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
    log = here / parallel.LOGS / "one.log"
    deadline = time.monotonic() + 40
    while "all is kept" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_stage_that_cannot_be_recorded_counts_as_failed(here: Path) -> None:
    jobs = [job("one", "pass"), job("two", "pass", ("one",)), job("other", "pass")]
    outcome = parallel.run(jobs, 1, lambda one, _: "no room" if one.name == "one" else None)
    assert outcome.failed == {"one": "no room"}
    assert (outcome.done, outcome.left) == (["other"], ["two"])


@pytest.mark.slow
def test_jobs_go_to_a_dask_cluster(here: Path) -> None:
    jobs = [
        job("one", "import os; time.sleep(1); print(os.getppid())"),
        job("two", "import os; time.sleep(1); print(os.getppid())"),
        job("bad", "sys.exit('out of tea')"),
        job("after", "assert pathlib.Path('one').exists()", ("one",)),
    ]
    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        executor, disconnect = dask_executor(cluster.scheduler_address)
        outcome = parallel.run(jobs, 2, lambda *_: None, executor=executor)
        disconnect()
    assert sorted(outcome.done) == ["after", "one", "two"]
    assert outcome.failed == {"bad": "out of tea"}
    ran_by = [int((here / parallel.LOGS / f"{name}.log").read_text()) for name in ("one", "two")]
    assert os.getpid() not in ran_by


@pytest.mark.slow
@pytest.mark.usefixtures("heeding")
def test_interrupted_it_stops_a_cluster_and_names_what_does_not(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parallel, "PATIENCE", 8.0)
    handler = "import signal; signal.signal(15, signal.{}); print('on', flush=True); "
    endless = "[time.sleep(1) for _ in range(40)]"
    jobs = [
        job("heeds", handler.format("default_int_handler") + endless),
        job("deaf", handler.format("SIG_IGN") + endless),
    ]
    logs = {one.name: here / parallel.LOGS / f"{one.name}.log" for one in jobs}

    def press() -> None:
        while not all(log.exists() and "on" in log.read_text() for log in logs.values()):
            time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        executor, disconnect = dask_executor(cluster.scheduler_address)
        threading.Thread(target=press).start()
        with pytest.raises(KeyboardInterrupt):
            parallel.run(jobs, 2, lambda *_: None, executor=executor)
        disconnect()
    assert "KeyboardInterrupt" in logs["heeds"].read_text()
    assert "\nmay still run on the cluster: deaf\n" in capsys.readouterr().err
    assert not list((here / parallel.LOGS).glob("*.wanted"))

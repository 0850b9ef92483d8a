"""Ctrl-C in real stages at smoke scale: what is kept is said, and the next run goes on."""

from __future__ import annotations

import errno
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
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from safetensors.numpy import load

from base.process import SIGNALS, listen
from pipeline.running import stage, status
from pipeline.running.patience import patient
from pipeline.study import ROOT as SHAPES
from scenegen.manifest import read_manifest
from tests.conftest import ROOT, run
from tests.pipeline.test_stages import change


@pytest.fixture
def project(smoke: Path, tmp_path: Path) -> Path:
    """A copy of the finished smoke run that a test may change."""
    return Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    """Start a command as a terminal does: a group of its own, which Ctrl-C reaches as a whole."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "WORKERS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Where the tests run in the background of a shell, SIGINT is ignored, and inherited so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def interrupt_when(process: subprocess.Popen[str], ready: Callable[[], bool], kind: int) -> str:
    """Send the signal to the whole group once `ready`; what it printed until it ended."""
    deadline = time.monotonic() + 240
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, kind)
    return process.communicate(timeout=60)[0]


def scenes_done(project: Path) -> int:
    try:
        return sum(shard.count for shard in read_manifest(project / "data/shapes3d").shards)
    except ValueError:
        return 0


@pytest.mark.parametrize(
    "command", ["dvc repro render", "python -m pipeline.stages.render", "python -m pipeline render"]
)
def test_an_interrupted_render_keeps_its_shards_and_goes_on(project: Path, command: str) -> None:
    change(project, "scenes.count", 2400)
    shutil.rmtree(project / "data/shapes3d")
    rendering = start(project, *command.split())
    shown = interrupt_when(rendering, lambda: scenes_done(project) >= 60, signal.SIGINT)
    kept = scenes_done(project)
    assert rendering.returncode != 0
    assert 60 <= kept < 2400
    assert f"render: interrupted; {kept} of 2400 scenes are kept in data/shapes3d" in shown
    assert "To go on: dvc repro" in shown
    assert "Traceback" not in shown
    times = {p: p.stat().st_mtime_ns for p in (project / "data/shapes3d").glob("*.npy")}
    total = max(240, kept + 60)
    change(project, "scenes.count", total)
    run(project, "dvc", "repro", "render", WORKERS="1")
    assert scenes_done(project) == total
    # A shard that was whole was not rendered again.
    whole = [p for p in times if p.stat().st_mtime_ns == times[p]]
    assert len(whole) == len(times)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_goes_on_from_its_checkpoint(project: Path, kind: int) -> None:
    change(project, "vae.training.steps", 2000)
    change(project, "vae.training.checkpoint_every", 10)
    folder = project / ".cache/checkpoints/poe-none-0"
    shutil.rmtree(folder, ignore_errors=True)

    def step() -> int:
        for file in folder.glob("*/*.checkpoint"):
            return int(json.loads(load(file.read_bytes()[32:])["about"].tobytes())["step"])
        return 0

    training = start(project, "python", "-m", "pipeline.stages.train_vae", "poe-none-0")
    shown = interrupt_when(training, lambda: step() >= 30, kind)
    assert training.returncode == 130
    assert "train_vae@poe-none-0: interrupted; the checkpoint in" in shown
    assert "To go on: dvc repro" in shown
    assert "Traceback" not in shown
    reached = step()
    curve = project / "data/curves/poe-none-0/plots/metrics/loss.tsv"
    curve.unlink()
    again = start(project, "python", "-m", "pipeline.stages.train_vae", "poe-none-0")
    interrupt_when(again, lambda: curve.exists() and not time.sleep(0.2), signal.SIGINT)
    # A resumed training writes its checkpoint's rows at once; a new one has but its first by now.
    steps = [int(line.split()[0]) for line in curve.read_text().splitlines()[1:]]
    assert max(steps) >= reached


def test_an_interrupted_detector_says_what_is_kept(project: Path) -> None:
    change(project, "detector.radar.epochs", 60)
    folder = project / ".cache/checkpoints/detector-radar"
    shutil.rmtree(folder, ignore_errors=True)
    training = start(project, "python", "-m", "pipeline.stages.train_detector", "radar")
    shown = interrupt_when(training, lambda: any(folder.glob("*/*.checkpoint")), signal.SIGINT)
    assert training.returncode == 130
    assert "train_detector@radar: interrupted; the checkpoint in" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("command", "name", "kept"),
    [
        ("score moe-none-0", "score@moe-none-0", stage.PARTS_KEPT),
        ("score_faults moe-none-0", "score_faults@moe-none-0", stage.PARTS_KEPT),
        ("report", "report", "all that it shows is kept"),
    ],
)
def test_an_interrupted_score_or_report_says_what_is_kept(
    project: Path, command: str, name: str, kept: str
) -> None:
    lock = project / f".cache/runs/{name}.lock"
    lock.unlink(missing_ok=True)
    change(project, "score.samples", 100_000)
    scoring = start(project, "python", "-m", *f"pipeline.stages.{command}".split())
    shown = interrupt_when(scoring, lock.exists, signal.SIGINT)
    assert scoring.returncode == 130
    assert f"{name}: interrupted; {kept}" in shown
    assert "To go on: dvc repro" in shown
    assert "Traceback" not in shown


def test_an_interrupted_score_goes_on_from_its_parts(project: Path) -> None:
    """Those that are finished are not made again; none is left half written."""
    expected = (project / "results/scores/moe-none-0.json").read_bytes()
    parts = project / ".cache/checkpoints/score-moe-none-0"
    command = ("python", "-m", "pipeline.stages.score", "moe-none-0")
    scoring = start(project, *command)
    shown = interrupt_when(scoring, lambda: any(parts.rglob("*.checkpoint")), signal.SIGINT)
    assert scoring.returncode == 130
    assert f"score@moe-none-0: interrupted; {stage.PARTS_KEPT}" in shown
    assert "Traceback" not in shown
    kept = len(list(parts.rglob("*.checkpoint")))
    again = run(project, *command).stdout
    assert re.search(rf"score-moe-none-0: {kept} of \d+ parts were finished before", again)
    assert (project / "results/scores/moe-none-0.json").read_bytes() == expected
    assert not parts.exists()


@pytest.mark.parametrize(
    ("command", "reads", "made", "said"),
    [
        (
            "pipeline.stages.summary",
            "results/scores/poe-none-0.json",
            "results/metrics",
            "summary: interrupted; the scores are kept. Finished stages are kept. "
            "To go on: dvc repro\n",
        ),
        (
            "pipeline.stages.check",
            "params.yaml",
            "data/checked",
            "pipeline.stages.check: interrupted as it started; nothing is lost, "
            "and the same command goes on\n",
        ),
    ],
    ids=["summary", "check"],
)
def test_a_quick_stage_interrupted_says_what_is_kept(
    project: Path, command: str, reads: str, made: str, said: str
) -> None:
    """It takes a second; a pipe in the place of a file that it reads lets it wait there."""
    file = project / reads
    content, before = file.read_bytes(), contents(project / made)
    file.unlink()
    os.mkfifo(file)
    stopped = start(project, "python", "-m", command)
    ends: list[int] = []

    def waits() -> bool:
        with suppress(OSError):  # until somebody reads
            ends.append(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        return bool(ends)

    shown = interrupt_when(stopped, waits, signal.SIGINT)
    os.close(ends[0])
    assert (stopped.returncode, shown) == (130, said)
    file.unlink()
    file.write_bytes(content)
    shutil.rmtree(project / made, ignore_errors=True)  # as DVC does before it runs a command
    run(project, "python", "-m", command)
    assert contents(project / made) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "command",
    [
        "pipeline.stages.train_vae poe-none-0",
        "pipeline.stages.train_detector radar",
        "pipeline.stages.score moe-none-0",
        "pipeline.stages.score_faults moe-none-0",
        "pipeline.stages.train_vae mnist-0 --study mnist_svhn",
        "pipeline.stages.score image-0 --study cub",
    ],
)
def test_a_stage_interrupted_as_it_starts_says_so(command: str, kind: int) -> None:
    """Its imports take seconds; torch is the first of them."""
    starting = start(ROOT, "python", "-m", *command.split())
    maps = Path(f"/proc/{starting.pid}/maps")
    shown = interrupt_when(starting, lambda: "libtorch_cpu" in maps.read_text(), kind)
    assert starting.returncode == 130
    assert shown == (
        f"{command}: interrupted as it started; nothing is lost, and the same command goes on\n"
    )


def test_what_is_ignored_stays_ignored() -> None:
    """As in the background of a shell, whose Ctrl-C is meant for another."""
    before = {kind: signal.getsignal(kind) for kind in SIGNALS}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        listen()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def test_a_signal_waits_until_a_stage_is_recorded() -> None:
    """DVC writes its lock in place: stopped halfway, it would leave half."""
    before = {kind: signal.getsignal(kind) for kind in SIGNALS}
    try:
        listen()
        mine = signal.getsignal(signal.SIGTERM)
        written = []

        def record() -> None:
            with patient():
                signal.raise_signal(signal.SIGTERM)
                written.append("all of it")

        with pytest.raises(KeyboardInterrupt):
            record()
        assert written == ["all of it"]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


@pytest.mark.slow
def test_an_interruption_that_comes_as_another_error_is_one(lock: Path) -> None:
    """As in torch, while it reads a safetensors file: "could not determine the shape of object"."""
    code = """
import signal, torch
from pipeline.running import stage

class Stored:
    def __len__(self):
        return 1

    def __getitem__(self, index):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

with stage.running("render", lambda: "all is kept"):
    torch.asarray(Stored(), dtype=torch.uint8)
"""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = run(lock.parents[2], sys.executable, "-c", code, check=False, PYTHONPATH=path)
    assert done.returncode == 130
    assert done.stderr == (
        "render: interrupted; all is kept. Finished stages are kept. To go on: dvc repro\n"
    )


@pytest.mark.parametrize("command", ["train_vae poe-none-0", "score poe-none-0"])
def test_a_missing_shard_is_one_line(project: Path, command: str) -> None:
    shard = next((project / "data/shapes3d").glob("*.npy"))
    shard.unlink()
    done = run(project, "python", "-m", *f"pipeline.stages.{command}".split(), check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"{shard.relative_to(project)} is missing; render anew. "
        "To have it: `dvc repro render`, or `dvc pull dvc.yaml`"
    )


def test_two_runs_in_one_folder_leave_one_whole_result(project: Path) -> None:
    """The second is told who holds the place; the first ends as if it had been alone."""
    expected = (project / "data/shapes3d/manifest.json").read_bytes()
    shutil.rmtree(project / "data/shapes3d")
    lock = project / ".cache/runs/render.lock"
    lock.unlink(missing_ok=True)
    first = start(project, "dvc", "repro", "--force", "--single-item", "render")
    while not lock.exists():
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.05)
    beside = run(project, "python", "-m", "pipeline.stages.render", check=False)
    second = run(project, "dvc", "repro", "render", check=False)
    shown = first.communicate(timeout=240)[0]
    assert first.returncode == 0, shown
    assert beside.returncode == 2
    assert beside.stderr.strip() == (
        "render: already running in this folder; wait for it, or stop it first"
    )
    assert second.returncode != 0
    assert re.search(r"is busy|Unable to acquire lock", second.stderr)
    assert (project / "data/shapes3d/manifest.json").read_bytes() == expected
    assert "up to date" in run(project, "dvc", "status", "dvc.yaml").stdout


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The lock file of a render in a new folder; `running` may set this process's signals."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    stage.RUNS.mkdir(parents=True)
    yield stage.RUNS / "render.lock"
    signal.signal(signal.SIGTERM, before)


def test_a_stage_starts_while_somebody_looks(lock: Path) -> None:
    with open(lock, "a") as look, open(lock) as second_look:
        fcntl.flock(look, fcntl.LOCK_SH)  # as `status` does
        threading.Timer(0.3, fcntl.flock, (look, fcntl.LOCK_UN)).start()
        began = time.monotonic()
        with stage.running("render", lambda: ""):
            assert time.monotonic() - began >= 0.25
            with pytest.raises(BlockingIOError):
                fcntl.flock(second_look, fcntl.LOCK_SH | fcntl.LOCK_NB)
    record = json.loads(lock.with_suffix(".json").read_text())
    assert 0 <= record["seconds"] < 60
    assert record["params"] == stage.read_params()


@pytest.mark.parametrize("kind", SIGNALS)
def test_a_signal_after_the_work_is_done_makes_no_failure_of_it(lock: Path, kind: int) -> None:
    """DVC records what ends well; a finished training would be repeated."""
    code = f"""
import os, signal
from pipeline.running import stage

class Library:
    def __del__(self, kill=os.kill, pid=os.getpid()):
        kill(pid, {int(kind)})

library = Library()
signal.signal(signal.SIGINT, signal.default_int_handler)
with stage.running("render", lambda: "all is kept"):
    pass
"""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = run(lock.parents[2], sys.executable, "-c", code, check=False, PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")


def test_seconds_add_up_over_interruptions(lock: Path) -> None:
    """Or `status` would take a resumed run's last part for all of it."""

    def once(end: type[BaseException] | None = None) -> None:
        with stage.running("render", lambda: ""):
            time.sleep(0.2)
            if end:
                raise end

    for _ in range(2):
        with pytest.raises(SystemExit):
            once(KeyboardInterrupt)
    once()
    assert json.loads(lock.with_suffix(".json").read_text())["seconds"] >= 0.6
    once()  # a whole run: it went on from none
    assert json.loads(lock.with_suffix(".json").read_text())["seconds"] < 0.6
    with pytest.raises(SystemExit):
        once(KeyboardInterrupt)
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("seed: 0", "seed: 1", 1))
    once()
    assert json.loads(lock.with_suffix(".json").read_text())["seconds"] < 0.6


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_a_note_that_finds_no_room_costs_no_stage(
    error: type[BaseException] | None,
    lock: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A training of hours has written its model: that it took hours is not worth its failure."""
    note = lock.with_suffix(".part.json" if error else ".json")
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"seconds": 1, "params": {"of": "another run"}}))

    def full(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(stage, "write_bytes", full)
    ended = pytest.raises(SystemExit) if error else nullcontext()
    with ended as stop, stage.running("render", lambda: "all is kept"):
        if error:
            raise error
    told = f"render: {note}: No space left on device; how long it took"
    first, *more = capsys.readouterr().err.splitlines()
    assert first == f"{told} is not noted"
    assert not note.exists()
    assert (stop.value.code, len(more)) == (130, 1) if error else not more


def test_a_folder_for_a_note_goes(lock: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = lock.with_suffix(".part.json")
    (part / "deep").mkdir(parents=True)
    with stage.running("render", lambda: ""):
        assert not part.exists()
    assert "damaged, deleted" in capsys.readouterr().err


def test_a_file_for_the_folder_of_notes_is_one_line(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(lock.parent, ignore_errors=True)
    lock.parent.parent.mkdir(exist_ok=True)
    lock.parent.write_text("")
    with pytest.raises(SystemExit, match="2"), stage.running("render", lambda: "all is kept"):
        pass
    (told,) = capsys.readouterr().err.splitlines()
    assert "Not a directory; all is kept" in told


def test_a_stage_that_runs_on_refuses_another(
    lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(lock, "a") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        with pytest.raises(SystemExit) as stop, stage.running("render", lambda: ""):
            pass
    assert stop.value.code == 2
    assert "already running in this folder" in capsys.readouterr().err
    assert not lock.with_suffix(".json").exists()


def test_status_sees_what_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    change(project, "vae.training.steps", 4000)
    curve = project / "data/curves/poe-none-0/plots/metrics/loss.tsv"
    curve.unlink()
    training = start(project, "python", "-m", "pipeline.stages.train_vae", "poe-none-0")
    found: list[status.Entry] = []

    def seen() -> bool:
        found[:] = [e for e in status.look(SHAPES) if e.name == "train_vae@poe-none-0"]
        return found[0].state == "running" and "step" in found[0].note

    interrupt_when(training, seen, signal.SIGINT)
    assert re.fullmatch(r"step \d+ of 4000", found[0].note)
    assert found[0].seconds is not None
    assert found[0].seconds > 0

"""The dataset folder: the same bytes whatever happens, and one line when it cannot be."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scenegen import executors
from scenegen.dataset import open_dataset
from scenegen.executors import ATTEMPTS, Job, RenderError, available_cores
from scenegen.generate import SCHEDULER_VARIABLE, render_dataset
from scenegen.manifest import MANIFEST, fingerprint, read_manifest
from scenegen.params import SceneParams
from scenegen.worker import render_scenes
from tests.conftest import ROOT
from tests.scenegen.conftest import tiny

pytestmark = pytest.mark.slow


def _render(params: SceneParams, folder: Path, **options: Any) -> str:
    """Render in this process unless the test names workers or an executor; returns the hash."""
    options = options or {"executor": _Inline()}
    return render_dataset(params, folder, progress=False, **options).sha256


def _files(folder: Path) -> dict[str, float]:
    return {p.name: p.stat().st_mtime_ns for p in folder.glob("shard-*.npy")}


class _Inline(cf.Executor):
    """Runs a job when it is submitted, and lets a test decide what happens to it."""

    def __init__(self, before: Callable[[int], None] = lambda first: None) -> None:
        self.before = before
        self.jobs: list[int] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
        future: cf.Future[Any] = cf.Future()
        self.jobs.append(args[1])
        try:
            self.before(args[1])
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def test_two_workers_give_the_bytes_of_one(tmp_path: Path, tiny_hash: str) -> None:
    assert _render(tiny(), tmp_path, workers=2) == tiny_hash
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        MANIFEST,
        *(f"shard-0000{i}.npy" for i in range(4)),
    ]


def test_the_datasets_hash_is_that_of_the_shards_hashes(tmp_path: Path, tiny_hash: str) -> None:
    """By `sha256sum`'s own arithmetic, which a reader of the manifest can repeat."""
    assert _render(tiny(), tmp_path) == tiny_hash
    each = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(tmp_path.glob("shard-*"))]
    assert hashlib.sha256("".join(each).encode()).hexdigest() == tiny_hash


def test_a_shard_is_of_all_params_but_the_count_of_its_blender_and_of_the_code() -> None:
    of = [
        (tiny(), "5.0.1", "code"),
        (tiny(seed=1), "5.0.1", "code"),
        (tiny(depth={"far": 13.0}), "5.0.1", "code"),
        (tiny(), "4.5.0", "code"),
        (tiny(), "5.0.1", "other code"),
    ]
    assert len({fingerprint(*one) for one in of}) == len(of)
    assert fingerprint(tiny(count=9), *of[0][1:]) == fingerprint(*of[0])


def test_order_of_scenes_does_not_matter() -> None:
    _, whole = render_scenes(tiny(), 0, 6)
    for k in (5, 0, 3):
        assert render_scenes(tiny(), k, 1)[1].tobytes() == whole[k : k + 1].tobytes()


def test_sigkill_at_random_moments(tmp_path: Path, tiny_hash: str) -> None:
    """Five runs, killed with all their workers from start-up to the middle of writing."""
    chance = random.Random(3)
    settings = tmp_path / "params.json"
    settings.write_text(tiny().model_dump_json())
    folder = tmp_path / "data"
    command = [sys.executable, "-m", "scenegen", "render", str(folder), "--workers", "1"]
    for _ in range(5):
        run = subprocess.Popen(
            [*command, "--params", str(settings)], start_new_session=True, stderr=subprocess.DEVNULL
        )
        try:
            run.wait(timeout=chance.uniform(1.0, 5.0))
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    assert _render(tiny(), folder) == tiny_hash
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]


def test_what_a_killed_run_left_is_used_and_cleared(tmp_path: Path, tiny_hash: str) -> None:
    def die_at_third_shard(first: int) -> None:
        if first == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _render(tiny(), tmp_path, executor=_Inline(die_at_third_shard), workers=1)
    (tmp_path / ".shard-00009.npy.partial").write_bytes(b"half a shard")
    executor = _Inline()
    kept = len(_files(tmp_path))
    assert _render(tiny(), tmp_path, executor=executor) == tiny_hash
    assert len(executor.jobs) == 4 - kept
    assert not (tmp_path / ".shard-00009.npy.partial").exists()


def test_growing_keeps_finished_shards(tmp_path: Path, tiny_hash: str) -> None:
    _render(tiny(count=5), tmp_path)
    before = _files(tmp_path)
    executor = _Inline()
    assert _render(tiny(), tmp_path, executor=executor) == tiny_hash
    after = _files(tmp_path)
    assert {n: after[n] for n in ("shard-00000.npy", "shard-00001.npy")} == {
        n: before[n] for n in ("shard-00000.npy", "shard-00001.npy")
    }
    assert executor.jobs == [5, 6]  # the half shard keeps scene 4


def test_shrinking_gives_the_smaller_dataset(tmp_path: Path) -> None:
    fresh = _render(tiny(count=5), tmp_path / "fresh")
    _render(tiny(), tmp_path / "shrunk")
    executor = _Inline()
    assert _render(tiny(count=5), tmp_path / "shrunk", executor=executor) == fresh
    assert executor.jobs == []


def test_shards_of_other_params_or_blender_are_rendered_anew(
    tmp_path: Path, tiny_hash: str
) -> None:
    _render(tiny(seed=1), tmp_path)
    assert _render(tiny(), tmp_path) == tiny_hash
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["shards"][1]["fingerprint"] = "0" * 64  # of another Blender
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    executor = _Inline()
    assert _render(tiny(), tmp_path, executor=executor) == tiny_hash
    assert executor.jobs == [2]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_truncate, _alter, Path.unlink])
def test_a_damaged_shard_is_named_and_rendered_anew(
    tmp_path: Path, tiny_hash: str, damage: Callable[[Path], None]
) -> None:
    _render(tiny(), tmp_path)
    damage(tmp_path / "shard-00002.npy")
    with pytest.raises(ValueError, match=r"shard-00002\.npy is (truncated|missing)"):
        open_dataset(tmp_path)
    executor = _Inline()
    assert _render(tiny(), tmp_path, executor=executor) == tiny_hash
    assert executor.jobs == [4]


def test_a_full_disk_ends_in_one_line(tmp_path: Path, tiny_hash: str) -> None:
    folder = tmp_path / "data"
    big = tiny(shard_size=4, count=4, image={"width": 96, "height": 96, "samples": 1})
    whole = tmp_path / "whole"
    grown = big.model_copy(update={"count": 8})
    expected = _render(grown, whole)
    _render(big, folder)
    before = _files(folder)
    settings = tmp_path / "params.json"
    settings.write_text(grown.model_dump_json())
    limit = "ulimit -f 64; exec "  # kibibytes; a shard of these has 220
    words = (sys.executable, "-m", "scenegen", "render", folder, "--params", settings)
    command = limit + shlex.join(map(str, words))
    run = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=100
    )
    assert run.returncode == 2
    last = run.stderr.splitlines()[-1]
    assert "no room to write" in last
    assert "Traceback" not in run.stderr
    assert _files(folder) == before
    open_finished = read_manifest(folder)
    assert not open_finished.complete
    with pytest.raises(ValueError, match="unfinished: 4 of 8 scenes"):
        open_dataset(folder)
    assert _render(grown, folder) == expected
    assert _files(folder)["shard-00000.npy"] == before["shard-00000.npy"]


def test_a_killed_worker_costs_a_retry(tmp_path: Path, tiny_hash: str) -> None:
    """SIGKILL to a real pool's worker while it works, as soon as the first shard is there."""
    killed: list[Any] = []

    def kill_one() -> None:
        while not (tmp_path / "shard-00000.npy").exists():
            if done.wait(0.01):
                return
        victims = multiprocessing.active_children()
        killed.extend(victims[:1])
        for victim in killed:
            os.kill(victim.pid or 0, signal.SIGKILL)

    done = threading.Event()
    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        slow = tiny(image={"width": 24, "height": 24, "samples": 64})
        disturbed = _render(slow, tmp_path, workers=2)
    finally:
        done.set()
        killer.join()
    assert killed
    assert _render(slow, tmp_path / "quiet") == disturbed


def test_a_shard_that_fails_three_times_is_reported(tmp_path: Path) -> None:
    def fail(first: int) -> None:
        if first == 4:
            raise RuntimeError("Blender fell over")

    executor = _Inline(fail)
    with pytest.raises(RenderError, match="scenes 4 to 5 failed 3 times: Blender fell over"):
        _render(tiny(), tmp_path, executor=executor)
    assert executor.jobs.count(4) == ATTEMPTS
    assert sorted(_files(tmp_path)) == [f"shard-0000{i}.npy" for i in (0, 1, 3)]


def test_workers_that_always_die_end_the_run(tmp_path: Path) -> None:
    """A pool whose every worker is killed is rebuilt a few times, then the scenes are named."""
    done = threading.Event()

    def kill_all() -> None:
        while not done.wait(0.2):
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(RenderError, match="scenes 0 to 1 failed 3 times"):
            _render(tiny(count=2), tmp_path, workers=1)
    finally:
        done.set()
        killer.join()


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import multiprocessing, sys; from scenegen.executors import local_pool\n"
        "if __name__ == '__main__':\n"
        "    pool = local_pool(1); pool.submit(int).result()\n"
        "    print(multiprocessing.active_children()[0].pid, flush=True); sys.stdin.read()\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not _alive(worker):
            return
        threading.Event().wait(0.1)
    pytest.fail("the worker outlived its parent by ten seconds")


def _alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has collected does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    def second(first: int) -> None:
        with pytest.raises(RenderError, match="another run"):
            _render(tiny(), tmp_path, executor=_Inline())

    _render(tiny(count=2), tmp_path, executor=_Inline(second))


def test_no_process_left_is_not_another_run(tmp_path: Path) -> None:
    class Full(_Inline):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
            raise BlockingIOError(errno.EAGAIN, "fork: try again")

    with pytest.raises(BlockingIOError, match="fork"):
        _render(tiny(count=2), tmp_path, executor=Full())


@pytest.mark.parametrize(
    ("other", "said"),
    [({"blender": "4.2.0"}, r"Blender 4\.2\.0"), ({"code": "0" * 64}, "other code")],
)
def test_a_worker_of_another_blender_or_code_is_refused(
    tmp_path: Path, other: dict[str, str], said: str
) -> None:
    class Foreign(_Inline):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
            future: cf.Future[Any] = cf.Future()
            made_by, records = fn(*args)
            future.set_result((made_by._replace(**other), records))
            return future

    with pytest.raises(RenderError, match=said):
        _render(tiny(count=2), tmp_path, executor=Foreign())
    assert not _files(tmp_path)


RENDER = """
import sys
from pathlib import Path
from scenegen.generate import render_dataset
from scenegen.params import SceneParams

params = SceneParams.model_validate_json(sys.argv[1])
print(render_dataset(params, Path("data"), workers=1, progress=False).sha256)
"""


def _project(folder: Path) -> Path:
    """A copy of the generator whose code a test may change."""
    for room in ("base", "scenegen"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _rendered(project: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Render in a new process with the project's code, as it is now, into its folder `data`."""
    asked = tiny(**settings).model_dump_json()
    return subprocess.run(
        [sys.executable, "-c", RENDER, asked],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_a_shard_of_other_classes_is_rendered_anew(tmp_path: Path) -> None:
    """`params.py` holds what a label counts in: it decides records like any other code."""
    project = _project(tmp_path)
    assert _rendered(project, count=4, shard_size=4).returncode == 0
    before = np.load(project / "data/shard-00000.npy")
    old, new = ("cube", "cylinder", "sphere", "capsule"), ("sphere", "cube", "cylinder", "capsule")
    for name in ("CLASSES: tuple[ShapeName, ...] = ", "ShapeName = Literal"):
        brackets = "()" if name.startswith("CLASSES") else "[]"
        one, two = (
            f"{name}{brackets[0]}{', '.join(f'{chr(34)}{c}{chr(34)}' for c in order)}{brackets[1]}"
            for order in (old, new)
        )
        _edit(project / "scenegen/params.py", one, two)
    kinds = list(old)  # the params name them in the old order: the same scenes, other labels
    assert _rendered(project, count=8, shard_size=4, objects={"classes": kinds}).returncode == 0
    after = np.load(project / "data/shard-00000.npy")
    there = before["label"] >= 0
    assert [old[i] for i in before["label"][there]] == [new[i] for i in after["label"][there]]


def test_a_comment_in_the_generator_keeps_its_shards(tmp_path: Path) -> None:
    project = _project(tmp_path)
    first = _rendered(project, count=2)
    times = {path: path.stat().st_mtime_ns for path in project.glob("data/*.npy")}
    _edit(project / "scenegen/sensors/radar.py", "SPLIT = 4", "SPLIT = 4  # points along each side")
    assert _rendered(project, count=2).stdout == first.stdout
    assert times == {path: path.stat().st_mtime_ns for path in project.glob("data/*.npy")}
    _edit(project / "scenegen/sensors/radar.py", "np.rint(255.0 *", "np.rint(128.0 *")
    assert _rendered(project, count=2).stdout != first.stdout


@pytest.mark.parametrize("address", ["not-an-address:::", "tls://127.0.0.1:9"])  # no certificate
def test_no_scheduler_is_one_line(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SCHEDULER_VARIABLE, address)
    with pytest.raises(RenderError, match=r"^no Dask scheduler answers at .*: [^\n]+$"):
        _render(tiny(), tmp_path, workers=1)


def _cancelled() -> cf.Future[Any]:
    future: cf.Future[Any] = cf.Future()
    future.cancel()
    future.set_running_or_notify_cancel()
    return future


def test_a_lost_cluster_is_one_line_and_keeps_what_is_rendered(tmp_path: Path) -> None:
    """A Dask cluster that is lost cancels what it was to run."""

    class Lost(_Inline):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> cf.Future[Any]:
            return super().submit(fn, *args) if args[1] == 2 else _cancelled()

    with pytest.raises(RenderError, match=r"the cluster is lost, with scenes \d to \d"):
        _render(tiny(), tmp_path, executor=Lost(), workers=4)
    assert list(_files(tmp_path)) == ["shard-00001.npy"]


def test_a_broken_executor_may_have_cancelled_the_rest() -> None:
    runner = executors._Runner(tiny(), [], 1, _Inline())
    runner._running[_cancelled()] = Job(0, 2)
    with pytest.raises(RenderError, match="the executor broke"):
        runner._rebuild()


@contextlib.contextmanager
def _cluster(folder: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A real scheduler and worker processes on this machine: its address, and the workers."""
    address, program = folder / "scheduler.json", [sys.executable, "-m"]
    common = ["--scheduler-file", str(address), "--no-dashboard"]
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    worker = ["distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny"]
    worker += ["--local-directory", str(folder / "dask")]
    running = [
        subprocess.Popen(
            [*program, *one, *common], cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for one in (scheduler, *[worker] * workers)
    ]  # fmt: skip
    try:
        while not address.exists():
            threading.Event().wait(0.1)
        yield json.loads(address.read_text())["address"], running[1:]
    finally:
        for process in running:
            process.kill()
            process.wait()
    shutil.rmtree(folder / "dask", ignore_errors=True)


def test_dask_cluster_that_loses_a_worker(tmp_path: Path, tiny_hash: str) -> None:
    """One of two is killed in the middle."""
    folder, settings = tmp_path / "data", tmp_path / "params.json"
    settings.write_text(tiny().model_dump_json())
    command = [sys.executable, "-m", "scenegen", "render", str(folder), "--params", str(settings)]
    with _cluster(tmp_path, 2) as (where, workers):
        run = subprocess.Popen([*command, "--scheduler", where], stderr=subprocess.PIPE)
        while run.poll() is None and not list(folder.glob("shard-*.npy")):
            threading.Event().wait(0.02)
        workers[0].kill()
        assert run.wait(timeout=120) == 0, run.stderr and run.stderr.read()
    assert read_manifest(folder).sha256 == tiny_hash


def test_a_worker_with_older_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has loaded what the files said when it began; its scenes are not those of the new code."""
    project = _project(tmp_path)
    with _cluster(project, 1) as (where, _):
        monkeypatch.setenv(SCHEDULER_VARIABLE, where)
        assert _rendered(project, count=2).returncode == 0
        _edit(project / "scenegen/sensors/radar.py", "SPLIT = 4", "SPLIT = 3")
        refused = _rendered(project, count=2)
    assert refused.returncode
    assert "a worker has loaded other code" in refused.stderr
    assert not read_manifest(project / "data").shards
    monkeypatch.delenv(SCHEDULER_VARIABLE)
    assert _rendered(project, count=2).returncode == 0


@pytest.mark.parametrize(
    ("content", "cores"),
    [("200000 100000", 2), ("210000 100000", 3), ("1000 100000", 1), ("max 100000", 4), (None, 4)],
)
def test_no_more_cores_than_the_quota_pays_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {7, 5, 3, 1}, raising=False)
    monkeypatch.setattr(executors, "CPU_MAX", tmp_path / "cpu.max")
    if content is not None:
        (tmp_path / "cpu.max").write_text(f"{content}\n")
    assert available_cores() == [1, 3, 5, 7][:cores]


def test_numpy_alone_reads_a_shard(tmp_path: Path) -> None:
    _render(tiny(count=2), tmp_path)
    scenes = np.load(tmp_path / "shard-00000.npy", mmap_mode="r")
    assert scenes["scene"].tolist() == [0, 1]
    assert scenes["image"].shape == (2, 24, 24, 3)

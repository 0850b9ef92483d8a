"""Shards through `concurrent.futures`: retries, dead workers, a local pool or a Dask cluster."""

from __future__ import annotations

import collections
import concurrent.futures as cf
import math
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scenegen.params import SceneParams
from scenegen.worker import Maker, render_scenes, start_worker

__all__ = [
    "ATTEMPTS",
    "Job",
    "RenderError",
    "available_cores",
    "dask_executor",
    "local_pool",
    "render_jobs",
]

ATTEMPTS = 3
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # cgroup v2: a container finds its own there


class RenderError(RuntimeError):
    """Scenes that could not be rendered, by number."""


class Job(NamedTuple):
    """Scenes `first` to `first + scenes - 1`, to be rendered by one worker."""

    first: int
    scenes: int

    def __str__(self) -> str:
        return f"scenes {self.first} to {self.first + self.scenes - 1}"


def available_cores() -> list[int]:
    """The cores that this process may use, no more of them than its CPU quota pays for."""
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
    else:
        cores = list(range(os.cpu_count() or 1))
    return cores[: _quota()]


def _quota() -> int | None:
    """How many cores the quota of this process pays for, rounded up; None if it has no quota."""
    try:
        quota, period = CPU_MAX.read_text(encoding="utf-8").split()
    except OSError:
        return None
    return None if quota == "max" else max(math.ceil(int(quota) / int(period)), 1)


def local_pool(workers: int) -> cf.Executor:
    """One-threaded Blender processes, each on a core of its own when there are enough."""
    context = multiprocessing.get_context("spawn")  # a forked Blender would share its state
    cores, queue = available_cores(), None
    if workers <= len(cores):
        queue = context.Queue()
        for core in cores[:workers]:
            queue.put(core)
    return cf.ProcessPoolExecutor(
        workers, mp_context=context, initializer=start_worker, initargs=(queue,)
    )


def dask_executor(address: str) -> tuple[cf.Executor, Callable[[], None]]:
    """The executor of the Dask cluster at `address`, and a function that disconnects from it.

    Raises:
        RenderError: nothing answers there.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=10)
    # TypeError: tls:// without a certificate. AssertionError: its thread did not begin in time.
    except (OSError, ValueError, TypeError, AssertionError) as error:
        told = " ".join(str(error).split()) or type(error).__name__  # a timeout says nothing
        raise RenderError(f"no Dask scheduler answers at {address}: {told}") from None
    # Each call is a job of its own, never a cached result; a task may outlive lost workers.
    return client.get_executor(pure=False, retries=ATTEMPTS - 1), client.close


def render_jobs(
    params: SceneParams, jobs: list[Job], workers: int, executor: cf.Executor | None = None
) -> Generator[tuple[Job, Maker, NDArray[np.void]], None, None]:
    """Yield (job, what made them, records) as they finish, in any order.

    A failed job is tried again, three times in all. When a worker process dies, a local pool is
    built anew and the jobs that were under way run one by one, so that the guilty one is found.

    Raises:
        RenderError: after all other jobs are done, the scenes that failed and why; or at once
            when an executor of the caller's has broken, or its cluster is lost.
    """
    runner = _Runner(params, jobs, workers, executor)
    try:
        yield from runner.results()
    except BaseException:  # Ctrl-C too: what is under way is lost, so do not wait for it
        runner.stop()
        raise
    finally:
        runner.close()
    if runner.failed:
        raise RenderError(
            "; ".join(f"{job} failed {ATTEMPTS} times: {e}" for job, e in runner.failed)
        )


class _Runner:
    def __init__(
        self, params: SceneParams, jobs: list[Job], workers: int, executor: cf.Executor | None
    ) -> None:
        self._params, self._workers = params, workers
        self._own = executor is None
        self._executor = executor or local_pool(workers)
        self._waiting = collections.deque(jobs)
        self._suspects: collections.deque[Job] = collections.deque()
        self._running: dict[cf.Future[Any], Job] = {}
        self._attempts: collections.Counter[Job] = collections.Counter()
        self.failed: list[tuple[Job, BaseException]] = []

    def results(self) -> Iterator[tuple[Job, Maker, NDArray[np.void]]]:
        self._submit()
        while self._running:
            done, _ = cf.wait(self._running, return_when=cf.FIRST_COMPLETED)
            broken = False
            for future in sorted(done, key=cf.Future.cancelled):  # what is rendered is kept first
                job = self._running.pop(future)
                if future.cancelled():  # by a cluster that is lost, which would run nothing again
                    raise RenderError(f"the cluster is lost, with {job} under way; run again")
                error = future.exception()
                if error is None:
                    yield job, *future.result()
                else:
                    broken |= isinstance(error, cf.BrokenExecutor)
                    self._retry(job, error)
            if broken:
                self._rebuild()
            self._submit()

    def _submit(self) -> None:
        """Keep the workers busy with one job waiting each; a suspect runs alone."""
        if self._suspects:
            if not self._running:
                self._start(self._suspects.popleft())
            return
        while self._waiting and len(self._running) < 2 * self._workers:
            self._start(self._waiting.popleft())

    def _start(self, job: Job) -> None:
        future = self._executor.submit(render_scenes, self._params, job.first, job.scenes)
        self._running[future] = job

    def _retry(self, job: Job, error: BaseException) -> None:
        self._attempts[job] += 1
        if self._attempts[job] >= ATTEMPTS:
            self.failed.append((job, error))
        else:
            self._suspects.append(job)

    def _rebuild(self) -> None:
        """One death fails every future of a process pool; start over with what was under way."""
        if not self._own:  # nor does it matter what became of the rest, which may be cancelled
            raise RenderError("the executor broke: a worker died and it cannot be built anew here")
        for future, job in list(self._running.items()):
            self._retry(job, future.exception() or RenderError("its worker died"))
        self._running.clear()
        self._executor.shutdown(wait=True)
        self._executor = local_pool(self._workers)

    def stop(self) -> None:
        """End the own pool's processes without waiting for their jobs."""
        # Public as `terminate_workers` from Python 3.14 on.
        for process in list((getattr(self._executor, "_processes", None) or {}).values()):
            if self._own:
                process.terminate()

    def close(self) -> None:
        if self._own:
            self._executor.shutdown(wait=True, cancel_futures=True)
        else:
            for future in self._running:
                future.cancel()

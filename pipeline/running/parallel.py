"""Jobs side by side, on this machine or a cluster; a failure costs what needs it, and no more."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from base.progress import Progress
from pipeline.running.patience import patient
from pipeline.running.plan import Job, dependents
from pipeline.running.stage import PARENT
from scenegen.executors import available_cores

__all__ = ["LOGS", "BusyError", "Outcome", "report", "run"]

LOGS = Path(".cache/logs")
PATIENCE = 30.0  # seconds for an interrupted cluster to stop what it runs
LOOK = 0.2  # seconds between two looks at whether to stop
IGNORED = re.compile(  # what Python says of objects that it cannot take apart as it ends
    r"^Exception ignored in:.*\n(?:Traceback.*\n(?:[ \t].*\n)*\S.*\n?)?", re.MULTILINE
)


class BusyError(Exception):
    """Another command works on what a job reads or writes."""


@dataclass
class Outcome:
    """What became of the jobs: names by fate, and the last line of each failed one's log."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def _execute(command: str, log: str, folder: str, wanted: str, threads: int | None = None) -> int:
    """Run a stage's command with its output in a log; its exit code.

    Args:
        wanted: a file of the folder; once it is gone, the command is told to stop as on Ctrl-C, and
            keeps its checkpoint. No signal reaches another machine; a file that both see does.
        threads: what torch may use where neither the stage's params nor the environment say.
    """
    given = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    words = shlex.split(command)
    if words[0] == "python":
        words[0] = sys.executable
    if not (Path(folder) / wanted).exists():
        return 130  # it waited for a worker until nobody wanted it any more
    with open(Path(folder) / log, "wb") as file:
        # A session of its own: Ctrl-C reaches it once, from here, and not from the terminal too.
        process = subprocess.Popen(
            words,
            stdout=file,
            stderr=file,
            cwd=folder,
            env={**given, **os.environ, PARENT: str(os.getpid())},
            start_new_session=True,
        )
    while (Path(folder) / wanted).exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK)
    process.terminate()  # in the background of a shell a stage ignores SIGINT
    return process.wait()


def _reason(code: int, log: Path) -> str:
    """Why a command failed: the last line of its log, or the signal that killed it."""
    if code < 0:
        memory = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{memory}"
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line.strip() for line in IGNORED.sub("", text).split("\n")]
    return next((line for line in reversed(lines) if line), "no output")


def run(
    jobs: list[Job],
    slots: int,
    finished: Callable[[Job, Callable[[], None]], str | None],
    *,
    executor: cf.Executor | None = None,
    seconds: float | None = None,
    held: Callable[[Job], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Outcome:
    """Run jobs, at most `slots` at once, each as soon as those it needs are done.

    A job that fails costs the jobs that need it, and no others.

    Args:
        finished: called with each job that succeeded, one at a time, and what closes `held`
            early; what it returns, if anything, is why the job counts as failed after all.
        executor: where commands run, on a file system that it shares; by default this machine.
        seconds: stop after this long; what runs then is interrupted and keeps its checkpoint.
        held: what is open while a job runs; one that does not open costs the job.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    wanted = LOGS / f"{uuid.uuid4().hex}.wanted"
    wanted.touch()
    # Here they share the cores: threads of two trainings on one core wait for each other.
    threads = None if executor else max(len(available_cores()) // max(min(slots, len(jobs)), 1), 1)
    with contextlib.ExitStack() as stack:
        came = stack.enter_context(patient())
        holding = stack.enter_context(contextlib.ExitStack())  # let go when nothing runs any more
        pool = executor or stack.enter_context(cf.ThreadPoolExecutor(slots))
        bar = stack.enter_context(Progress(len(jobs), "train and score", "stages"))
        stop = partial(wanted.unlink, missing_ok=True)
        stack.callback(stop)  # nothing runs on when this ends, however it ends
        work: Callable[..., int] = partial(_execute, wanted=str(wanted), threads=threads)
        state = _Run(list(jobs), slots, partial(pool.submit, work), finished, held, holding, bar)
        limit = math.inf if seconds is None else time.monotonic() + seconds
        # A command on this machine is waited for however long it takes to stop.
        patience = PATIENCE if executor else math.inf
        outcome = state.until_done(
            lambda: came.is_set() or time.monotonic() >= limit, stop, patience
        )
        if came.is_set():
            _tell(outcome)
        return outcome


class _Run:
    """The state of one call of `run`."""

    def __init__(
        self,
        jobs: list[Job],
        slots: int,
        submit: Callable[..., cf.Future[int]],
        finished: Callable[[Job, Callable[[], None]], str | None],
        held: Callable[[Job], contextlib.AbstractContextManager[Any]],
        holding: contextlib.ExitStack,
        bar: Progress,
    ) -> None:
        self._finished, self._held, self._holding, self._bar = finished, held, holding, bar
        self._waiting, self._slots, self._submit = jobs, slots, submit
        self._running: dict[cf.Future[int], tuple[Job, contextlib.ExitStack]] = {}
        self._outcome = Outcome()

    def until_done(
        self, late: Callable[[], bool], stop: Callable[[], None], patience: float
    ) -> Outcome:
        """Run them all, or until it is `late`: `stop` then tells what runs, which is waited for."""
        stopped, limit = False, math.inf
        while True:
            if not stopped and late():
                stopped, limit = True, time.monotonic() + patience
                stop()
                if names := ", ".join(job.name for job, _ in self._running.values()):
                    print(f"told to stop, and waited for: {names}", file=sys.stderr)
            if not stopped:
                self._start()
            if not self._running or time.monotonic() >= limit:
                break
            done, _ = cf.wait(self._running, LOOK, cf.FIRST_COMPLETED)
            for future in done:
                self._end(future, stopped)
        on = [job.name for job, _ in self._running.values()]
        if on:
            print(f"may still run on the cluster: {', '.join(on)}", file=sys.stderr)
        self._outcome.left += on + [job.name for job in self._waiting]
        return self._outcome

    def _end(self, future: cf.Future[int], stopped: bool) -> None:
        job, held = self._running.pop(future)
        # A cluster that is lost cancels what it was to run.
        error = "the cluster is lost" if future.cancelled() else future.exception()
        with held:  # until it is recorded
            if error is None and future.result() == 0:
                if trouble := self._finished(job, held.close):
                    self._fail(job, trouble)
                else:
                    self._outcome.done.append(job.name)
                    self._bar.advance()
            elif stopped:
                self._outcome.left.append(job.name)
            else:
                log = LOGS / f"{job.name}.log"
                self._fail(job, str(error or _reason(future.result(), log)))

    def _start(self) -> None:
        """Begin what is ready, while there is room."""
        unfinished = [*(job for job, _ in self._running.values()), *self._waiting]
        for job in list(self._waiting):
            if len(self._running) == self._slots:
                return
            if not any(job.needs(other) for other in unfinished if other is not job):
                self._waiting.remove(job)
                held = self._holding.enter_context(contextlib.ExitStack())
                try:
                    held.enter_context(self._held(job))
                except BusyError as error:
                    self._fail(job, str(error))
                    continue
                log = str(LOGS / f"{job.name}.log")
                self._running[self._submit(job.command, log, os.getcwd())] = (job, held)

    def _fail(self, job: Job, why: str) -> None:
        self._outcome.failed[job.name] = why
        lost = dependents(job, self._waiting)
        self._outcome.left += [one.name for one in lost]
        self._waiting = [one for one in self._waiting if one not in lost]


def _tell(outcome: Outcome) -> None:
    """Say what failed and what is left."""
    for name, reason in outcome.failed.items():
        print(f"{name} failed: {reason} (all of it: {LOGS / name}.log)", file=sys.stderr)
    if outcome.left:
        print(f"left: {', '.join(outcome.left)}", file=sys.stderr)


def report(outcome: Outcome, onward: str) -> None:
    """Say how it ended; exit code 1 if anything failed."""
    _tell(outcome)
    print(f"{len(outcome.done)} stages done. {onward}")
    if outcome.failed:
        raise SystemExit(1)

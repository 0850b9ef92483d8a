"""Many stages at once, with or without DVC.

The stages, their commands and what they need are read from dvc.yaml, so there is one list of them.
`python -m pipeline train` runs the stale ones side by side, records each with DVC, and ends with
`dvc repro`;
`python -m pipeline study` does the same on a machine that has neither DVC nor Blender, and leaves
`data/study.json`, entries of a dvc.lock, which `python -m pipeline adopt` takes over elsewhere.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator
from ruamel.yaml import YAML

from base import lockfile
from base.params import Section
from base.process import SIGNALS
from base.progress import Progress
from pipeline.running.stage import (
    DATASET,
    PARAMS,
    PARENT,
    RUNS,
    environment,
    fail,
    read_params,
    read_run,
    running,
    shown,
    valid,
    write_bytes,
    write_json,
)
from scenegen.executors import available_cores
from scenegen.manifest import MANIFEST

__all__ = ["LOGS", "STUDY", "Job", "adopt", "dependents", "entry", "plan", "run", "study", "train"]

LOGS = Path(".cache/logs")
STUDY = Path("data/study.json")
DEFINITION = Path("dvc.yaml")
ATTEMPTS = 15  # to record a stage once a signal came, each of 4 s; until then no end of them
PATIENCE = 30.0  # seconds for an interrupted cluster to stop what it runs
LOOK = 0.2  # seconds between two looks at whether to stop
STOPS = (*SIGNALS, signal.SIGHUP)  # SIGHUP: the terminal was closed
IGNORED = re.compile(  # what Python says of objects that it cannot take apart as it ends
    r"^Exception ignored in:.*\n(?:Traceback.*\n(?:[ \t].*\n)*\S.*\n?)?", re.MULTILINE
)
TOGETHER = re.compile(r"train_\w+|score\w*")  # stages that may run side by side
WAITING = ("--wait-for-lock",)  # of DVC: for other DVC commands, instead of failing after 3 s
_stop = threading.Event()  # a signal came, while `_patient`

Entry = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One stage of the pipeline, as dvc.yaml defines it.

    Attributes:
        name: as DVC calls it, such as train_vae@poe-ecg-0.
        params: keys of params.yaml that it reads.
        outs: files and folders that it writes, metrics and plots included.
    """

    name: str
    command: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]

    def needs(self, other: Job) -> bool:
        """Whether this stage reads what `other` writes."""
        return any(_overlap(dep, out) for dep in self.deps for out in other.outs)


def _overlap(one: str, other: str) -> bool:
    return (one + "/").startswith(other + "/") or (other + "/").startswith(one + "/")


def _lookup(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _filled(text: str, values: dict[str, Any]) -> str:
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(_lookup(values, found[1])), text)


def _names(items: list[Any]) -> list[str]:
    """Paths or keys of a list in dvc.yaml, whose entries may carry options."""
    return [next(iter(item)) if isinstance(item, dict) else item for item in items]


def _keys(items: list[Any]) -> list[str]:
    """Keys of a list of params in dvc.yaml; those of a file that is not the root's are in a list of
    their own, under its name."""
    return [
        key
        for item in items
        for key in (next(iter(item.values())) if isinstance(item, dict) else [item])
    ]


def plan(definition: Path = DEFINITION, params: dict[str, Any] | None = None) -> list[Job]:
    """Every stage that may run beside others, so that any prefix is a table: seed by seed, first
    what the seed's cells share, then cell by cell, each with its scores."""
    values = read_params() if params is None else params
    jobs: list[tuple[int, int, Job]] = []
    for stage, body in (
        YAML(typ="safe").load(definition.read_text(encoding="utf-8"))["stages"].items()
    ):
        if not TOGETHER.fullmatch(stage):
            continue
        axes = {
            axis: list(_lookup(values, of[2:-1]) if isinstance(of, str) else of)
            for axis, of in body["matrix"].items()
        }
        for chosen in itertools.product(*axes.values()):
            item = dict(zip(axes, chosen, strict=True))
            known = {**values, "item": item, "key": "-".join(map(str, chosen))}
            lists = {
                part: tuple(_filled(name, known) for name in _names(body.get(part, [])))
                for part in ("deps", "outs", "metrics", "plots")
            }
            params_read = tuple(_filled(key, known) for key in _keys(body.get("params", [])))
            job = Job(
                f"{stage}@{known['key']}",
                _filled(body["cmd"], known),
                lists["deps"],
                params_read,
                lists["outs"] + lists["metrics"] + lists["plots"],
            )
            cell = axes["cell"].index(item["cell"]) if "cell" in item else -1
            jobs.append((int(item.get("seed", -1)), cell, job))
    return [job for _, _, job in sorted(jobs, key=lambda one: one[:2])]


# --- running -----------------------------------------------------------------------------------


class BusyError(Exception):
    """Another command works on what a job reads or writes."""


@dataclass
class Outcome:
    """What became of the jobs: names by fate, and the last line of each failed one's log."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


@contextlib.contextmanager
def _patient() -> Iterator[threading.Event]:
    """Signals set the event, and become a KeyboardInterrupt only when this ends.

    What is half done then is done first: recorded, where a stage had just finished. DVC writes
    dvc.lock in place, and leaves it cut off where it is interrupted.
    """
    _stop.clear()
    shown = [one for one in (1, 2) if os.isatty(one)]

    def heard(kind: int, _: object) -> None:
        _stop.set()
        if kind == signal.SIGHUP:  # to write to a terminal that was closed is an error
            silent = os.open(os.devnull, os.O_WRONLY)
            for one in shown:
                os.dup2(silent, one)

    before = {kind: signal.getsignal(kind) for kind in STOPS}
    for kind, handler in before.items():
        if handler is not signal.SIG_IGN:  # as in the background of a shell, or under nohup
            signal.signal(kind, heard)
    try:
        yield _stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if _stop.is_set():
        raise KeyboardInterrupt


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
    finished: Callable[[Job], str | None],
    *,
    executor: cf.Executor | None = None,
    seconds: float | None = None,
    held: Callable[[Job], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
) -> Outcome:
    """Run jobs, at most `slots` at once, each as soon as those it needs are done.

    A job that fails costs the jobs that need it, and no others.

    Args:
        finished: called with each job that succeeded, one at a time; what it returns, if
            anything, is why the job counts as failed after all.
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
        came = stack.enter_context(_patient())
        holding: dict[str, contextlib.ExitStack] = {}
        stack.callback(_release, holding)  # last of all, when nothing runs any more
        pool = executor or stack.enter_context(cf.ThreadPoolExecutor(slots))
        bar = stack.enter_context(Progress(len(jobs), "train and score", "stages"))
        stop = partial(wanted.unlink, missing_ok=True)
        stack.callback(stop)  # nothing runs on when this ends, however it ends
        work: Callable[..., int] = partial(_execute, wanted=str(wanted), threads=threads)
        limit = math.inf if seconds is None else time.monotonic() + seconds

        def late() -> bool:
            return came.is_set() or time.monotonic() >= limit

        def recorded(job: Job) -> str | None:
            trouble = finished(job)
            if not trouble:
                bar.advance()
            return trouble

        # A command on this machine is waited for however long it takes to stop.
        patience = PATIENCE if executor else math.inf
        submit = partial(pool.submit, work)
        state = _Run(list(jobs), slots, submit, recorded, held, holding)
        outcome = state.until_done(late, stop, patience)
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
        finished: Callable[[Job], str | None],
        held: Callable[[Job], contextlib.AbstractContextManager[Any]],
        holding: dict[str, contextlib.ExitStack],
    ) -> None:
        self._finished, self._held, self._holding = finished, held, holding
        self._waiting, self._slots, self._submit = jobs, slots, submit
        self._running: dict[cf.Future[int], Job] = {}
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
                if names := ", ".join(job.name for job in self._running.values()):
                    print(f"told to stop, and waited for: {names}", file=sys.stderr)
            if not stopped:
                self._start()
            if not self._running or time.monotonic() >= limit:
                break
            done, _ = cf.wait(self._running, LOOK, cf.FIRST_COMPLETED)
            for future in done:
                self._end(future, stopped)
        on = [job.name for job in self._running.values()]
        if on:
            print(f"may still run on the cluster: {', '.join(on)}", file=sys.stderr)
        self._outcome.left += on + [job.name for job in self._waiting]
        return self._outcome

    def _end(self, future: cf.Future[int], stopped: bool) -> None:
        job = self._running.pop(future)
        # A cluster that is lost cancels what it was to run.
        error = "the cluster is lost" if future.cancelled() else future.exception()
        with self._holding.pop(job.name):  # until it is recorded
            if error is None and future.result() == 0:
                if trouble := self._finished(job):
                    self._fail(job, trouble)
                else:
                    self._outcome.done.append(job.name)
            elif stopped:
                self._outcome.left.append(job.name)
            else:
                log = LOGS / f"{job.name}.log"
                self._fail(job, str(error or _reason(future.result(), log)))

    def _start(self) -> None:
        """Begin what is ready, while there is room."""
        unfinished = [*self._running.values(), *self._waiting]
        for job in list(self._waiting):
            if len(self._running) == self._slots:
                return
            if not any(job.needs(other) for other in unfinished if other is not job):
                self._waiting.remove(job)
                held = contextlib.ExitStack()
                try:
                    held.enter_context(self._held(job))
                except BusyError as error:
                    self._fail(job, str(error))
                    continue
                self._holding[job.name] = held
                log = str(LOGS / f"{job.name}.log")
                self._running[self._submit(job.command, log, os.getcwd())] = job

    def _fail(self, job: Job, why: str) -> None:
        self._outcome.failed[job.name] = why
        lost = dependents(job, self._waiting)
        self._outcome.left += [one.name for one in lost]
        self._waiting = [one for one in self._waiting if one not in lost]


def _release(holding: dict[str, contextlib.ExitStack]) -> None:
    """Let go of what is held for jobs that were not waited for."""
    for held in holding.values():
        held.close()


def dependents(job: Job, among: list[Job]) -> list[Job]:
    """Those of `among` that read what `job` writes, directly or through others."""
    lost: list[Job] = []
    todo = [job]
    while todo:
        one = todo.pop()
        new = [other for other in among if other not in lost and other.needs(one)]
        lost += new
        todo += new
    return lost


def _due(jobs: list[Job], stale: Callable[[Job], bool]) -> list[Job]:
    """Those of a `plan` that are stale, or read what one that is due will write."""
    chosen: list[Job] = []
    for job in jobs:
        if any(job.needs(one) for one in chosen) or stale(job):
            chosen.append(job)
    return chosen


def _tell(outcome: Outcome) -> None:
    """Say what failed and what is left."""
    for name, reason in outcome.failed.items():
        print(f"{name} failed: {reason} (all of it: {LOGS / name}.log)", file=sys.stderr)
    if outcome.left:
        print(f"left: {', '.join(outcome.left)}", file=sys.stderr)


def _report(outcome: Outcome, onward: str) -> None:
    """Say how it ended; exit code 1 if anything failed."""
    _tell(outcome)
    print(f"{len(outcome.done)} stages done. {onward}")
    if outcome.failed:
        raise SystemExit(1)


# --- with DVC ----------------------------------------------------------------------------------


def train(
    slots: int,
    executor: cf.Executor | None = None,
    definition: Path = DEFINITION,
    params: Path = PARAMS,
) -> None:
    """Run every stale training and score, and record each with DVC; then what is made of them.

    Where nothing failed, `dvc repro` has nothing to do afterwards.

    Args:
        slots: how many run at once.
        executor: as in `run`.
        definition, params: the dvc.yaml and the params.yaml, by default the root's.
    """
    need_dvc()
    # What stands before a stage's name for DVC, and what a person types.
    place, again = f"{definition}:", f"dvc repro {definition}"
    if definition == DEFINITION:
        place, again = "", "dvc repro"
    stages = YAML(typ="safe").load(definition.read_text(encoding="utf-8"))["stages"]
    first = itertools.takewhile(lambda name: not TOGETHER.fullmatch(name), stages)
    _dvc("repro", *(place + name for name in first))
    jobs = plan(definition, read_params(params))
    stale = json.loads(_dvc("status", "--json", str(definition), read=True))
    chosen = _due(jobs, lambda job: place + job.name in stale)
    reserved: dict[str, contextlib.ExitStack] = {}

    @contextlib.contextmanager
    def held(job: Job) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_reserved(job))
            reserved[job.name] = stack
            yield

    home = RUNS if definition == DEFINITION else RUNS / definition.parent.name

    def finished(job: Job) -> str | None:
        if edited := _edited(job, _ran_with(job, home), read_params(params)):
            return f"finished, but not recorded: {edited} in {params} was edited while it ran"
        return _record(place + job.name, reserved[job.name].close)

    outcome = run(chosen, slots, finished, executor=executor, held=held)
    if outcome.failed or outcome.left:
        _report(outcome, f"To go on: {again}")
    else:
        _dvc("repro", str(definition))
        _report(outcome, f"`{again}` has nothing left to do.")


def _ran_with(job: Job, home: Path = RUNS) -> dict[str, Any] | None:
    """The params.yaml that a finished job began with, as the job itself noted it."""
    record = read_run(home / f"{job.name}.json")
    return dict(record["params"]) if record else None


def _edited(job: Job, read: dict[str, Any] | None, now: dict[str, Any]) -> str | None:
    """The first key of a job that is no longer what it was as it began, if that is known."""
    for key in job.params if read else ():
        with contextlib.suppress(KeyError, TypeError):  # it is gone
            if _lookup(read, key) == _lookup(now, key):
                continue
        return key
    return None


@contextlib.contextmanager
def _reserved(job: Job) -> Iterator[None]:
    """Keep other DVC commands from a job's files: `dvc repro` deletes outputs before it runs.

    As DVC does while it runs a stage itself, whose command has no part in it.
    """
    from dvc.fs import localfs
    from dvc.lock import LockError
    from dvc.rwlock import rwlock

    files = [[os.path.abspath(path) for path in paths] for paths in (job.deps, job.outs)]
    named = f"python -m pipeline train, {job.name}"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(rwlock(os.path.abspath(".dvc/tmp"), localfs, named, *files, False))
        except LockError as error:
            raise BusyError(" ".join(str(error).split("\n\n")[0].split())) from None
        yield


def _record(name: str, release: Callable[[], None] = lambda: None) -> str | None:
    """Record a finished stage; why not, if that fails.

    Another DVC command is waited for however long it takes; once a signal came, for a minute.

    Args:
        name: the stage as DVC calls it, with its dvc.yaml if that is not the root's.
        release: ends the reservation of the job's files, which recording them needs; called once
            DVC's lock, which every other command needs, is held.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    left, why = ATTEMPTS, ""
    while left:
        try:
            lockfile.mend()
            with Repo() as repo, lock_repo(repo):
                release()
                repo.commit(name, force=True)
            return None
        except LockError as error:
            if not why:
                print(f"{name}: done; {lockfile.WAITS}", file=sys.stderr)
            why, left = str(error), left - _stop.is_set()
            time.sleep(1)
        except DvcException as error:
            why, left = str(error), 0
    reason = " ".join(why.split())
    return f"finished, but not recorded ({reason}); `dvc commit {name}` does that"


def need_dvc() -> None:
    """One line and exit code 2 where DVC cannot work: outside of a project of its, or of git."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        Repo().close()
    except NotDvcRepoError:
        fail("no DVC project is here: run this from the project's root, in a clone of its git")
    except DvcException as error:
        fail(f"{error}; DVC needs one: `git init`, or `dvc config core.no_scm true`")


def _dvc(*words: str, read: bool = False) -> str:
    """Run DVC; what it prints, with `read`. One line and exit code 2 if it fails.

    A signal goes to the stage that DVC runs, and not to DVC itself, which fails with that stage;
    to DVC itself where it waits for another DVC command.
    """
    import psutil

    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heeded + "import sys; from dvc.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *WAITING, *words]
    pipe = subprocess.PIPE if read else None
    with _patient() as came:
        process = subprocess.Popen(
            command,
            stdout=pipe,
            stderr=pipe,
            encoding="utf-8",
            errors="replace",
            env=environment(),
            start_new_session=True,
        )
        told: set[int] = set()
        while process.returncode is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, error = process.communicate(timeout=LOOK)
            if came.is_set() and process.returncode is None:
                below = psutil.Process(process.pid).children(recursive=True)
                if not below and lockfile.holder() != process.pid:  # it waits, and writes nothing
                    process.send_signal(signal.SIGINT)
                for child in below:
                    if child.pid not in told:
                        told.add(child.pid)
                        with contextlib.suppress(psutil.NoSuchProcess):
                            child.send_signal(signal.SIGINT)
        if process.returncode and not came.is_set():
            fail(f"dvc {' '.join(words)} failed{': ' + error.strip() if read else ''}")
    return out or ""


# --- without DVC -------------------------------------------------------------------------------

_DIGESTS: dict[tuple[str, int, int], str] = {}


def _md5(path: Path) -> str:
    about = path.stat()
    key = (str(path), about.st_mtime_ns, about.st_size)
    if key not in _DIGESTS:
        with path.open("rb") as file:
            _DIGESTS[key] = hashlib.file_digest(file, "md5").hexdigest()
    return _DIGESTS[key]


def _described(name: str) -> Entry:
    """A file or folder as dvc.lock describes it."""
    path = Path(name)
    if not path.is_dir():
        return {"path": name, "hash": "md5", "md5": _md5(path), "size": path.stat().st_size}
    files = sorted(
        (file for file in path.rglob("*") if file.is_file()),
        key=lambda file: file.relative_to(path).parts,
    )
    listed = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    return {
        "path": name,
        "hash": "md5",
        "md5": hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir",
        "size": sum(file.stat().st_size for file in files),
        "nfiles": len(files),
    }


def entry(job: Job, params: dict[str, Any]) -> Entry:
    """The job's entry in a dvc.lock, for the files as they are now."""
    read = {key: _lookup(params, key) for key in sorted(job.params)}
    return {
        "cmd": job.command,
        "deps": [_described(path) for path in sorted(job.deps)],
        **({"params": {str(PARAMS): read}} if read else {}),
        "outs": [_described(path) for path in sorted(job.outs)],
    }


class _Described(Section):
    """A file or folder of the project, as dvc.lock describes it."""

    path: str
    hash: Literal["md5"]
    md5: str = Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")
    size: int = Field(ge=0)
    nfiles: int | None = Field(default=None, ge=0)

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if path != os.path.normpath(path) or path.startswith(("/", "../")) or path in (".", ".."):
            raise ValueError("must be a path inside the project")
        return path


class _Entry(Section):
    """A stage's run, as dvc.lock describes it."""

    cmd: str
    deps: list[_Described]
    params: dict[str, dict[str, Any]] = Field(default={})
    outs: list[_Described]


class _Record(Section):
    """data/study.json: a dvc.lock in JSON."""

    version: Literal["2.0"] = Field(alias="schema")
    stages: dict[str, _Entry]


def _recorded(path: Path) -> dict[str, Entry]:
    """The stages of a study's record, none without one; one line a mistake and exit code 2."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        fail(f"{path}: not the record of a study ({error}); delete it to begin anew")
    valid(_Record, content, path)
    return dict(content["stages"])


def _same(job: Job, params: dict[str, Any], known: Entry | None) -> bool:
    """Whether the record is of a run of this job as it is now, with all it wrote still there."""
    missing = [path for path in (*job.deps, *job.outs) if not Path(path).exists()]
    return known is not None and not missing and entry(job, params) == known


def study(slots: int, seconds: float | None = None) -> None:
    """Train and score all there is, from the shards alone: neither DVC nor Blender is needed.

    What is done is kept in `data/study.json`, so that a broken or timed-out study goes on.
    """
    again = "python -m pipeline study"
    with running("study", lambda: "what it ran keeps its checkpoints", again):
        _study(slots, seconds)


def _study(slots: int, seconds: float | None) -> None:
    from pipeline.stages import check

    check.main()
    if not (DATASET / MANIFEST).exists():
        fail(f"{DATASET}: no scenes are here; bring the shards (docs/guide/gpu.md)")
    params, jobs = read_params(), plan()
    known = _recorded(STUDY)
    chosen = _due(jobs, lambda job: not _same(job, params, known.get(job.name)))

    def finished(job: Job) -> None:
        known[job.name] = entry(job, _ran_with(job) or params)
        write_json(STUDY, {"schema": "2.0", "stages": known})

    outcome = run(chosen, slots, finished, seconds=seconds)
    _report(outcome, f"Record: {STUDY}; take it over with python -m pipeline adopt")


def adopt(path: Path = STUDY) -> None:
    """Take a study's stages over into dvc.lock and what they wrote into DVC's cache, as its own.

    Big outputs, such as the models, need not be brought along: `dvc repro --allow-missing` then
    runs what is left. A stage is refused when anything that it read differs from what is here; a
    record that is none changes nothing.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    need_dvc()
    if not path.exists():
        fail(f"{path}: no such file; a study leaves it beside data/ and results/")
    studied = _recorded(path)
    try:
        with Repo() as repo, repo.lock:
            taken = _taken_over(studied)
            # What is in no cache is made anew, and `dvc checkout` has nothing to put back.
            for stage in repo.index.stages:
                if stage.addressing in taken:
                    stage.commit(allow_missing=True)
    except LockError as error:
        fail(f"{' '.join(str(error).split())} Then adopt again.")
    except (DvcException, OSError) as error:
        fail(f"adopt: {' '.join(str(error).split())}; mend that, then adopt again")
    print(f"{len(taken)} stages taken over. To go on: dvc repro --allow-missing")
    if len(taken) < len(studied):
        raise SystemExit(1)


def _taken_over(studied: dict[str, Entry]) -> list[str]:
    """Write a study's stages into dvc.lock; those that are not refused."""
    params, jobs = read_params(), {job.name: job for job in plan()}
    yaml, lock = YAML(), Path("dvc.lock")
    content: Any = (
        yaml.load(lock.read_text(encoding="utf-8"))
        if lock.exists()
        else {"schema": "2.0", "stages": {}}
    )
    written = {out["md5"] for one in studied.values() for out in one["outs"]}
    taken = []
    for name, known in studied.items():
        if difference := _difference(jobs.get(name), known, params, written):
            print(f"{name}: {difference}", file=sys.stderr)
        else:
            content["stages"][name] = known
            taken.append(name)
    if taken:
        text = io.StringIO()
        yaml.dump(content, text)
        write_bytes(lock, text.getvalue().encode())
    return taken


def _difference(
    job: Job | None, known: Entry, params: dict[str, Any], written: set[str]
) -> str | None:
    """Why a stage of a study is not a stage of this project, as it is here; None if it is."""
    if job is None:
        return "not a stage of this pipeline"
    if job.command != known["cmd"]:
        return f"ran `{known['cmd']}`, here it is `{job.command}`"
    there = known.get("params", {}).get(str(PARAMS), {})
    for key in job.params:
        if there.get(key) != _lookup(params, key):
            return f"{key} was {shown(there.get(key))}, here it is {shown(_lookup(params, key))}"
    if known.get("params", {}) != ({str(PARAMS): there} if there else {}):
        return f"params of another file than {PARAMS}"
    if more := sorted(set(there) - set(job.params)):
        return f"{more[0]} is not a key that it reads"
    parts = [("deps", job.deps), ("outs", job.outs)]
    for part, wanted in parts:
        paths = [one["path"] for one in known[part]]
        if more := [path for path in paths if path not in wanted or paths.count(path) > 1]:
            return f"{more[0]} is not of its {part}, or twice"
    for part, wanted in parts:
        described = {one["path"]: one for one in known[part]}
        for name in wanted:
            if name not in described:
                return f"{name} is not in its record"
            if Path(name).exists() and _described(name)["md5"] != described[name]["md5"]:
                made = described[name]["md5"] in written
                way = "; remove it, or bring the study's" if made else ""
                return f"{name} differs from the study's{way}"
            # What the study wrote itself may be absent; what it was given may not.
            if not Path(name).exists() and described[name]["md5"] not in written:
                return f"{name} is missing"
    return None

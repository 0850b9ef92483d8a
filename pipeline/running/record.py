"""All that we ask of DVC: what it recorded, to record a stage, and its commands.

Much of it is no public interface of DVC's. It is used here and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path
from typing import Any

import networkx
import psutil
from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.fs import localfs
from dvc.lock import LockError
from dvc.output import Output
from dvc.repo import Repo, lock_repo
from dvc.rwlock import rwlock
from dvc.scm import SCMError
from dvc.stage import PipelineStage
from dvc.stage.loader import StageLoader
from dvc.utils.serialize import load_yaml

from base import lockfile
from pipeline.running.parallel import LOOK, BusyError
from pipeline.running.patience import patient, told
from pipeline.running.plan import Job, lookup
from pipeline.running.stage import environment, fail
from pipeline.study import Study

__all__ = [
    "WAITING",
    "Recorded",
    "UnreadableError",
    "dvc",
    "need_dvc",
    "record",
    "recorded",
    "reserved",
    "stale",
    "take_over",
]

ATTEMPTS = 15  # to record a stage once a signal came, each of 4 s; until then no end of them
WAITING = ("--wait-for-lock",)  # of DVC: for other DVC commands, instead of failing after 3 s
_ABSENT = object()


def need_dvc() -> None:
    """One line and exit code 2 where DVC cannot work: outside of a project of its, or of git."""
    try:
        Repo().close()
    except NotDvcRepoError:
        fail("no DVC project is here: run this from the project's root, in a clone of its git")
    except DvcException as error:
        fail(f"{error}; DVC needs one: `git init`, or `dvc config core.no_scm true`")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


# --- its commands ------------------------------------------------------------------------------


def dvc(*words: str, read: bool = False) -> str:
    """Run DVC; what it prints, with `read`. One line and exit code 2 if it fails.

    A signal goes to the stage that DVC runs, and not to DVC itself, which fails with that stage;
    to DVC itself where it waits for another DVC command.
    """
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = heeded + "import sys; from dvc.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *WAITING, *words]
    pipe = subprocess.PIPE if read else None
    with patient() as came:
        process = subprocess.Popen(
            command,
            stdout=pipe,
            stderr=pipe,
            encoding="utf-8",
            errors="replace",
            env=environment(),
            start_new_session=True,
        )
        asked: set[int] = set()
        while process.returncode is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, error = process.communicate(timeout=LOOK)
            if came.is_set() and process.returncode is None:
                _stop(process, asked)
        if process.returncode and not came.is_set():
            fail(f"dvc {' '.join(words)} failed{': ' + error.strip() if read else ''}")
    return out or ""


def _stop(process: subprocess.Popen[str], asked: set[int]) -> None:
    """Interrupt what a DVC command runs, each process once."""
    below = psutil.Process(process.pid).children(recursive=True)
    if not below and lockfile.holder() != process.pid:  # it waits, and writes nothing
        process.send_signal(signal.SIGINT)
    for child in below:
        if child.pid not in asked:
            asked.add(child.pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(signal.SIGINT)


# --- recording ---------------------------------------------------------------------------------


@contextlib.contextmanager
def reserved(job: Job) -> Iterator[None]:
    """Keep other DVC commands from a job's files: `dvc repro` deletes outputs before it runs.

    As DVC does while it runs a stage itself, whose command has no part in it.
    """
    files = [[os.path.abspath(path) for path in paths] for paths in (job.deps, job.outs)]
    named = f"python -m pipeline train, {job.name}"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(rwlock(os.path.abspath(".dvc/tmp"), localfs, named, *files, False))
        except LockError as error:
            raise BusyError(" ".join(str(error).split("\n\n")[0].split())) from None
        yield


def record(name: str, release: Callable[[], None] = lambda: None) -> str | None:
    """Record a finished stage; why not, if that fails.

    Another DVC command is waited for however long it takes; once a signal came, for a minute.

    Args:
        name: the stage as DVC calls it from the root: with its dvc.yaml.
        release: ends the reservation of the job's files, which recording them needs; called once
            DVC's lock, which every other command needs, is held.
    """
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
            why, left = _line(error), left - told.is_set()
            time.sleep(1)
        except DvcException as error:
            why, left = _line(error), 0
    return f"finished, but not recorded ({why}); `dvc commit {name}` does that"


def take_over(
    study: Study, entries: Mapping[str, dict[str, Any]], written: Container[str]
) -> dict[str, str]:
    """Let DVC record runs of another machine, and keep what is here of their outputs.

    One line and exit code 2 if DVC cannot.

    Args:
        entries: of stages, by name, as dvc.lock has them.
        written: MD5s of all that was written there, which may be absent here.

    Returns:
        Name -> why not, of each stage that read or wrote other files than are here.
    """
    refused: dict[str, str] = {}
    try:
        with Repo() as repo, repo.lock:
            taken = []
            for stage in _stages(repo, study):
                if stage.name not in entries:
                    continue
                StageLoader.fill_from_lock(stage, entries[stage.name])
                others = (_other(file, written) for file in (*stage.deps, *stage.outs))
                if why := next(filter(None, others), None):
                    refused[stage.name] = why
                else:
                    taken.append(stage)
            # What is in no cache is made anew, and `dvc checkout` has nothing to put back.
            for stage in taken:
                stage.commit(allow_missing=True)
            if taken:
                taken[0].dvcfile.dump_stages(taken, update_pipeline=False)
    except LockError as error:
        fail(f"{_line(error)} Then adopt again.")
    except (DvcException, OSError) as error:
        fail(f"adopt: {_line(error)}; mend that, then adopt again")
    return refused


def _other(file: Output, written: Container[str]) -> str | None:
    """How a file is not what an entry says of it; None if it is."""
    if isinstance(file, ParamsDependency):
        return None
    made = file.hash_info.value in written
    if not file.exists:  # what the study wrote itself may be absent; what it was given may not
        return None if made else f"{file.def_path} is missing"
    if file.changed_checksum():
        way = "; remove it, or bring the study's" if made else ""
        return f"{file.def_path} differs from the study's{way}"
    return None


# --- what it recorded --------------------------------------------------------------------------


class UnreadableError(Exception):
    """What DVC recorded cannot be read now, as while it is written."""


class Recorded:
    """One stage as DVC knows it.

    Attributes:
        name: as in its dvc.yaml, such as train_vae@poe-ecg-0.
        needs: names of the stages whose outputs it reads.
        deps, outs: the files and folders that it reads and writes.
        ran: whether there is a record of a run.
    """

    def __init__(
        self, stage: PipelineStage, needs: list[str], values: Any, states: dict[Any, dict[str, str]]
    ) -> None:
        self.name, self.needs = stage.name, needs
        self.deps = [Path(d.def_path) for d in stage.deps if not isinstance(d, ParamsDependency)]
        self.outs = [Path(out.def_path) for out in stage.outs]
        self.ran = any(out.hash_info.value is not None for out in stage.outs)
        self._stage, self._values, self._states = stage, values, states

    def changes(self, known: Mapping[Path, str]) -> list[str]:
        """Everything that is not as at its last run, as file or key.

        Args:
            known: dependency -> what to say of it, where a look at it would say less.
        """
        reasons = ["command"] if self._stage.changed_stage() else []
        for dep in self._stage.deps:
            if isinstance(dep, ParamsDependency):  # DVC's own look parses the file every time
                now, last = self._values, dep.hash_info.value or {}
                reasons += [
                    k for k in dep.params if lookup(now, k, _ABSENT) != last.get(k, _ABSENT)
                ]
            elif (path := Path(dep.def_path)) in known:
                reasons.append(known[path])
            else:
                reasons += self._state(dep)
        outs = (self._state(out).items() for out in self._stage.outs)
        return reasons + [f"{name} {state}" for states in outs for name, state in states]

    def _state(self, file: Output) -> dict[str, str]:
        """DVC's {file: state}: one look for all that recorded the same content of the same file."""
        # An output's state tells whether DVC's cache has it; a dependency's does not.
        key = (type(file), file.def_path, file.hash_info.value)
        if key not in self._states:
            self._states[key] = file.status()
        return self._states[key]


@contextlib.contextmanager
def recorded(study: Study) -> Iterator[list[Recorded]]:
    """Every stage of a study, in the order in which they run, without a lock of DVC's.

    One line and exit code 2 if no DVC project is here.

    Raises:
        UnreadableError: also from a look at a file within.
    """
    lock = study.definition.with_suffix(".lock")
    try:
        with _repo() as repo:
            before = _content(lock)
            stages = {stage: stage.name for stage in _stages(repo, study)}
            graph = repo.index.graph
            if before != _content(lock) or lockfile.cut(lock):
                raise UnreadableError(f"{lock} is being written")
            order = list(networkx.topological_sort(graph))[::-1]
            # Parsed as DVC parses it, since it is compared with what DVC recorded.
            values = load_yaml(str(study.params))
            states: dict[Any, dict[str, str]] = {}
            needs = {
                one: [stages[n] for n in graph.successors(one) if n in stages] for one in order
            }
            yield [Recorded(one, needs[one], values, states) for one in order if one in stages]
    except NotDvcRepoError:
        fail("no DVC project is here: run this from the project's root")
    except DvcException as error:
        raise UnreadableError(_line(error)) from None


def stale(study: Study) -> set[str]:
    """Names of a study's stages that are not up to date."""
    found = json.loads(dvc("status", "--json", str(study.definition), read=True))
    return {name.rpartition(":")[2] for name in found}


def _repo() -> Repo:
    """This folder's, also where it is in no git, as an archive's is."""
    try:
        return Repo()
    except SCMError:
        return Repo(config={"core": {"no_scm": True}})


def _stages(repo: Repo, study: Study) -> list[PipelineStage]:
    return [s for s in repo.index.stages if s.path_in_repo == str(study.definition)]


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None

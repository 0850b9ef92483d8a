"""What every stage script needs: params.yaml, where files lie, how they are read and written."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from base import checkpoints, code, lockfile
from base.files import as_json, explained, remove, write_bytes, write_json
from base.process import end_with, heed_no_more, interrupted, listen
from pipeline.running.params import (
    PARAMS,
    Runs,
    cut,
    fail,
    read_params,
    section,
    shown,
    valid,
    whole,
)

__all__ = [
    "CHECKPOINTS",
    "DATA",
    "DATASET",
    "PARAMS",
    "PARENT",
    "PARTS_KEPT",
    "RESULTS",
    "RUNS",
    "Runs",
    "checkpoint_kept",
    "cut",
    "device",
    "environment",
    "fail",
    "read",
    "read_arrays",
    "read_json",
    "read_params",
    "read_run",
    "running",
    "section",
    "shown",
    "valid",
    "whole",
    "workers",
    "write_bytes",
    "write_json",
]

DATA, RESULTS = Path("data"), Path("results")
DATASET = DATA / "shapes3d"
CHECKPOINTS = Path(".cache/checkpoints")  # outside every output: DVC deletes outputs before a run
RUNS = Path(".cache/runs")  # per stage: a lock while it runs, and how long it took
PARENT = "PIPELINE_PARENT"  # in the environment: the process without which a stage ends
PARTS_KEPT = "the parts that were scored are kept, and the next run adds the rest"

Found = TypeVar("Found")


# --- the environment ---------------------------------------------------------------------------


def device() -> str | None:
    """The device asked for in the environment (DEVICE=cpu, cuda:1); None picks a GPU if any.

    One line and exit code 2 if it cannot be had.
    """
    name = os.environ.get("DEVICE")
    if not name or name == "cpu":
        return name or None
    cuda = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", name)
    if cuda is None:
        fail(f"DEVICE={cut(name)}: must be cpu, cuda, or cuda:N for the GPU of that number")
    import torch  # rendering does without

    count = torch.cuda.device_count()
    if int(cuda[1] or 0) >= count:
        fail(f"DEVICE={name}: torch finds {count} GPUs here; use DEVICE=cpu or leave it out")
    return name


def workers(environment: Mapping[str, str] = os.environ) -> int | None:
    """Render processes asked for in the environment (WORKERS=8); None is one per core.

    One line and exit code 2 if it is not a number of processes.
    """
    text = environment.get("WORKERS") or None
    if text is not None and (not re.fullmatch("[0-9]{1,6}", text) or int(text) < 1):
        fail(f"WORKERS={cut(text)}: must be a whole number of processes, 1 or more")
    return int(text) if text else None


def environment() -> dict[str, str]:
    """That of a command whose `python` is to be this one, also where no environment is active."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path}


def checkpoint_kept(folder: Path, every: str) -> str:
    """What an interrupted training keeps, in words."""
    if checkpoints.kept(folder):
        kept = f"the checkpoint in {folder} ({every}) is kept"
        return f"{kept}, and a training of the same params goes on from it"
    return f"there was no checkpoint yet ({every}), so this training begins anew"


@contextmanager
def running(
    name: str, kept: Callable[[], str], onward: str = "dvc repro", path: Path = PARAMS
) -> Iterator[None]:
    """One run of stage `name`: alone in this folder, timed, and with a last word on Ctrl-C.

    While it runs, a lock is held on `RUNS/<name>.lock`; how many seconds it took with which
    params.yaml is then in `RUNS/<name>.json`, those of interrupted runs that it went on from
    among them. Both serve `python -m pipeline status`. SIGTERM, which a cluster sends, is Ctrl-C.

    Args:
        name: the stage as DVC calls it, such as train_vae@poe-ecg-0
        kept: says after an interruption what is kept and how the next run uses it
        onward: the command that goes on
        path: the params.yaml that the stage reads
    """
    with_params = read_params(path)  # a later edit is the next run's
    _refuse_other_code(name, path)
    note = RUNS / f"{name}.json"
    part = note.with_suffix(".part.json")
    before, began = 0.0, math.inf
    try:
        before = _seconds(part, with_params)
        with _alone(name):
            began = time.monotonic()
            yield
            _write_note(note, name, before + time.monotonic() - began, with_params)
            with suppress(OSError):  # the stage is done, whatever is not noted
                part.unlink(missing_ok=True)
            lockfile.hand_over()
            heed_no_more()
    except BaseException as error:
        if not (isinstance(error, KeyboardInterrupt) or interrupted()):
            if isinstance(error, OSError):  # a full disk, a file that is somebody else's
                fail(f"{name}: {explained(error)}; {kept()}. To go on: {onward}")
            raise
        if began < math.inf:
            _write_note(part, name, before + time.monotonic() - began, with_params)
        told = f"{name}: interrupted; {kept()}. Finished stages are kept. To go on: {onward}"
        print(told, file=sys.stderr)
        raise SystemExit(130) from None


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Hold a stage's lock; one line and exit code 2 if another run of it does."""
    lock = RUNS / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    listen()  # before the lock is there to be seen
    with open(lock, "a", encoding="utf-8") as handle:
        if not _locked(handle):
            fail(f"{name}: already running in this folder; wait for it, or stop it first")
        os.utime(handle.fileno())  # when it began
        lockfile.keep()
        if parent := os.environ.get(PARENT):
            end_with(int(parent))
        yield


def _write_note(to: Path, name: str, seconds: float, params: dict[str, Any]) -> None:
    """Of a note that cannot be written, an older one says what is no longer so."""
    told = {"seconds": round(seconds, 2), "params": params}
    try:
        write_bytes(to, as_json(told, default=str).encode())  # YAML has dates, too
    except OSError as error:
        print(f"{name}: {explained(error)}; how long it took is not noted", file=sys.stderr)
        with suppress(OSError):
            remove(to)


def _refuse_other_code(name: str, params: Path) -> None:
    """End a stage whose code was edited after `check` looked at it in the same run.

    It would be recorded under the digest of before, and stay up to date when the edit is undone.
    """
    file = DATA / params.parent / "checked/code" / Path(name).name.split("@")[0]
    script = getattr(sys.modules["__main__"], "__spec__", None)
    if {"DVC_STAGE", PARENT}.isdisjoint(os.environ) or script is None or not file.exists():
        return  # by hand, so that nothing is recorded
    now = code.digest(script.name, study=code.study_of(sys.argv))
    if file.read_text(encoding="utf-8").strip() != now:
        fail(f"{name}: its code was edited after `check` looked at it; run the same again")


def _seconds(part: Path, params: dict[str, Any]) -> float:
    """What interrupted runs with the same params.yaml took; one with others began anew."""
    record = read_run(part)
    return float(record["seconds"]) if record and record["params"] == params else 0.0


def read_run(path: Path) -> dict[str, Any] | None:
    """What a run noted of itself: its `seconds` and its `params`; None if there is no note.

    One that cannot be read, as after a full disk, is named and deleted; the next run writes it.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (IsADirectoryError, ValueError, RecursionError):
        record = None
    match record:
        case {"seconds": int() | float() as seconds, "params": dict()} if 0 <= seconds < math.inf:
            return record
    remove(path)
    print(f"{path}: damaged, deleted; the stage's next run writes it anew", file=sys.stderr)
    return None


def _locked(handle: TextIO, patience: float = 1.0) -> bool:
    """Try to lock a file, for about a second: `status` holds it an instant to see what runs."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


def read(path: Path, how: Callable[[Path], Found], again: str = "dvc repro") -> Found:
    """What `how` reads from a file; one line and exit code 2 if it is missing or damaged.

    Args:
        again: the command that makes the file.
    """
    try:
        return how(path)
    except FileNotFoundError:
        fail(f"{path}: no such file; `{again}` makes it")
    except Exception as error:  # half a file fails in as many ways as there are formats
        said = str(error).removeprefix(f"{path}: ")
        why = cut(f"{type(error).__name__}: {said}", 100)
        fail(f"{path}: cannot be read ({why}); `{again}` makes it anew")


def read_json(path: Path, again: str = "dvc repro") -> Any:
    """What a JSON file holds, as `read`."""
    return read(path, lambda file: json.loads(file.read_text(encoding="utf-8")), again)


def read_arrays(
    path: Path, names: Iterable[str] | None = None, again: str = "dvc repro"
) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file by name, by default all, as `read`."""

    def arrays(path: Path) -> dict[str, NDArray[Any]]:
        with np.load(path) as file:
            return {name: file[name] for name in (file.files if names is None else names)}

    return read(path, arrays, again)

"""What every stage script needs: its section of params.yaml, where files lie, atomic writes."""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML, YAMLError

from base import checkpoints, lockfile
from base.files import explained, write_bytes, write_json
from base.process import end_with, interrupted, listen

__all__ = [
    "CHECKPOINTS",
    "DATASET",
    "MODALITIES",
    "PARAMS",
    "PARENT",
    "PARTS_KEPT",
    "RUNS",
    "checkpoint_kept",
    "device",
    "environment",
    "fail",
    "read_params",
    "read_run",
    "running",
    "section",
    "valid",
    "whole",
    "workers",
    "write_bytes",
    "write_json",
]

PARAMS = Path("params.yaml")
DATASET = Path("data/shapes3d")
CHECKPOINTS = Path(".cache/checkpoints")  # outside every output: DVC deletes outputs before a run
RUNS = Path(".cache/runs")  # per stage: a lock while it runs, and how long it took
PARENT = "PIPELINE_PARENT"  # in the environment: the process without which a stage ends
PARTS_KEPT = "the parts that were scored are kept, and the next run adds the rest"
MODALITIES = ("image", "depth", "radar")

Section = TypeVar("Section", bound=BaseModel)


def fail(message: str) -> NoReturn:
    """Print one line to stderr and leave with exit code 2."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """The whole of params.yaml as plain data; one line and exit code 2 if it is not YAML."""
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        fail(f"{path}: no such file; run this from the project's root")
    except YAMLError as error:
        fail(f"{path}: not valid YAML: {' '.join(str(error).split())}")
    if not isinstance(raw, dict):
        fail(f"{path}: must be a mapping of sections, is {type(raw).__name__}")
    return raw


def _explain(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> list[str]:
    """One line per mistake against `schema`: the key, the value, what is allowed."""
    lines = []
    for item in error.errors():
        key = ".".join([prefix, *map(str, item["loc"])]).strip(".")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key; there are {', '.join(_keys(schema, item['loc'][:-1]))}"
        shown = "" if isinstance(item["input"], Mapping | BaseModel) else f" = {item['input']!r}"
        lines.append(f"{key}{shown}: {message}".removeprefix(": "))
    return lines


def _keys(schema: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys of the mapping at `location`, a path of keys from `schema` on."""
    for key in location:
        inside = get_args(schema)  # of dict[str, Model], its values' type; no section is optional
        schema = inside[-1] if inside else schema.model_fields[key].annotation
    return [field.alias or name for name, field in schema.model_fields.items()]


def section(name: str, schema: type[Section], path: Path = PARAMS) -> Section:
    """Section `name` of params.yaml as its typed model; one line per mistake and exit code 2."""
    return valid(schema, read_params(path).get(name), path, name)


def whole(schema: type[Section], path: Path = PARAMS) -> Section:
    """All of params.yaml as its typed model; one line per mistake and exit code 2."""
    return valid(schema, read_params(path), path)


def valid(schema: type[Section], raw: Any, path: Path, prefix: str = "") -> Section:
    """What a file holds, or its part under `prefix`, as its typed model; one line per mistake and
    exit code 2."""
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        fail("\n".join(f"{path}: {line}" for line in _explain(error, schema, prefix)))


def device() -> str | None:
    """The device asked for in the environment (DEVICE=cpu, cuda:1); None picks a GPU if any.

    One line and exit code 2 if it cannot be had.
    """
    name = os.environ.get("DEVICE")
    if not name or name == "cpu":
        return name or None
    cuda = re.fullmatch(r"cuda(?::(\d+))?", name)
    if cuda is None:
        fail(f"DEVICE={name}: must be cpu, cuda, or cuda:N for the GPU of that number")
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
    if text is not None and (not text.isdecimal() or int(text) < 1):
        fail(f"WORKERS={text}: must be a whole number of processes, 1 or more")
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
    among them. Both serve `python -m pipeline status`. SIGTERM, which a cluster sends, is treated
    as Ctrl-C.

    Args:
        name: the stage as DVC calls it, such as train_vae@poe-ecg-0
        kept: says after an interruption what is kept and how the next run uses it
        onward: the command that goes on
        path: the params.yaml that the stage reads
    """
    with_params = read_params(path)  # a later edit is the next run's
    lock = RUNS / f"{name}.lock"
    part = lock.with_suffix(".part.json")
    before, began = _seconds(part, with_params), None

    def record(to: Path) -> None:
        if began is not None:
            seconds = round(before + time.monotonic() - began, 2)
            write_json(to, {"seconds": seconds, "params": with_params})

    try:
        listen()  # before the lock is there to be seen
        lock.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, "a") as handle:
            if not _locked(handle):
                fail(f"{name}: already running in this folder; wait for it, or stop it first")
            os.utime(handle.fileno())  # when it began
            began = time.monotonic()
            lockfile.keep()
            if parent := os.environ.get(PARENT):
                end_with(int(parent))
            yield
            record(RUNS / f"{name}.json")
            part.unlink(missing_ok=True)
            lockfile.hand_over()
    except BaseException as error:
        if not (isinstance(error, KeyboardInterrupt) or interrupted()):
            if isinstance(error, OSError):  # a full disk, a file that is somebody else's
                fail(f"{name}: {explained(error)}; {kept()}. To go on: {onward}")
            raise
        record(part)
        print(
            f"{name}: interrupted; {kept()}. Finished stages are kept. To go on: {onward}",
            file=sys.stderr,
        )
        raise SystemExit(130) from None


def _seconds(part: Path, params: dict[str, Any]) -> float:
    """What interrupted runs with the same params.yaml took; one with others began anew."""
    record = read_run(part)
    return float(record["seconds"]) if record and record["params"] == params else 0.0


def read_run(path: Path) -> dict[str, Any] | None:
    """What a run noted of itself: its `seconds` and its `params`; None if there is no note.

    One that cannot be read, as after a full disk, is named and deleted; the next run writes it.
    """
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        record = None
    match record:
        case {"seconds": int() | float() as seconds, "params": dict()} if 0 <= seconds < math.inf:
            return record
    path.unlink(missing_ok=True)
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

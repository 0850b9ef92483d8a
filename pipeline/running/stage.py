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
from typing import Any, NoReturn, TextIO, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import Node

from base import checkpoints, code, lockfile
from base.files import as_json, explained, remove, write_bytes, write_json
from base.process import end_with, heed_no_more, interrupted, listen

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

PARAMS = Path("params.yaml")
DATA, RESULTS = Path("data"), Path("results")
DATASET = DATA / "shapes3d"
CHECKPOINTS = Path(".cache/checkpoints")  # outside every output: DVC deletes outputs before a run
CHECKED = Path("data/checked/code")  # per stage: the digest of its code that `check` wrote
RUNS = Path(".cache/runs")  # per stage: a lock while it runs, and how long it took
PARENT = "PIPELINE_PARENT"  # in the environment: the process without which a stage ends
PARTS_KEPT = "the parts that were scored are kept, and the next run adds the rest"
MISTAKES = 20  # in a params.yaml that are told, a line each

Found = TypeVar("Found")
Section = TypeVar("Section", bound=BaseModel)


def fail(message: str) -> NoReturn:
    """Print one line to stderr and leave with exit code 2."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def cut(text: str, most: int = 60) -> str:
    """A text as a message quotes it: on one line, of at most so many characters."""
    line = " ".join(text[: 10 * most].split())
    return line if len(line) <= most and len(text) <= 10 * most else f"{line[: most - 3]}..."


def shown(value: object) -> str:
    """A value as a message quotes it."""
    try:
        return cut(repr(value))
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return "an integer of thousands of digits"


# --- params.yaml -------------------------------------------------------------------------------


class _Composer(Composer):
    """Reads no alias: nested ones let a few lines stand for more values than memory holds."""

    def compose_node(self, parent: Node | None, index: Any) -> Node:
        if self.parser.check_event(AliasEvent):
            event = self.parser.peek_event()
            problem = f"*{event.anchor} is an alias, which is not read; write the value itself"
            raise ComposerError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _Constructor(SafeConstructor):
    """Names the line of a value that is not what it looks like, such as a date of month 13."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, AttributeError):
            problem = f"{shown(node.value)} cannot be read as {str(node.tag).rsplit(':', 1)[-1]}"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark) from None


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """The whole of a params.yaml as plain data; one line and exit code 2 if it is not YAML."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Constructor = _Composer, _Constructor
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fail(f"{path}: no such file; run this from the project's root")
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        fail(f"{path}: {_wrong(error)}")
    if not isinstance(raw, dict):
        fail(f"{path}: must be a mapping of sections, is {type(raw).__name__}")
    return raw


def _wrong(error: Exception) -> str:
    """Where a text is not YAML, and why."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save it as UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply; sections hold values, lists and sections, a few levels deep"
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return f"line {mark.line + 1}, column {mark.column + 1}: {cut(error.problem, 160)}"
    return f"not YAML: {cut(str(error), 160)}"


def _explain(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> list[str]:
    """One line per mistake against `schema`: the key, the value, what is allowed."""
    lines = []
    mistakes = error.errors()
    for item in mistakes[:MISTAKES]:
        key = cut(".".join([prefix, *map(str, item["loc"])]).strip("."), 120)
        message = cut(item["msg"].removeprefix("Value error, "), 500)
        if item["type"] == "extra_forbidden":
            message = f"unknown key; there are {', '.join(_keys(schema, item['loc'][:-1]))}"
        value = (
            "" if isinstance(item["input"], Mapping | BaseModel) else f" = {shown(item['input'])}"
        )
        lines.append(f"{key}{value}: {message}".removeprefix(": "))
    more = len(mistakes) - MISTAKES
    return [*lines, *([f"{more} more mistakes"] if more > 0 else [])]


def _keys(schema: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys of the mapping at `location`, a path of keys from `schema` on."""
    for key in location:
        inside = get_args(schema)  # of dict[str, Model], its values' type; no section is optional
        schema = inside[-1] if inside else schema.model_fields[key].annotation
    return [field.alias or name for name, field in schema.model_fields.items()]


def section(name: str, schema: type[Section], path: Path = PARAMS) -> Section:
    """Section `name`, such as vae or grid.cells.poe-ecg, of params.yaml as its typed model.

    One line per mistake and exit code 2.
    """
    found: Any = read_params(path)
    for key in name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return valid(schema, found, path, name)


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


class Runs(BaseModel):
    """What of a grid names its runs."""

    model_config = ConfigDict(strict=True)

    cells: dict[str, dict[str, Any]] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)


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
    _refuse_other_code(name)
    lock = RUNS / f"{name}.lock"
    part = lock.with_suffix(".part.json")
    before, began = 0.0, None

    def record(to: Path) -> None:
        """Of a note that cannot be written, an older one says what is no longer so."""
        if began is None:
            return
        seconds = round(before + time.monotonic() - began, 2)
        told = {"seconds": seconds, "params": with_params}
        try:
            write_bytes(to, as_json(told, default=str).encode())  # YAML has dates, too
        except OSError as error:
            print(f"{name}: {explained(error)}; how long it took is not noted", file=sys.stderr)
            with suppress(OSError):
                remove(to)

    try:
        before = _seconds(part, with_params)
        lock.parent.mkdir(parents=True, exist_ok=True)
        listen()  # before the lock is there to be seen
        with open(lock, "a", encoding="utf-8") as handle:
            if not _locked(handle):
                fail(f"{name}: already running in this folder; wait for it, or stop it first")
            os.utime(handle.fileno())  # when it began
            began = time.monotonic()
            lockfile.keep()
            if parent := os.environ.get(PARENT):
                end_with(int(parent))
            yield
            record(RUNS / f"{name}.json")
            with suppress(OSError):  # the stage is done, whatever is not noted
                part.unlink(missing_ok=True)
            lockfile.hand_over()
            heed_no_more()
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


def _refuse_other_code(name: str) -> None:
    """End a stage whose code was edited after `check` looked at it in the same run.

    It would be recorded under the digest of before, and stay up to date when the edit is undone.
    """
    file = CHECKED / name.split("@")[0]
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

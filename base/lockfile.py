"""dvc.lock stays whole, and what a stage has finished gets into it.

DVC writes dvc.lock in place, for a third of a second and more. What kills DVC meanwhile leaves the
first part of it, and all stages behind that part would run again. So whoever sees a whole one keeps
a copy (`keep`): our commands, and each stage as it starts, when DVC has recorded all before it. Our
commands put together a cut one (`mend`): the copy, and over it the stages that the cut one has
whole. Lost is the stage that was being recorded, if its entry was behind the cut; DVC's cache of
runs and our checkpoints have what that one made.

Only lines that DVC wrote are put back, and DVC compares every entry with the files, as ever: one
that is out of date makes its stage run, and no stage pass.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from base.files import write_bytes

__all__ = ["WAITS", "cut", "hand_over", "holder", "keep", "mend"]

WAITS = "another DVC command must end before it is recorded"
TEMPORARY = Path(".dvc/tmp")
COPIES = TEMPORARY / "whole"
HEAD = "schema: '2.0'\nstages:\n"
STAGE = re.compile(r"^  (\S.*):\n((?:(?:    .*)?\n)+)", re.MULTILINE)
END = re.compile(  # of a stage: its last output
    r"\n    outs:\n(?:[ -]{6}\S.*\n)*"
    r"      md5: [0-9a-f]{32}(\.dir)?\n      size: \d+\n(?(1)      nfiles: \d+\n)"
    r"(?:      isexec: true\n)?\Z"
)
CONFLICT = re.compile(r"^(<{7}|>{7})( |$)", re.MULTILINE)  # of git


def cut(lock: Path) -> bool:
    """Whether a dvc.lock is there, but not to its end: DVC writes it now, or was killed."""
    return lock.exists() and _is_cut(lock, _read(lock))


def keep() -> None:
    """Keep a copy of every dvc.lock of the project that is whole.

    What cannot be kept, as on a full disk, is no error: a copy is for the worst.
    """
    if not Path(".dvc").is_dir():
        return
    with contextlib.suppress(OSError), _alone(COPIES / "lock"):
        for lock in _locks():
            text = _read(lock)
            if text != _read(COPIES / lock) and _is_whole(text) and not _is_cut(lock, text):
                write_bytes(COPIES / lock, text.encode())


def mend() -> None:
    """Put back every dvc.lock that a killed DVC has left cut off, with one line about each.

    A DVC that is writing one is waited for. What it lists of files in use goes if it is cut off:
    every later DVC command would refuse it.
    """
    if not Path(".dvc").is_dir():
        return
    if any(map(cut, _locks())):
        with _alone(TEMPORARY / "lock"):  # DVC's own: who has it writes
            for lock in filter(cut, _locks()):
                _put_back(lock)
    busy = TEMPORARY / "rwlock"
    if not _is_json(busy):
        with _alone(busy.with_suffix(".lock")):
            if not _is_json(busy):
                busy.unlink()
                print(f"{busy}: cut off by a kill; deleted", file=sys.stderr)
    keep()


def hand_over() -> None:
    """At the end of a stage that DVC runs: wait until DVC can record it.

    DVC lets go of its lock while a stage runs. Then it waits for 3 seconds for others that have it,
    fails, and forgets the stage. Here they are waited for; the lock is free as this process ends,
    when DVC takes it at once.
    """
    if "DVC_STAGE" not in os.environ or not (TEMPORARY / "lock").exists():
        return
    lock = os.open(TEMPORARY / "lock", os.O_RDONLY)  # until this process is gone
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stage = os.environ["DVC_STAGE"]
        print(f"{stage}: done; {WAITS}", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def holder() -> int | None:
    """The process that has DVC's lock, or had it last; None if none had."""
    try:
        return int((TEMPORARY / "lock").read_text())
    except (FileNotFoundError, ValueError):
        return None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _locks() -> list[Path]:
    return [*Path().glob("dvc.lock"), *Path().glob("studies/*/dvc.lock")]


def _read(path: Path) -> str:
    """Its text, also where a cut went through a character; none if it is not there.

    Lines end as DVC ends them, though an editor or git may have made it CRLF.
    """
    try:
        return path.read_bytes().decode(errors="replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return ""


def _stages(text: str) -> dict[str, str]:
    """The lines of every stage that is there to its end, by name."""
    found = STAGE.finditer(text)
    return {one[1]: one[0] for one in found if END.search(one[0])}


def _is_whole(text: str) -> bool:
    stages = _stages(text)
    return bool(stages) and text == HEAD + "".join(stages.values())


def _is_cut(lock: Path, text: str) -> bool:
    """Whether it ends where no stage ends, or, where one may end, lacks what the copy has behind.

    DVC drops nothing; a person may have taken an older file from git, which git then knows. A merge
    that is not resolved is that person's, too.
    """
    if CONFLICT.search(text):
        return False
    if not END.search(text):
        return True
    has, had = _stages(text), _stages(_read(COPIES / lock))
    if list(has) != list(had)[: len(has)]:
        return False
    name, last = next(reversed(has.items()))
    shorter = last != had[name] and had[name].startswith(last)
    return (len(has) < len(had) or shorter) and not _is_gits(lock)


def _git(*words: str) -> bytes | None:
    """What git prints; None where it fails, or is not on this machine."""
    try:
        return subprocess.run(["git", *words], capture_output=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


def _is_gits(lock: Path) -> bool:
    return _git("diff", "--exit-code", "--", str(lock)) is not None


def _put_back(lock: Path) -> None:
    """The last copy, or the last commit's where there is none, and what the cut one has whole."""
    committed = _git("show", f"HEAD:./{lock}") or b""
    stages = _stages(_read(COPIES / lock) or committed.decode(errors="replace"))
    text = _read(lock)
    found = _stages(text)
    if END.search(text):
        found.popitem()  # one of its outputs may be the last that was written
    stages |= found
    content = HEAD + "".join(stages.values()) if stages else ""
    write_bytes(lock, content.encode())
    print(f"{lock}: cut off by a kill; put back, with {len(stages)} stages", file=sys.stderr)


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except FileNotFoundError:
        return True
    except ValueError:
        return False

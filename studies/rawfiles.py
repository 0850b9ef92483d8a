"""Files that come from elsewhere: named one by one, checked, fetched where that is possible."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from base.progress import Progress

__all__ = ["RawFile", "RawFileError", "provide"]


MEGABYTE = 1_000_000


class RawFileError(Exception):
    """Files that are missing, truncated or not what they should be; a line for each."""


@dataclass(frozen=True)
class RawFile:
    """A published file.

    Attributes:
        path: where it goes, below the folder of raw data.
        size: bytes.
        checksum: `md5:` or `sha256:` and hexadecimal digits; fewer digits than a whole digest
            are a prefix, as PyTorch publishes them.
        urls: where it is published; may be empty.
        about: the size is published rounded, so that the checksum alone decides.
    """

    path: str
    size: int
    checksum: str
    urls: tuple[str, ...] = ()
    about: bool = False

    def problem(self, folder: Path) -> str:
        """What is wrong with the file in `folder`; empty if nothing is."""
        path = folder / self.path
        if not path.is_file():
            about = "about " if self.about else ""
            return f"{path}: missing; {about}{self.size:,} bytes, {self.checksum}"
        wrong = self.wrong(path)
        return f"{path}: refused, {wrong}" if wrong else ""

    def wrong(self, path: Path) -> str:
        """How the file that is at `path` differs from the published one; empty if it does not."""
        if path.stat().st_size != self.size and not self.about:
            return (
                f"{path.stat().st_size:,} bytes where {self.size:,} are expected "
                f"(truncated, or another file); {self.checksum}"
            )
        kind, expected = self.checksum.split(":")
        found = _digest(path, kind)
        if not found.startswith(expected):
            return f"its {kind} is {found}, expected {expected}"
        return ""

    def where(self) -> str:
        """Where to get it, for a message."""
        return f"; published at {self.urls[0]}" if self.urls else ""


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def provide(files: Sequence[RawFile], folder: Path, download: bool) -> None:
    """Make sure that every file is in `folder` and right, downloading missing ones if allowed.

    Raises:
        RawFileError: a line per file that is missing (its size, where it goes, its checksum) or
            wrong (why). A wrong file is never replaced, and none is left half-written.
    """
    lines = []
    for file in files:
        note = ""
        if download and not (folder / file.path).exists():
            note = _fetch(file, folder)
        if problem := file.problem(folder):
            lines.append(problem + file.where() + note)
    if lines:
        raise RawFileError("\n".join(lines))


def _copy(source: IO[bytes], out: IO[bytes], file: RawFile) -> None:
    """Copy a download, showing how many of its megabytes are there."""
    whole = -(-file.size // MEGABYTE)
    bar, done = Progress(whole, f"{Path(file.path).name}, MB"), 0
    while part := source.read(MEGABYTE):
        done += out.write(part)
        bar.reach(min(-(-done // MEGABYTE), whole))
    bar.close()


def _fetch(file: RawFile, folder: Path) -> str:
    """Try the file's addresses; why it failed, or nothing."""
    target = folder / file.path
    beside = target.with_name(f"{target.name}.{os.getpid()}.partial")
    reason = "; no address is known" if not file.urls else ""
    for url in file.urls:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(url, timeout=20) as answer, beside.open("wb") as out:
                _copy(answer, out, file)
            # A connection that drops ends like a file that ends.
            if wrong := file.wrong(beside):
                reason = f"; what was downloaded was removed: {wrong}"
                continue
            os.replace(beside, target)
            return ""
        # URLError, timeouts and a full disk among the first.
        except (OSError, HTTPException) as error:
            reason = f"; could not be downloaded ({error})"
        finally:
            beside.unlink(missing_ok=True)
    return reason

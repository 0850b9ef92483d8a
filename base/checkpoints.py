"""What long work keeps of itself while it runs, under a fingerprint of all that decides it.

A piece of work has a folder of its own. In it, a folder named by the fingerprint holds files that
begin with a SHA-256 of the fingerprint, their name and the rest: what a kill, a full disk or a
flipped bit has damaged is known, and so is what was copied there from under another name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from base.files import remove, write_bytes

__all__ = ["Checkpoints", "fingerprint", "kept"]

ENDING = ".checkpoint"
SIZE = hashlib.sha256().digest_size
NAME = re.compile(r"[0-9a-f]{32}")  # of a fingerprint: what a user puts beside it stays


def fingerprint(decides: Any, arrays: Mapping[str, NDArray[Any]] | None = None) -> str:
    """32 hex digits that name what a piece of work depends on.

    Args:
        decides: settings, versions and digests of code, as JSON can hold them.
        arrays: data by name; type, shape and every value count.
    """
    found = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode())
    for name, values in sorted((arrays or {}).items()):
        found.update(f"{name} {values.shape} {values.dtype}".encode())
        found.update(np.ascontiguousarray(values).data)
    return found.hexdigest()[:32]


def kept(folder: Path) -> bool:
    """Whether a piece of work has left checkpoints in its folder."""
    return any(folder.glob(f"*/*{ENDING}"))


class Checkpoints:
    """The checkpoints of one piece of work.

    Those of another fingerprint stay until the first of this one is written, and then go.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder, self._mine = Path(folder), Path(folder) / fingerprint

    def names(self) -> list[str]:
        """The names of those that are there, damaged ones among them."""
        return sorted(path.name.removesuffix(ENDING) for path in self._mine.glob(f"*{ENDING}"))

    def save(self, name: str, content: bytes) -> None:
        """Keep this content under a name, in place of what was under it.

        Raises:
            OSError: names the file; what was under the name is still there.
        """
        for place in (self.folder, self._mine):
            if place.exists() and not place.is_dir():
                _drop(place)
        if self._path(name).is_dir():
            _drop(self._path(name))
        write_bytes(self._path(name), self._digest(name, content) + content)
        self._forget_others()

    def load(self, name: str) -> bytes | None:
        """The content under a name; None if there is none, or none that is whole.

        A damaged file is named and deleted, so that the work begins anew and not in vain again.
        """
        path = self._path(name)
        try:
            whole = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            whole = b""
        content = whole[SIZE:]
        if self._digest(name, content) == whole[:SIZE]:
            return content
        _drop(path)
        return None

    def clear(self) -> None:
        """The work is done: forget all of its checkpoints."""
        for folder in self._folders():
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # a user's own file is in it
            self.folder.rmdir()

    def _digest(self, name: str, content: bytes) -> bytes:
        found = hashlib.sha256(f"{self._mine.name}/{name}\n".encode())
        found.update(content)
        return found.digest()

    def _path(self, name: str) -> Path:
        return self._mine / f"{name.replace('/', '-')}{ENDING}"

    def _folders(self) -> list[Path]:
        return [path for path in self.folder.glob("*") if NAME.fullmatch(path.name)]

    def _forget_others(self) -> None:
        for other in self._folders():
            if other != self._mine:
                shutil.rmtree(other, ignore_errors=True)


def _drop(path: Path) -> None:
    """Name and delete what is no checkpoint, or no folder of them."""
    remove(path)
    print(f"{path}: damaged, deleted; what it held is made anew", file=sys.stderr)

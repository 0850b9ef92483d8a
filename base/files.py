"""Files that are whole or absent, whatever kills the process that writes them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PARTIAL",
    "as_json",
    "explained",
    "json_bytes",
    "npy_bytes",
    "npz_bytes",
    "remove",
    "sha256_file",
    "write_bytes",
    "write_json",
]

PARTIAL = ".partial"  # the ending of what a killed write leaves; git and DVC ignore it


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside `path`, onto the disk, then in its place.

    Of several that write the same file at once, each does so in turn.

    Raises:
        OSError: names `path`, as when the disk is full; what was there before is still there.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(partial) as file:
            try:
                file.truncate(0)  # of what a killed write has left
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                os.replace(partial, path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from None


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[BinaryIO]:
    """The file beside the one to write, for this writer alone."""
    while True:
        with open(partial, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(partial, file):  # else who had it has put it in its place
                yield file
                return


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def remove(path: Path) -> None:
    """Delete a file, or a folder with all in it; nothing if neither is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def explained(error: OSError) -> str:
    """What went wrong with which file, as in `data/x.npz: No space left on device`."""
    return f"{error.filename or 'a file'}: {error.strerror or error}"


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    write_bytes(path, json_bytes(content))


def json_bytes(content: Any) -> bytes:
    """A JSON file's content, with a final newline (it is kept in git)."""
    return (as_json(content, indent=1) + "\n").encode()


def as_json(content: Any, **how: Any) -> str:
    """Plain data as JSON, which has no NaN and no infinity: such a figure, undefined, is null.

    Args:
        how: options of `json.dumps`.
    """
    return json.dumps(_defined(content), allow_nan=False, **how)


def _defined(content: Any) -> Any:
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {key: _defined(value) for key, value in content.items()}
    return [*map(_defined, content)] if isinstance(content, list | tuple) else content


def npy_bytes(array: NDArray[Any]) -> bytes:
    """The array as the bytes of a .npy file."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the bytes of a compressed .npz file, the same for the same arrays."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Stage `lists`: a digest of CUB's captions and split, which have no checksum of their own.

It runs each time and takes a second or two: DVC cannot depend on files that may not be there yet,
and features and captions must not outlive the files that they were read from.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline import stage
from studies.cub.params import DataParams
from studies.study import CUB

__all__ = ["FILE", "digest", "main"]

FILE = CUB.data / "lists"
LISTED = ("testclasses.txt", "cub/text_*classes.txt", "text_c10/*/*.txt")


def digest(folder: Path) -> str:
    """The sha256 of the names and contents of all caption files and lists in `folder`."""
    total = hashlib.sha256()
    for path in sorted(path for pattern in LISTED for path in folder.glob(pattern)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{content} {path.relative_to(folder)}\n".encode())
    return total.hexdigest()


def main() -> None:
    """Write the digest, or a constant where the scenes are asked for."""
    params = CUB.section("data", DataParams)
    said = digest(Path(params.folder)) if params.source == "files" else params.source
    stage.write_bytes(FILE, f"{said}\n".encode())


if __name__ == "__main__":
    with CUB.running("lists", lambda: "nothing was begun"):
        main()

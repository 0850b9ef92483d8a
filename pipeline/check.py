"""Stage `check`: validate the whole of params.yaml before any other stage touches anything.

DVC deletes a stage's outputs before it runs its command, so a stage that refuses its own params
has already lost its last result. Every other stage depends on this one's constant output instead.
"""

from __future__ import annotations

from pathlib import Path

from pipeline import params
from pipeline.stage import write_bytes

__all__ = ["main"]


def main() -> None:
    """Check params.yaml, then write a file that is the same for every valid params.yaml."""
    params.load()
    write_bytes(Path("data/checked"), b"params.yaml is valid\n")


if __name__ == "__main__":
    main()

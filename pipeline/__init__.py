"""Running the study: params, one module per DVC stage, scores, report."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["interrupted", "listen"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what a cluster sends to say the same
_came: set[int] = set()


def listen() -> None:
    """From here on both signals raise KeyboardInterrupt, where they are not ignored."""
    _came.clear()
    _answer(_interrupt)


def interrupted() -> bool:
    """Whether one came since then: C++ code may turn its KeyboardInterrupt into another error."""
    return bool(_came)


def _interrupt(kind: int, frame: FrameType | None) -> None:
    _came.add(kind)
    signal.default_int_handler(kind, frame)


def _answer(handler: Callable[[int, FrameType | None], Any]) -> None:
    for kind in SIGNALS:
        if signal.getsignal(kind) is not signal.SIG_IGN:
            signal.signal(kind, handler)


def _starting(*_: object) -> None:
    asked = " ".join(sys.orig_argv[2:])
    told = f"{asked}: interrupted as it started; nothing is lost, and the same command goes on\n"
    os.write(sys.stderr.fileno(), told.encode())
    os._exit(130)


# `python -m pipeline.STAGE` imports for seconds before anything can be interrupted or lost; Python
# names a module it is still looking for so.
if sys.argv[0] == "-m":
    _answer(_starting)

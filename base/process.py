"""Signals, and child processes that end with their parent."""

from __future__ import annotations

import atexit
import io
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = [
    "SIGNALS",
    "end_child_with_parent",
    "end_with",
    "heed_no_more",
    "interrupted",
    "listen",
    "open_streams",
    "start",
]

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what a cluster sends to say the same
_came: set[int] = set()


def listen() -> None:
    """From here on both signals raise KeyboardInterrupt, where they are not ignored."""
    _came.clear()
    _answer(_interrupt)


def interrupted() -> bool:
    """Whether one came since then: C++ code may turn its KeyboardInterrupt into another error."""
    return bool(_came)


def heed_no_more() -> None:
    """As this process ends, signals are ignored: its work is done, and its exit code says so.

    Libraries take a while to go, in which a signal would make a failure of what has succeeded.
    """
    atexit.register(_answer, signal.SIG_IGN)


def start() -> None:
    """What `python -m MODULE` does first, before its imports, which take seconds.

    Standard streams are opened. Until `listen`, a signal ends this process with one line and exit
    code 130: nothing can be lost so early.
    """
    open_streams()
    _answer(_starting)


def end_child_with_parent() -> None:
    """Prepare a child of `multiprocessing`: a signal ends it without a word, as does its parent's
    end, which a process pool's worker outlives when the parent is killed."""
    for kind in SIGNALS:
        signal.signal(kind, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def end_with(parent: int) -> None:
    """Interrupt this process once `parent`, the one that began it, is gone: a killed parent records
    nothing, and whoever goes on would begin the same work a second time."""
    threading.Thread(target=_interrupt_with, args=(parent,), daemon=True).start()


def open_streams() -> None:
    """Standard streams that are there and take any text: closed ones lead nowhere, and what is
    written is UTF-8 whatever the locale says."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    atexit.register(_flush)


def _flush() -> None:
    """Whoever read what is printed may have gone: `... | head` is no error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _interrupt(kind: int, frame: FrameType | None) -> None:
    _came.add(kind)
    signal.default_int_handler(kind, frame)


def _answer(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> None:
    for kind in SIGNALS:
        if signal.getsignal(kind) is not signal.SIG_IGN:
            signal.signal(kind, handler)


def _starting(*_: object) -> None:
    asked = " ".join(sys.orig_argv[2:])
    told = f"{asked}: interrupted as it started; nothing is lost, and the same command goes on\n"
    os.write(sys.stderr.fileno(), told.encode())
    os._exit(130)


def _exit_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _interrupt_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)

"""Signals that wait until what is half done is done."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from base.process import SIGNALS

__all__ = ["STOPS", "patient", "told"]

STOPS = (*SIGNALS, signal.SIGHUP)  # SIGHUP: the terminal was closed
told = threading.Event()  # a signal came, while `patient`


@contextlib.contextmanager
def patient() -> Iterator[threading.Event]:
    """Signals set `told`, and become a KeyboardInterrupt only when this ends.

    What is half done then is done first: recorded, where a stage had just finished. DVC writes
    dvc.lock in place, and leaves it cut off where it is interrupted.
    """
    told.clear()
    shown = [one for one in (1, 2) if os.isatty(one)]

    def heard(kind: int, _: object) -> None:
        told.set()
        if kind == signal.SIGHUP:  # to write to a terminal that was closed is an error
            silent = os.open(os.devnull, os.O_WRONLY)
            for one in shown:
                os.dup2(silent, one)

    before = {kind: signal.getsignal(kind) for kind in STOPS}
    for kind, handler in before.items():
        if handler is not signal.SIG_IGN:  # as in the background of a shell, or under nohup
            signal.signal(kind, heard)
    try:
        yield told
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if told.is_set():
        raise KeyboardInterrupt

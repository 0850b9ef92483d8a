"""Progress of long work: a bar in a terminal, a plain line every ten seconds in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

__all__ = ["Progress"]


class Progress:
    """Counts to `total` on standard error; a context manager.

    Args:
        total: how many units there are.
        label: what is being done.
        unit: the plural of what is counted, as in "scenes".
        done: how many were finished before.
        shown: False writes nothing.
        every: seconds between two lines in a log; the last unit always has its line.
    """

    def __init__(
        self,
        total: int,
        label: str,
        unit: str = "",
        *,
        done: int = 0,
        shown: bool = True,
        every: float = 10.0,
    ) -> None:
        self.total, self.label, self.unit, self.every = total, label, unit, every
        self.done = self.first = done
        self._lines = shown and not sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            desc=label,
            unit=f" {unit}" if unit else "it",
            initial=done,
            disable=not shown or self._lines,
            dynamic_ncols=True,
        )
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal clean."""
        self._bar.close()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units; `note` stands behind the figures."""
        self.reach(self.done + count, note)

    def reach(self, done: int, note: str = "") -> None:
        """`done` units are finished in all."""
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self.done)
        self.done = done
        now = time.monotonic()
        if self._lines and (now - self._told >= self.every or self.done >= self.total):
            self._told = now
            print(self._line(now, note), file=sys.stderr, flush=True)

    def _line(self, now: float, note: str) -> str:
        rate = (self.done - self.first) / max(now - self._began, 1e-9)
        pace = f"{rate:.1f}/s" if rate > 0.5 else f"{1 / max(rate, 1e-9):.0f} s each"
        left = (self.total - self.done) / max(rate, 1e-9)
        counted = f"{self.done}/{self.total} {self.unit}".rstrip()
        return ", ".join(
            filter(None, [f"{self.label}: {counted}", pace, f"{left:.0f} s left", note])
        )

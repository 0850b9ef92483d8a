"""Progress of long work: a bar in a terminal, a plain line now and then in a log."""

__all__ = ["Progress"]

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm


class Progress:
    """Counts `total` steps; a context manager. Writes to stderr, or nowhere if not `shown`.

    In a log a line appears at most every `every` seconds, and at the end.
    """

    def __init__(
        self, total: int, label: str, shown: bool = True, done: int = 0, every: float = 10.0
    ) -> None:
        self.total, self.label, self.every = total, label, every
        self.done = self.first = done
        self.lines = shown and not sys.stderr.isatty()
        self.bar = tqdm(
            total=total,
            desc=label,
            initial=done,
            disable=not shown or self.lines,
            dynamic_ncols=True,
        )
        self.started = self.spoken = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more; `note` stands behind the figures."""
        self.done += steps
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(steps)
        now = time.monotonic()
        if self.lines and (now - self.spoken >= self.every or self.done >= self.total):
            self.spoken = now
            print(self._line(now, note), file=sys.stderr, flush=True)

    def _line(self, now: float, note: str) -> str:
        rate = (self.done - self.first) / max(now - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else 0.0
        text = f"{self.label}: {self.done}/{self.total}, {rate:.1f}/s, {left:.0f} s left"
        return f"{text}, {note}" if note else text

"""A progress bar in a terminal; a plain line every ten seconds in a log."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

__all__ = ["Progress"]


class Progress:
    """Counts steps; says how fast and how long still."""

    def __init__(self, total: int, start: int, title: str, show: bool) -> None:
        self.total, self.start, self.title = total, start, title
        self.show, self.terminal = show, sys.stderr.isatty()
        self.began = self.said = time.monotonic()
        hidden = not (show and self.terminal)
        self.bar = tqdm(total=total, initial=start, desc=title, disable=hidden)

    def update(self, step: int, note: str = "") -> None:
        """`step` steps are done."""
        self.bar.set_postfix_str(note, refresh=False)
        self.bar.update(step - self.bar.n)
        now = time.monotonic()
        if self.show and not self.terminal and (now - self.said >= 10 or step == self.total):
            self.said = now
            rate = (step - self.start) / max(now - self.began, 1e-9)
            left = (self.total - step) / max(rate, 1e-9)
            text = (
                f"{self.title}: {step}/{self.total}, {rate:.1f} steps/s, {left:.0f} s left {note}"
            )
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal clean."""
        self.bar.close()

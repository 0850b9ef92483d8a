"""What tests of stages side by side share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.running.patience import STOPS


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def heeding() -> Iterator[None]:
    """Every signal to stop is a KeyboardInterrupt, also where a background's shell ignores it."""
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in STOPS}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)

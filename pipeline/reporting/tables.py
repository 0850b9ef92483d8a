"""Tables as files that a spreadsheet reads, and learning curves as they are logged."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["as_csv", "points"]


def as_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None) -> str:
    """The rows as CSV, figures to four decimals; an unknown one is empty.

    Args:
        columns: keys to write, in this order; if left out, all of the first row's.
    """
    text = io.StringIO()
    writer = csv.DictWriter(
        text, columns or list(rows[0]), lineterminator="\n", extrasaction="ignore"
    )
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _shown(value) for name, value in row.items()})
    return text.getvalue()


def points(path: Path) -> list[tuple[int, float]]:
    """A learning curve: (step, value) of each row of `TERM.tsv`."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [(int(row["step"]), float(row[path.stem])) for row in rows]


def _shown(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 4) if math.isfinite(value) else None

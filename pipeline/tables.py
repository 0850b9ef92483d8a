"""Tables as files that a spreadsheet reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

__all__ = ["as_csv"]


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
        writer.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()

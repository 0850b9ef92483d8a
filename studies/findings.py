"""The paper's qualitative findings, looked for in a study's own table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from studies.table import Row

__all__ = ["Finding", "findings"]

MENDS = ("ecg", "lcd", "rmd")  # objectives for cross generation; the fusion rce needs none
FAILS = 0.6  # a direction fails below this share of the best row's
MENDED = 0.15  # what the weaker direction's share must gain over no cross generation
LOSES = 10.0  # points by which a mean gain must be below the median of the others'

Shares = dict[str, dict[str, float]]  # cell -> direction -> share


@dataclass(frozen=True)
class Finding:
    """What the paper says, whether it holds here (None: cannot be told), and the figures."""

    claim: str
    holds: bool | None
    figures: str


def findings(
    rows: Sequence[Row], cross: tuple[str, str], synergy: tuple[str, str]
) -> list[Finding]:
    """Each claim of the paper with a verdict from the table's own figures.

    A row's *share* in a direction is its figure over the best row's in that direction; a row that
    lacks one has no say in what is generated.

    Args:
        cross, synergy: keys of the two directions and of the two gains.
    """
    whole = [row for row in rows if all(row[key] is not None for key in cross)]
    shares = _shares(whole, cross)
    weaker = {cell: min(each.values()) for cell, each in shares.items()}
    plain = [r for r in whole if r["objective"] == "none" and r["fusion"] in ("poe", "bce", "rbcm")]
    mends = [r for r in whole if r["objective"] in MENDS or _name(r) == "rce"]
    names = dict.fromkeys(_name(row) for row in mends)
    return [
        _fails(plain, shares),
        *(_mended(plain, [r for r in mends if _name(r) == name], weaker, name) for name in names),
        _loses_synergy(rows, synergy),
    ]


def _name(row: Row) -> str:
    return str(row["fusion"] if row["objective"] == "none" else row["objective"])


def _shares(rows: Sequence[Row], cross: tuple[str, str]) -> Shares:
    best = {key: max((float(row[key]) for row in rows), default=0.0) for key in cross}
    return {
        row["cell"]: {key: float(row[key]) / best[key] if best[key] > 0 else 0.0 for key in cross}
        for row in rows
    }


def _listed(shares: dict[str, float], rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['cell']} {shares[row['cell']]:.2f}" for row in rows)


def _fails(plain: Sequence[Row], shares: Shares) -> Finding:
    claim = "Without cross generation, at least one of the two directions fails."
    if not plain:
        return Finding(claim, None, "no row of poe, bce or rbcm without cross generation")
    told = []
    for row in plain:
        own = shares[row["cell"]]
        figures = ", ".join(f"{key.removeprefix('cross_')} {own[key]:.2f}" for key in own)
        count = sum(share < FAILS for share in own.values())
        told.append(f"{row['cell']} {figures} ({('none fails', 'one fails', 'both fail')[count]})")
    holds = all(min(shares[row["cell"]].values()) < FAILS for row in plain)
    return Finding(claim, holds, f"what is generated, over the best row’s: {'; '.join(told)}")


def _mended(
    plain: Sequence[Row], rows: Sequence[Row], weaker: dict[str, float], name: str
) -> Finding:
    claim = f"{name} mends it."
    if not plain:
        return Finding(claim, None, "nothing without cross generation to compare with")
    base = max(weaker[row["cell"]] for row in plain)
    holds = all(weaker[row["cell"]] > base + MENDED for row in rows)
    return Finding(claim, holds, f"{_listed(weaker, rows)}, against {base:.2f} without")


def _loses_synergy(rows: Sequence[Row], synergy: tuple[str, str]) -> Finding:
    claim = (
        f"moe loses synergy: its mean gain is the least, {LOSES:.0f} points or more below the "
        "others’ median."
    )
    gains: dict[str, float] = {}
    of: dict[bool, list[float]] = {True: [], False: []}  # moe's, and the others'
    for row in rows:
        values = [float(row[key]) for key in synergy if row[key] is not None]
        if len(values) == len(synergy):
            gains[row["cell"]] = sum(values) / len(values)
            of[row["fusion"] == "moe"].append(gains[row["cell"]])
    if not all(of.values()):
        return Finding(claim, None, "no gain of moe and of another row is defined")
    figures = ", ".join(f"{cell} {value:+z.1f} %" for cell, value in gains.items())
    figures += "; moe decodes both from one modality, the best on training pairs"
    moe, others = min(of[True]), of[False]
    holds = moe < min(others) and moe <= statistics.median(others) - LOSES
    return Finding(claim, holds, figures)

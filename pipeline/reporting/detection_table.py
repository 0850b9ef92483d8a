"""Which method tells which of its sensors lies, and what leaving that one out is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from models.params import RATES
from pipeline.reporting.fault_table import (
    Figures,
    Row,
    figure,
    over_targets,
    sensors_of,
    shared_targets,
    shown_between,
)
from pipeline.reporting.table import differ
from pipeline.scoring.bootstrap import Values, known, mean
from pipeline.scoring.metrics import DETECTED
from pipeline.scoring.params import FaultParams

__all__ = ["as_markdown", "beside", "measured", "summarise"]

ALL = "all"  # stands for every kind of fault
TOLD = ["auroc", *(f"{what}-{rate}" for rate in RATES for what in ("found", "named", "misled"))]


def measured(figures: Figures) -> bool:
    """Whether they say what a method tells of its sensors; older ones do not."""
    return any(name.startswith("auto-clean/") for name in figures)


def beside(figures: Figures, condition: str, target: str) -> Row:
    """What stands beside a condition's figure: that of automatic rejection, and TOLD."""
    if not measured(figures):
        return {}
    told = {key: known(figures[f"detect-{condition}/{key}"][0]) for key in TOLD}
    auto, all_in = (figures[f"{prefix}{condition}/{target}"] for prefix in ("auto-", ""))
    return {
        "auto": known(auto[0]),
        "auto_clean": known(figures[f"auto-clean/{target}"][0]),
        **figure("gain", auto - all_in),
        **told,
    }


def _summary(
    figures: Figures, targets: Sequence[str], cases: Sequence[tuple[str, str, float]]
) -> Row:
    """Means over targets and cases (sensor, kind, severity), on the same resamples."""
    names = ["/".join(map(str, case)) for case in cases]

    def headline(condition: str) -> Values:
        return over_targets(figures, condition, targets)

    faulty, auto = (mean([headline(p + n) for n in names]) for p in ("", "auto-"))
    oracle = mean([headline(f"without-{sensor}") for sensor, _, _ in cases])
    clean, without_alarms = (headline(f"{p}clean") for p in ("", "auto-"))
    gain = oracle - faulty
    share: Values = np.divide(
        100 * (auto - faulty), gain, out=np.full_like(gain, np.nan), where=gain > 0
    )
    row = {"clean": clean, "faulty": faulty, "auto": auto, "oracle": oracle, "gained": share}
    row |= {
        "lost": clean - without_alarms,
        "false_alarms": figures[f"detect-clean/named-{RATES[0]}"],
    }
    row |= {key: mean([figures[f"detect-{name}/{key}"] for name in names]) for key in TOLD}
    return {k: v for name, values in row.items() for k, v in figure(name, values).items()}


def summarise(
    cells: Mapping[str, tuple[str, str]], figures: Mapping[str, Figures], faults: FaultParams
) -> list[Row]:
    """One row per method, severity and kind of fault, and `all` kinds; methods measured alone.

    `auroc`, `found-RATE`, `named-RATE` and `misled-RATE` are means over the faulty sensors of what
    `pipeline/scoring/detection.py` says. `faulty`, `auto`, `oracle` and `clean` are the headline
    with all sensors, with those left out that the model flags, with the faulty one left out, and
    with no fault; `gained` is what `auto` has of the oracle's gain, in percent; `lost` what false
    alarms cost where no sensor is faulty. Targets are the sensors that all methods have.
    """
    targets = shared_targets(figures[cell] for cell in cells)
    return [
        {
            "cell": cell,
            "fusion": fusion,
            "objective": objective,
            "sensors": "+".join(sensors_of(figures[cell])),
            "kind": kind,
            "severity": severity,
            **_summary(
                figures[cell],
                targets,
                list(
                    product(
                        sensors_of(figures[cell]),
                        faults.kinds if kind == ALL else [kind],
                        [severity],
                    )
                ),
            ),
        }
        for cell, (fusion, objective) in cells.items()
        if measured(figures[cell])
        for severity in faults.severities
        for kind in [ALL, *faults.kinds]
    ]


def as_markdown(rows: Sequence[Row], headline: str) -> str:
    """The rows of all kinds for people; nothing where no method was measured."""
    if not rows:
        return ""
    rate = f"{100 * RATES[0]:g} %"
    names = ["objective", "fusion"]
    names += ["sensors"] if differ(row["sensors"].split("+") for row in rows) else []
    headings = [
        *(*names, "severity", "AUROC", f"found at {rate}"),
        *(f"found at {100 * RATES[1]:g} %", "named", "another named", "faulty", "rejected"),
        *("left out", "of the gain (%)", "clean", "lost on clean", "false alarms"),
    ]
    lines = [
        f"| {' | '.join(headings)} |",
        "|" + "---|" * len(names) + "---:|" * (len(headings) - len(names)),
        *(_line(row, names) for row in rows if row["kind"] == ALL),
    ]
    note = (
        f"Which sensor lies? AUROC: of the faulty sensor's score beside its own on clean scenes, "
        f"of scenes whose picture the fault changed; found: its alarm at {rate} and "
        f"{100 * RATES[1]:g} % false alarms, from thresholds of validation scenes; named, another "
        f"named: at {rate}. {DETECTED[headline].heading} with all sensors, with what the model "
        "flags left out, and with the faulty sensor left out; of the gain: what of the last's over "
        "the first the second has; lost on clean, false alarms: where no sensor is faulty."
    )
    return "\n".join(lines) + f"\n\n{note}\n"


def _line(row: Mapping[str, Any], names: Sequence[str]) -> str:
    first, second = RATES
    shares = (f"found-{first}", f"found-{second}", f"named-{first}", f"misled-{first}")
    shown = [
        *(row[name] for name in names),
        f"{row['severity']:g}",
        shown_between(row, "auroc", "{:.3f}"),
        *(shown_between(row, key, "{:.2f}") for key in (*shares, "faulty", "auto", "oracle")),
        shown_between(row, "gained", "{:.0f}"),
        shown_between(row, "clean", "{:.2f}"),
        shown_between(row, "lost", "{:+.3f}"),
        shown_between(row, "false_alarms", "{:.2f}"),
    ]
    return f"| {' | '.join(shown)} |"

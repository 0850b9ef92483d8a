"""Which method survives a sensor that lies: every condition, and one row per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.bootstrap import Values, bounds
from pipeline.score_params import FaultParams
from pipeline.stage import MODALITIES
from pipeline.table3 import COST_HEADINGS, behind, spent

__all__ = ["OTHERS", "as_markdown", "conditions", "merged", "summarise"]

OTHERS = ("map50_95", "ssim", "mse")  # besides mAP@0.5, which decides

Row = dict[str, Any]
Figures = Mapping[str, Values]


def merged(seeds: Sequence[Figures]) -> dict[str, Values]:
    """The figures of one cell as means over its seeds; resamples stay paired."""
    return {name: np.mean([figures[name] for figures in seeds], axis=0) for name in seeds[0]}


def _mean(figures: Figures, name: str, metric: str = "map50") -> Values:
    """A condition as the mean over the generated modalities."""
    of = "" if metric == "map50" else f"/{metric}"
    return np.mean([figures[f"{name}/{target}{of}"] for target in MODALITIES], axis=0)


def _over_conditions(figures: Figures, faults: FaultParams, metric: str) -> Row:
    """Another figure with no fault, one sensor faulty and that sensor left out, with intervals."""
    spoiled = [
        _mean(figures, f"{sensor}/{kind}/{severity}", metric)
        for sensor in MODALITIES
        for kind in faults.kinds
        for severity in faults.severities
    ]
    left_out = [_mean(figures, f"without-{sensor}", metric) for sensor in MODALITIES]
    return {
        **_figure(f"clean_{metric}", _mean(figures, "clean", metric)),
        **_figure(f"faulty_{metric}", np.mean(spoiled, axis=0)),
        **_figure(f"without_{metric}", np.mean(left_out, axis=0)),
    }


def _figure(name: str, values: Values) -> Row:
    low, high = bounds(values)
    return {name: float(values[0]), f"{name}_lo": low, f"{name}_hi": high}


def conditions(
    cells: Mapping[str, tuple[str, str]],
    figures: Mapping[str, Figures],
    faults: FaultParams,
    costs: Mapping[str, Mapping[str, float]],
) -> list[Row]:
    """One row per method, faulty sensor, kind, severity and generated modality.

    `map50` with the faulty sensor among the inputs, `without` it, `clean`, and `difference`, with
    minus without: above 0 a faulty sensor is still better than none. Beside them `map50_95`, `ssim`
    and `mse`, each with its `clean_` and `without_`. And the method's cost.
    """
    return [
        {
            "cell": cell,
            "fusion": fusion,
            "objective": objective,
            "sensor": sensor,
            "kind": kind,
            "severity": severity,
            "target": target,
            **_figure("map50", found[f"{sensor}/{kind}/{severity}/{target}"]),
            "clean": float(found[f"clean/{target}"][0]),
            "without": float(found[f"without-{sensor}/{target}"][0]),
            **_figure(
                "difference",
                found[f"{sensor}/{kind}/{severity}/{target}"] - found[f"without-{sensor}/{target}"],
            ),
            **{
                prefix + metric: float(found[f"{condition}/{target}/{metric}"][0])
                for metric in OTHERS
                for prefix, condition in (
                    ("", f"{sensor}/{kind}/{severity}"),
                    ("clean_", "clean"),
                    ("without_", f"without-{sensor}"),
                )
            },
            **costs[cell],
        }
        for cell, (fusion, objective) in cells.items()
        for found in [figures[cell]]
        for sensor in MODALITIES
        for kind in faults.kinds
        for severity in faults.severities
        for target in MODALITIES
    ]


def summarise(
    cells: Mapping[str, tuple[str, str]],
    figures: Mapping[str, Figures],
    faults: FaultParams,
    costs: Mapping[str, Mapping[str, float]],
) -> list[Row]:
    """One row per method: means over targets, sensors, kinds and severities, and the worst case.

    `kept` is what a faulty sensor leaves of the clean figure in percent. `better_without` counts
    the conditions (sensor, kind, severity) in which leaving the sensor out is better for certain,
    that is, in which the interval of the difference lies below 0; `better_with` the opposite.
    `behind` is how far `faulty` and `kept` lie below the best method's, on the same resamples.
    """
    rows: list[Row] = []
    for cell, (fusion, objective) in cells.items():
        found = figures[cell]
        clean = _mean(found, "clean")
        without = {sensor: _mean(found, f"without-{sensor}") for sensor in MODALITIES}
        spoiled = {
            (sensor, kind, severity): _mean(found, f"{sensor}/{kind}/{severity}")
            for sensor in MODALITIES
            for kind in faults.kinds
            for severity in faults.severities
        }
        gaps = [bounds(values - without[sensor]) for (sensor, _, _), values in spoiled.items()]
        faulty = np.mean(list(spoiled.values()), axis=0)
        left_out = np.mean(list(without.values()), axis=0)
        worst = min(spoiled, key=lambda condition: float(spoiled[condition][0]))
        kept = np.divide(100 * faulty, clean, out=np.full_like(clean, np.nan), where=clean > 0)
        rows.append(
            {
                "cell": cell,
                "fusion": fusion,
                "objective": objective,
                **_figure("clean", clean),
                **_figure("faulty", faulty),
                "kept": float(kept[0]) if np.isfinite(kept[0]) else None,
                "kept_lo": bounds(kept)[0],
                "kept_hi": bounds(kept)[1],
                **_figure("without", left_out),
                **_figure("difference", faulty - left_out),
                "conditions": len(spoiled),
                "better_without": sum(high is not None and high < 0 for _, high in gaps),
                "better_with": sum(low is not None and low > 0 for low, _ in gaps),
                "worst": float(spoiled[worst][0]),
                "worst_case": f"{worst[0]} {worst[1]} {worst[2]:g}",
                **{k: v for m in OTHERS for k, v in _over_conditions(found, faults, m).items()},
                **costs[cell],
                "figures": {"faulty": faulty, "kept": kept},
                "behind": {},
            }
        )
    for metric in ("faulty", "kept"):
        behind(rows, metric)
    return [{name: value for name, value in row.items() if name != "figures"} for row in rows]


def as_markdown(rows: Sequence[Row], faults: FaultParams, decoded: str) -> str:
    """The summary for people.

    Args:
        rows: from `summarise`.
        decoded: from `table3.decoding`.
    """

    def between(row: Row, name: str, form: str) -> str:
        low, high = row[f"{name}_lo"], row[f"{name}_hi"]
        interval = "" if low is None else f" [{form.format(low)}, {form.format(high)}]"
        return "–" if row[name] is None else form.format(row[name]) + interval

    def gap(row: Row) -> str:
        found = row["behind"]["faulty"]
        if found["best"] == 0:
            return "best"
        interval = "" if found["lo"] is None else f" [{found['lo']:+.2f}, {found['hi']:+.2f}]"
        return f"{found['best']:+.2f}{interval}"

    lines = [
        "| objective | fusion | clean | one sensor faulty | to the best | kept (%) "
        "| that sensor left out | faulty − left out | better left out | better kept | worst case | "
        + " | ".join(COST_HEADINGS)
        + " |",
        "|---|---|" + "---:|" * 8 + "---|" + "---:|" * len(COST_HEADINGS),
    ]
    for row in rows:
        n = row["conditions"]
        lines.append(
            f"| {row['objective']} | {row['fusion']} | {row['clean']:.2f} "
            f"| {between(row, 'faulty', '{:.2f}')} | {gap(row)} | {between(row, 'kept', '{:.0f}')} "
            f"| {row['without']:.2f} | {between(row, 'difference', '{:+.2f}')} "
            f"| {row['better_without']} of {n} | {row['better_with']} of {n} "
            f"| {row['worst']:.2f} ({row['worst_case']}) | {spent(row)} |"
        )
    kinds, severities = ", ".join(faults.kinds), ", ".join(f"{s:g}" for s in faults.severities)
    note = (
        f"mAP@0.5, mean over generated modalities, faulty sensors, kinds ({kinds}) and severities "
        f"({severities}); {faults.scenes} test scenes, 95 % intervals over resamples of them; "
        "to the best: the difference to the best method's, on the same resamples; kept: of the "
        "clean mAP; better left out, better kept: in how many of these cases the interval of the "
        "difference between the sensor left out and the faulty one used lies on one side of 0."
        f"\n\n{decoded}"
    )
    return "\n".join(lines) + f"\n\n{note}\n"

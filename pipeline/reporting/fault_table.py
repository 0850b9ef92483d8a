"""Which method survives a sensor that lies: every condition, and one row per method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.reporting.legend import UNDEFINED
from pipeline.reporting.table import COST_HEADINGS, differ, format_cost, gaps_to_best, over
from pipeline.scoring.bootstrap import Values, bounds, known, mean
from pipeline.scoring.metrics import DETECTED, under_faults
from pipeline.scoring.params import FaultParams

__all__ = [
    "Figures",
    "Row",
    "as_markdown",
    "conditions",
    "figure",
    "merged",
    "over_targets",
    "sensors_of",
    "shared_targets",
    "shown_between",
    "summarise",
]

HEADINGS = (
    "clean",
    "one sensor faulty",
    "to the best",
    "kept (%)",
    "that sensor left out",
    "faulty − left out",
    "better left out",
    "better kept",
    "worst case",
)

Row = dict[str, Any]
Figures = Mapping[str, Values]


def merged(seeds: Sequence[Figures]) -> dict[str, Values]:
    """The figures of one cell that all its seeds have, as means; resamples stay paired."""
    shared = [name for name in seeds[0] if all(name in figures for figures in seeds)]
    return {name: mean([figures[name] for figures in seeds]) for name in shared}


def sensors_of(figures: Figures) -> list[str]:
    """The run's sensors, in their order: the TARGETs of `clean/TARGET`."""
    names = (name.split("/") for name in figures)
    return [name[1] for name in names if name[0] == "clean" and len(name) == 2]


def shared_targets(runs: Iterable[Figures]) -> list[str]:
    """The sensors that every run has: means over others would not compare."""
    first, *rest = map(sensors_of, runs)
    return [sensor for sensor in first if all(sensor in others for others in rest)]


def _others(headline: str) -> list[str]:
    return [key for key in under_faults(DETECTED, headline) if key != headline]


def over_targets(figures: Figures, name: str, targets: Sequence[str], metric: str = "") -> Values:
    """A condition as the mean over those of the generated modalities that have a figure.

    Args:
        metric: another than the headline.
    """
    of = f"/{metric}" if metric else ""
    if not targets:
        return np.full_like(next(iter(figures.values())), np.nan)
    return mean([figures[f"{name}/{target}{of}"] for target in targets])


def _over_conditions(
    figures: Figures, faults: FaultParams, targets: Sequence[str], metric: str
) -> Row:
    """Another figure with no fault, one sensor faulty and that sensor left out, with intervals."""
    spoiled = [
        over_targets(figures, f"{sensor}/{kind}/{severity}", targets, metric)
        for sensor in sensors_of(figures)
        for kind in faults.kinds
        for severity in faults.severities
    ]
    left_out = [
        over_targets(figures, f"without-{sensor}", targets, metric)
        for sensor in sensors_of(figures)
    ]
    return {
        **figure(f"clean_{metric}", over_targets(figures, "clean", targets, metric)),
        **figure(f"faulty_{metric}", mean(spoiled)),
        **figure(f"without_{metric}", mean(left_out)),
    }


def figure(name: str, values: Values) -> Row:
    """A figure and the bounds of its interval, as columns of a row."""
    low, high = bounds(values)
    return {name: known(values[0]), f"{name}_lo": low, f"{name}_hi": high}


def conditions(
    cells: Mapping[str, tuple[str, str]],
    figures: Mapping[str, Figures],
    faults: FaultParams,
    costs: Mapping[str, Mapping[str, float]],
    headline: str,
) -> list[Row]:
    """One row per method, faulty sensor, kind, severity and generated modality.

    The headline metric under its key with the faulty sensor among the inputs, `without` it,
    `clean`, and `difference`, with minus without: above 0 a faulty sensor is still better than
    none. Beside them the other metrics, each with its `clean_` and `without_`. And the method's
    cost. A figure that is not defined is None.
    """
    return [
        {
            "cell": cell,
            "fusion": fusion,
            "objective": objective,
            "sensors": "+".join(sensors_of(found)),
            "sensor": sensor,
            "kind": kind,
            "severity": severity,
            "target": target,
            **figure(headline, found[f"{sensor}/{kind}/{severity}/{target}"]),
            "clean": known(found[f"clean/{target}"][0]),
            "without": known(found[f"without-{sensor}/{target}"][0]),
            **figure(
                "difference",
                found[f"{sensor}/{kind}/{severity}/{target}"] - found[f"without-{sensor}/{target}"],
            ),
            **{
                prefix + metric: known(found[f"{condition}/{target}/{metric}"][0])
                for metric in _others(headline)
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
        for sensor in sensors_of(found)
        for kind in faults.kinds
        for severity in faults.severities
        for target in sensors_of(found)
    ]


def summarise(
    cells: Mapping[str, tuple[str, str]],
    figures: Mapping[str, Figures],
    faults: FaultParams,
    costs: Mapping[str, Mapping[str, float]],
    headline: str,
) -> list[Row]:
    """One row per method: means over targets, sensors, kinds and severities, and the worst case.

    Targets are the sensors that every method has; faulty is each of its own.
    `kept` is what a faulty sensor leaves of the clean figure in percent. `better_without` counts
    the conditions (sensor, kind, severity) in which leaving the sensor out is better for certain,
    that is, in which the interval of the difference lies below 0; `better_with` the opposite.
    `behind` is how far `faulty` and `kept` lie below the best method's, on the same resamples.
    A target whose headline is not defined, as no test scene shows it an object, is in no mean:
    `targets` are those that are, `undefined` the others. What is not defined at all is None.
    """
    rows: dict[str, Row] = {}
    compared: dict[str, dict[str, Values]] = {"faulty": {}, "kept": {}}
    targets = shared_targets(figures[cell] for cell in cells)
    for cell, (fusion, objective) in cells.items():
        row, faulty, kept = _of_method(figures[cell], targets, faults, headline)
        compared["faulty"][cell], compared["kept"][cell] = faulty, kept
        named = {"cell": cell, "fusion": fusion, "objective": objective}
        rows[cell] = {**named, **row, **costs[cell], "behind": {}}
    for metric, values in compared.items():
        for cell, gap in gaps_to_best(values).items():
            rows[cell]["behind"][metric] = gap
    return list(rows.values())


def _of_method(
    found: Figures, targets: Sequence[str], faults: FaultParams, headline: str
) -> tuple[Row, Values, Values]:
    """What `summarise` says of one method alone; `faulty` and `kept` with their resamples."""
    clean = over_targets(found, "clean", targets)
    sensors = sensors_of(found)
    there = {target: np.isfinite(found[f"clean/{target}"][0]) for target in targets}
    without = {sensor: over_targets(found, f"without-{sensor}", targets) for sensor in sensors}
    spoiled = {
        (sensor, kind, severity): over_targets(found, f"{sensor}/{kind}/{severity}", targets)
        for sensor in sensors
        for kind in faults.kinds
        for severity in faults.severities
    }
    gaps = [bounds(values - without[sensor]) for (sensor, _, _), values in spoiled.items()]
    faulty, left_out = mean(list(spoiled.values())), mean(list(without.values()))
    worst = min(spoiled, key=lambda condition: np.nan_to_num(spoiled[condition][0], nan=np.inf))
    kept = np.divide(100 * faulty, clean, out=np.full_like(clean, np.nan), where=clean > 0)
    row = {
        "sensors": "+".join(sensors),
        "targets": [target for target in targets if there[target]],
        "undefined": [target for target in targets if not there[target]],
        **figure("clean", clean),
        **figure("faulty", faulty),
        **figure("kept", kept),
        **figure("without", left_out),
        **figure("difference", faulty - left_out),
        "conditions": len(spoiled),
        "better_without": sum(high is not None and high < 0 for _, high in gaps),
        "better_with": sum(low is not None and low > 0 for low, _ in gaps),
        "worst": known(spoiled[worst][0]),
        "worst_case": f"{worst[0]} {worst[1]} {worst[2]:g}",
    }
    for metric in _others(headline):
        row |= _over_conditions(found, faults, targets, metric)
    return row, faulty, kept


def as_markdown(rows: Sequence[Row], faults: FaultParams, decoded: str, headline: str) -> str:
    """The summary for people.

    Args:
        rows: from `summarise`.
        decoded: from `legend.decoding`.
    """
    told = differ(row["sensors"].split("+") for row in rows)
    names = ["objective", "fusion", *(["sensors"] if told else [])]
    lines = [
        f"| {' | '.join([*names, *HEADINGS, *COST_HEADINGS])} |",
        "|" + "---|" * len(names) + "---:|" * 8 + "---|" + "---:|" * len(COST_HEADINGS),
        *(_line(row, names) for row in rows),
    ]
    table = "\n".join(lines)
    kinds, severities = ", ".join(faults.kinds), ", ".join(f"{s:g}" for s in faults.severities)
    measure, averaged = DETECTED[headline].heading, over(rows[0]["targets"], rows[0]["undefined"])
    all_have = ", the sensors that every cell has" if told and rows[0]["targets"] else ""
    note = (
        f"{measure} of what is generated, mean {averaged}{all_have}, over faulty sensors, kinds "
        f"({kinds}) and severities ({severities}); {faults.scenes} test scenes, 95 % intervals "
        "over resamples of them, no other training in them; to the best: the difference to the "
        "best method's, on the same resamples; kept: of the clean figure; better left out, better "
        "kept: in how many of these cases the interval of the difference between the sensor left "
        "out and the faulty one used lies on one side of 0."
    )
    undefined = f"\n\n{UNDEFINED}" if "–" in table else ""
    return f"{table}\n\n{note}{undefined}\n\n{decoded}\n"


def _line(row: Row, names: Sequence[str]) -> str:
    def count(name: str) -> str:
        return "–" if row["clean"] is None else f"{row[name]} of {row['conditions']}"

    worst = "–" if row["worst"] is None else f"{row['worst']:.2f} ({row['worst_case']})"
    shown = [
        *(row[name] for name in names),
        _shown(row["clean"], "{:.2f}"),
        shown_between(row, "faulty", "{:.2f}"),
        _gap(row),
        shown_between(row, "kept", "{:.0f}"),
        _shown(row["without"], "{:.2f}"),
        shown_between(row, "difference", "{:+.2f}"),
        count("better_without"),
        count("better_with"),
        worst,
        format_cost(row),
    ]
    return f"| {' | '.join(shown)} |"


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def shown_between(row: Mapping[str, Any], name: str, form: str) -> str:
    """A figure of a row with its interval."""
    low, high = row[f"{name}_lo"], row[f"{name}_hi"]
    interval = "" if low is None else f" [{form.format(low)}, {form.format(high)}]"
    return _shown(row[name], form) + interval


def _gap(row: Row) -> str:
    found = row["behind"].get("faulty")
    if found is None:
        return "–"
    if found["best"] == 0:
        return "best"
    interval = "" if found["lo"] is None else f" [{found['lo']:+.2f}, {found['hi']:+.2f}]"
    return f"{found['best']:+.2f}{interval}"

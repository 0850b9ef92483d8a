"""What is done, stale, running and left of a study, and about how long the rest takes.

DVC says what changed; a lock under `.cache/runs` says what runs. No lock of DVC's is taken, and a
stage's own for an instant only, which a starting run waits out: looking never disturbs a run. Times
are those of the last runs, here or, of trainings, those that were committed.
"""

from __future__ import annotations

import csv
import fcntl
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.run import Run
from pipeline.running import plan, stage
from pipeline.running.record import Recorded, UnreadableError, recorded
from pipeline.stages import check
from pipeline.study import Study
from scenegen.manifest import MANIFEST, read_manifest

__all__ = ["STATES", "Entry", "look", "table"]

STATES = ("done", "running", "stale", "left")
NEVER = "never run here"
COUNTS = {  # what a stage's time grows with
    "render": "scenes.count",
    "train_unimodal": "vae.training.steps",
    "train_vae": "vae.training.steps",
}
LOOKS, PAUSE = 8, 0.3  # at files that change meanwhile; seconds between two looks


@dataclass(frozen=True)
class Entry:
    """One stage: its state, why or how far, and the seconds that it still needs if known."""

    name: str
    state: str
    note: str = ""
    seconds: float | None = None

    @property
    def group(self) -> str:
        """The stage's name in dvc.yaml, without the matrix."""
        return _group(self.name)


def _group(name: str) -> str:
    return name.split("@")[0]


def look(study: Study) -> list[Entry]:
    """Every stage of a study in this folder, in the order in which they run.

    done: up to date. running: at work in this folder now. stale: its code, params, inputs or
    outputs are not those of its last run. left: never run, or not here (as in a fresh clone), or
    waits for one that will run.

    A run changes files while they are looked at: then once more. One line and exit code 2 if that
    goes on, and where no DVC project is.
    """
    looks = 1
    while True:
        try:
            return _look(study)
        except (UnreadableError, OSError) as error:
            if looks == LOOKS:
                stage.fail(f"status: {stage.cut(str(error), 500)}")
            looks += 1
            time.sleep(PAUSE)


def _look(study: Study) -> list[Entry]:
    values = stage.read_params(study.params)
    edited = _edited(study)
    entries: dict[str, Entry] = {}
    with recorded(study) as stages:
        times = _times(study, stages, values)
        for item in stages:
            above = [entries[name] for name in item.needs]
            entries[item.name] = _entry(study, item, above, edited, times[item.name], values)
    return list(entries.values())


def _entry(
    study: Study,
    item: Recorded,
    above: list[Entry],
    edited: Mapping[Path, str],
    seconds: float | None,
    values: Mapping[str, Any],
) -> Entry:
    name = item.name
    if (since := _running_since(study, name)) is not None:
        share, note = _progress(study, item, values)
        if seconds is not None:
            spent = time.time() - since
            seconds = max(seconds * (1 - share) if share is not None else seconds - spent, 0.0)
        return Entry(name, "running", note, seconds)
    if not item.ran:
        return Entry(name, "left", "never run", seconds)
    if not all(out.exists() for out in item.outs) and not study.note(name):
        return Entry(name, "left", NEVER, seconds)
    # `check` writes the same bytes whatever the params are; what differs is in the reasons.
    waits = [e.name for e in above if e.state != "done" and e.name != "check"]
    reasons = item.changes(edited)
    if waits and {str(dep) for dep in item.deps if not dep.exists()}.issuperset(reasons):
        return Entry(name, "left", f"waits for {waits[0]}", seconds)
    if reasons:
        return Entry(name, "stale", ", ".join(reasons), seconds)
    return Entry(name, "done")


def _running_since(study: Study, name: str) -> float | None:
    """When the run began that holds this stage's lock; None if none does."""
    path = stage.RUNS / f"{study.scope}{name}.lock"
    if not path.exists():
        return None
    with open(path, encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return path.stat().st_mtime
    return None


_OF = {
    "cells": "fusion or objective",
    "code": "code",
    "detectors": "kind of detector",
    "sensors": "sensor",
}


def _edited(study: Study) -> dict[Path, str]:
    """Which files that `check` wrote it would write otherwise now, and what each stands for."""
    return {
        study.checked / name: _OF[Path(name).parts[0]]
        for name, content in check.wanted(study).items()
        if (file := study.checked / name).exists() and file.read_bytes() != content
    }


# --- time left ---------------------------------------------------------------------------------


def _times(
    study: Study, stages: list[Recorded], values: Mapping[str, Any]
) -> dict[str, float | None]:
    """About the seconds of each stage: of its last run, or the mean of its group's last runs."""
    took = {item.name: _took(study, item, values) for item in stages}
    known: dict[str, list[float]] = {}
    for name, seconds in took.items():
        if seconds is not None:
            known.setdefault(_group(name), []).append(seconds)
    means = {group: sum(each) / len(each) for group, each in known.items()}
    return {
        name: means.get(_group(name)) if seconds is None else seconds
        for name, seconds in took.items()
    }


def _took(study: Study, item: Recorded, values: Mapping[str, Any]) -> float | None:
    """Seconds of a stage's last run, by its result or its own note, for as much as there is now."""
    key = COUNTS.get(_group(item.name), "")
    for out in item.outs:
        if out.is_relative_to(study.results) and out.suffix == ".json" and out.exists():
            try:
                result = json.loads(out.read_text(encoding="utf-8"))
                return float(result["train_seconds"]) * _more(values, key, result.get("steps"))
            except (ValueError, KeyError, TypeError):
                continue  # it is no training's, damaged, or being written
    if note := study.note(item.name):
        return float(note["seconds"]) * _more(values, key, plan.lookup(note["params"], key, None))
    return None


def _more(values: Mapping[str, Any], key: str, then: Any) -> float:
    """How many times the count under a key is what it was then; 1 where either is not known."""
    now = plan.lookup(values, key, None)
    return now / then if now and then else 1.0


def _progress(study: Study, item: Recorded, values: Mapping[str, Any]) -> tuple[float | None, str]:
    """How much of a running stage is done, 0 to 1, and in words."""
    for out in item.outs:
        if (out / MANIFEST).exists():
            try:
                done = sum(shard.count for shard in read_manifest(out).shards)
            except ValueError:
                return None, ""
            count = values["scenes"]["count"]
            return done / count, f"{done} of {count} scenes"
    if _group(item.name) not in ("train_vae", "train_unimodal"):
        return None, ""
    curves = Run.parse(item.name.split("@")[1]).curves(study.data)
    curve = curves / "plots/metrics/loss.tsv"
    if not curve.exists():
        return None, ""
    rows = list(csv.DictReader(curve.open(encoding="utf-8"), delimiter="\t"))
    step, steps = int(rows[-1]["step"]) if rows else 0, values["vae"]["training"]["steps"]
    return step / steps, f"step {step} of {steps}"


# --- what a person reads -----------------------------------------------------------------------


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _total(entries: list[Entry]) -> str:
    """The sum of what is known; `+ ?` where a stage has never run and so has no time."""
    known = [e.seconds for e in entries if e.seconds is not None]
    if not known:
        return "?"
    return _duration(sum(known)) + (" + ?" if len(known) < len(entries) else "")


def table(study: Study, entries: list[Entry]) -> str:
    """A row per group of stages, then a line for each stage that is not done."""
    lines = [f"{'':16}" + "".join(f"{s:>9}" for s in STATES) + f"{'time left':>12}"]
    for group in dict.fromkeys(e.group for e in entries):
        members = [e for e in entries if e.group == group]
        count = Counter(e.state for e in members)
        rest = [e for e in members if e.state != "done"]
        states = "".join(f"{count[s] or '.':>9}" for s in STATES)
        lines.append(f"{group:16}{states}{_total(rest) if rest else '':>12}")
    rest = [e for e in entries if e.state != "done"]
    if not rest:
        return "\n".join([*lines, "", "Everything is up to date."])
    lines.append("")
    for entry in rest:
        note = entry.note if len(entry.note) < 60 else f"{entry.note[:57]}..."
        lines.append(f"{entry.state:8} {entry.name:28} {_duration(entry.seconds):>7}  {note}")
    lines += ["", f"About {_total(rest)} one after another. To go on: {study.again}"]
    if any(e.note.endswith(("deleted", "not in cache", NEVER)) for e in rest):
        lines.append(
            f"Outputs are missing: `dvc pull {study.definition}` fetches them, if your remote has "
            "them; if that fails: docs/guide/share.md"
        )
    return "\n".join(lines)

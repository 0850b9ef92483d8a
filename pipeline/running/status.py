"""What is done, stale, running and left of the pipeline, and about how long the rest takes.

DVC says what changed; a lock under `.cache/runs` says what runs. No lock of DVC's is taken, and a
stage's own for an instant only, which a starting run waits out: looking never disturbs a run. Times
are those that stages took before, here or in the committed run, scaled by their work.

A grid has hundreds of stages that share params.yaml, code and data: whatever they share is read
once a look.
"""

from __future__ import annotations

import csv
import fcntl
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx
from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException, NotDvcRepoError
from dvc.output import Output
from dvc.repo import Repo
from dvc.scm import SCMError
from dvc.stage import PipelineStage, Stage
from dvc.utils.serialize import load_yaml

from base import lockfile
from pipeline import cells, params
from pipeline.params import Params
from pipeline.run import Run
from pipeline.running import stage
from pipeline.stages import check
from scenegen.dataset import MODALITIES
from scenegen.manifest import read_manifest

__all__ = ["STATES", "Entry", "look", "table"]

STATES = ("done", "running", "stale", "left")
NEVER = "never run here"
RATES = {  # seconds per unit of `_work` where git holds no time: on the machine of the scale page
    "render": 252 / (17729 * 11 * 64**2),
    "score": 25 / (500 * 24),
    "score_unimodal": 12 / (500 * 4),
    "score_faults": 28 / (100 * 49),
    "summary": 1.0,
    "report": 3.0,
}
LOCK = Path("dvc.lock")
LOOKS, PAUSE = 8, 0.3  # at files that change meanwhile; seconds between two looks
_ABSENT = object()


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


def look() -> list[Entry]:
    """Every stage of the pipeline in this folder, in the order in which they run.

    done: up to date. running: at work in this folder now. stale: its code, params, inputs or
    outputs are not those of its last run. left: never run, or not here (as in a fresh clone), or
    waits for one that will run.

    A run changes files while they are looked at: then once more. One line and exit code 2 if that
    goes on, and where no DVC project is.
    """
    looks = 1
    while True:
        try:
            return _look()
        except NotDvcRepoError:
            stage.fail("no DVC project is here: run this from the project's root")
        except (DvcException, OSError) as error:
            if looks == LOOKS:
                stage.fail(f"status: {' '.join(str(error).split())}")
            looks += 1
            time.sleep(PAUSE)


def _look() -> list[Entry]:
    config = params.load()
    before = _lock()
    with _repo() as repo:
        stages = {s.addressing: s for s in repo.index.stages if _ours(s)}
        if before != _lock() or lockfile.cut(LOCK):
            raise OSError(f"{LOCK} is being written")
        graph = networkx.relabel_nodes(repo.index.graph, {s: s.addressing for s in stages.values()})
        order = [n for n in reversed(list(networkx.topological_sort(graph))) if n in stages]
        # Parsed as DVC parses it, since it is compared with what DVC recorded.
        now = load_yaml(str(stage.PARAMS))
        changes = _Changes(config, now)
        times = _Times(stages.values(), config, now)
        entries: dict[str, Entry] = {}
        for name in order:
            above = [entries[n] for n in graph.successors(name) if n in entries]
            entries[name] = _entry(stages[name], above, changes, times)
    return list(entries.values())


def _lock() -> bytes | None:
    return LOCK.read_bytes() if LOCK.exists() else None


def _repo() -> Repo:
    """This folder's, also where it is in no git, as an archive's is."""
    try:
        return Repo()
    except SCMError:
        return Repo(config={"core": {"no_scm": True}})


def _ours(item: Stage) -> bool:
    """Whether a stage is of the root's dvc.yaml and not of a study's."""
    return isinstance(item, PipelineStage) and item.path_in_repo == "dvc.yaml"


def _entry(item: PipelineStage, above: list[Entry], changes: _Changes, times: _Times) -> Entry:
    name = item.addressing
    if (since := _running_since(name)) is not None:
        share, note = _progress(item, changes.config)
        needed = times.seconds(item)
        if needed is not None:
            spent = time.time() - since
            needed = max(needed * (1 - share) if share is not None else needed - spent, 0.0)
        return Entry(name, "running", note, needed)
    if all(out.hash_info.value is None for out in item.outs):
        return Entry(name, "left", "never run", times.seconds(item))
    absent = [out for out in item.outs if not Path(out.def_path).exists()]
    if absent and not (stage.RUNS / f"{name}.json").exists():
        return Entry(name, "left", NEVER, times.seconds(item))
    # `check` writes the same bytes whatever params.yaml holds; what differs is in the reasons.
    waits = [e.name for e in above if e.state != "done" and e.name != "check"]
    reasons = changes.of(item)
    unmade = {dep.def_path for dep in item.deps if not Path(dep.def_path).exists()}
    if waits and unmade.issuperset(reasons):
        reasons = []
    if reasons:
        return Entry(name, "stale", ", ".join(reasons), times.seconds(item))
    if waits:
        return Entry(name, "left", f"waits for {waits[0]}", times.seconds(item))
    return Entry(name, "done")


def _running_since(name: str) -> float | None:
    """When the run began that holds this stage's lock; None if none does."""
    path = stage.RUNS / f"{name}.lock"
    if not path.exists():
        return None
    with open(path, encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return path.stat().st_mtime
    return None


def _value(params_now: Mapping[str, Any], key: str) -> Any:
    """What params.yaml holds under a dotted key; `_ABSENT` if nothing."""
    found: Any = params_now
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return _ABSENT
        found = found[part]
    return found


_OF = {"cells": "fusion or objective", "code": "code", "detectors": "kind of detector"}


class _Changes:
    """What differs from the stages' last runs; a file that many share is looked at once."""

    def __init__(self, config: Params, now: Mapping[str, Any]) -> None:
        self.config = config
        self._now = now
        # The files as `check` would write them now.
        self._checked = cells.checked(check.DEFINITION, *check.looked_up(config))
        self._known: dict[tuple[type[Output], str, str | None], dict[str, str]] = {}

    def of(self, item: PipelineStage) -> list[str]:
        """Everything that is not as at the stage's last run, as `file` or `key`."""
        reasons = ["command"] if item.changed_stage() else []
        for dep in item.deps:
            path = Path(dep.def_path)
            if isinstance(dep, ParamsDependency):
                reasons += self._params(dep)
                continue
            if path.is_relative_to(check.FOLDER) and path.exists():
                place = path.relative_to(check.FOLDER)
                if path.read_bytes() != self._checked.get(str(place)):
                    reasons.append(_OF[place.parts[0]])
                    continue
            reasons += self._status(dep)
        return reasons + [f"{o} {s}" for out in item.outs for o, s in self._status(out).items()]

    def _status(self, file: Output) -> dict[str, str]:
        """DVC's {file: state}: one for all that recorded the same content of the same file."""
        # An output's state tells whether DVC's cache has it; a dependency's does not.
        key = (type(file), file.def_path, file.hash_info.value)
        if key not in self._known:
            self._known[key] = file.status()
        return self._known[key]

    def _params(self, dep: ParamsDependency) -> list[str]:
        """The keys whose values are new or others; DVC's own look parses the file every time."""
        last = dep.hash_info.value or {}
        return [k for k in dep.params if _value(self._now, k) != last.get(k, _ABSENT)]


# --- time left ---------------------------------------------------------------------------------


def _work(name: str, values: Mapping[str, Any]) -> float:
    """How much a stage has to do under these params, in units of its own kind."""
    group = _group(name)

    def value(key: str) -> float:
        found = _value(values, key)
        return 1.0 if found is _ABSENT else float(found)

    def count(key: str) -> int:
        found = _value(values, key)
        return 1 if found is _ABSENT else len(found)

    sensors = len(MODALITIES)
    if group == "render":
        # A scene costs about as much as 3 samples besides its samples.
        pixels = value("scenes.image.width") * value("scenes.image.height")
        return value("scenes.count") * (3 + value("scenes.image.samples")) * pixels
    if group in ("train_vae", "train_unimodal"):
        return value("vae.training.steps") * value("vae.training.batch")
    if group == "train_detector":
        mine = f"detector.{name.split('@')[1]}"
        pixels = value(f"{mine}.image_size") ** 2
        scenes = value(f"{mine}.epochs") * value("scenes.count")
        return scenes * pixels * value(f"{mine}.width_multiple")
    if group == "score_faults":
        faults = count("score.faults.kinds") * count("score.faults.severities")
        return value("score.faults.scenes") * (1 + sensors + sensors * faults)
    if group.startswith("score"):
        # Start-up and what is read cost about as much as 3 modalities from one subset each.
        every = _value(values, "score.subsets") == "all"
        pictures = sensors * (2**sensors - 1 if every else 2)
        return value("score.scenes") * (3 + (1 if group == "score_unimodal" else pictures))
    if group in ("summary", "report"):
        return float(count("grid.cells"))
    return 1.0


class _Times:
    """About how long stages take, from what they took before; each record is read once."""

    def __init__(
        self, stages: Iterable[PipelineStage], config: Params, now: Mapping[str, Any]
    ) -> None:
        self._config, self._now = config, now
        self._groups: dict[str, list[PipelineStage]] = {}
        for item in stages:
            self._groups.setdefault(_group(item.addressing), []).append(item)
        self._rates: dict[str, dict[str, float]] = {}

    def seconds(self, item: PipelineStage) -> float | None:
        """About how long a run of the stage takes; from its own last run, or its likest sibling's,
        or the committed one's.

        None if there is none.
        """
        name, config = item.addressing, self._config
        if name == "check":
            return 1.0
        now = _work(name, self._now)
        rates = self._rates_of(_group(name))
        if name in rates:
            return rates[name] * now
        like = [r for n, r in rates.items() if _objective(n, config) == _objective(name, config)]
        usable = like or list(rates.values())
        rate = sum(usable) / len(usable) if usable else RATES.get(_group(name))
        return None if rate is None else rate * now

    def _rates_of(self, group: str) -> dict[str, float]:
        """Seconds per unit of work of the last run of each stage that has run."""
        if group not in self._rates:
            runs = {item.addressing: self._last(item) for item in self._groups[group]}
            self._rates[group] = {n: run[0] / _work(n, run[1]) for n, run in runs.items() if run}
        return self._rates[group]

    def _last(self, item: PipelineStage) -> tuple[float, Mapping[str, Any]] | None:
        """Seconds that the stage's last run took, and with which params."""
        record = stage.RUNS / f"{item.addressing}.json"
        run = stage.read_run(record)
        for out in item.outs:
            path = Path(out.def_path)
            if path.parent in (Path("results/models"), Path("results/detectors")) and path.exists():
                seconds = _train_seconds(path)
                if seconds is None:
                    continue
                if run and path.stat().st_mtime <= record.stat().st_mtime:
                    return seconds, run["params"]
                locked = self._locked(item)  # from git, as dvc.lock: a clone knows as much
                return (seconds, locked) if locked else None
        return (run["seconds"], run["params"]) if run else None

    def _locked(self, item: PipelineStage) -> dict[str, Any] | None:
        """What dvc.lock holds of the params of the stage and of render; None if it lacks any, as
        one of a dvc.yaml that named other keys does."""
        nested: dict[str, Any] = {}
        for one in (item, *self._groups["render"]):
            for dep in one.params:
                if not set(dep.params) <= set(dep.hash_info.value or {}):
                    return None
                for key, value in (dep.hash_info.value or {}).items():
                    *parents, leaf = key.split(".")
                    section = nested
                    for part in parents:
                        section = section.setdefault(part, {})
                    section[leaf] = value
        return nested


def _train_seconds(path: Path) -> float | None:
    """What a result says that its training took; None where it is damaged, or being written."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["train_seconds"])
    except (ValueError, KeyError, TypeError):
        return None


def _objective(name: str, config: Params) -> str | None:
    """The objective, which decides the cost of a cell more than anything else."""
    try:
        cell = config.grid.cells.get(Run.parse(name.split("@")[-1]).cell)
    except ValueError:
        return None  # a detector's
    return cell.objective if cell else None


def _progress(item: PipelineStage, config: Params) -> tuple[float | None, str]:
    """How much of a running stage is done, 0 to 1, and in words."""
    if item.addressing == "render":
        try:
            done = sum(shard.count for shard in read_manifest(stage.DATASET).shards)
        except ValueError:
            return None, ""
        return done / config.scenes.count, f"{done} of {config.scenes.count} scenes"
    curve = Path(f"data/curves/{item.addressing.split('@')[-1]}/plots/metrics/loss.tsv")
    if item.addressing.startswith("train") and curve.exists():
        rows = list(csv.DictReader(curve.open(encoding="utf-8"), delimiter="\t"))
        step, steps = int(rows[-1]["step"]) if rows else 0, config.vae.training.steps
        return step / steps, f"step {step} of {steps}"
    return None, ""


# --- what a person reads -----------------------------------------------------------------------


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def table(entries: list[Entry]) -> str:
    """A row per group of stages, then a line for each stage that is not done."""
    groups = list(dict.fromkeys(e.group for e in entries))
    lines = [f"{'':16}" + "".join(f"{s:>9}" for s in STATES) + f"{'time left':>12}"]
    for group in groups:
        members = [e for e in entries if e.group == group]
        count = Counter(e.state for e in members)
        rest = [e for e in members if e.state != "done"]
        lines.append(
            f"{group:16}"
            + "".join(f"{count[s] or '.':>9}" for s in STATES)
            + f"{_total(rest) if rest else '':>12}"
        )
    rest = [e for e in entries if e.state != "done"]
    if not rest:
        return "\n".join([*lines, "", "Everything is up to date."])
    lines.append("")
    for entry in rest:
        note = entry.note if len(entry.note) < 60 else f"{entry.note[:57]}..."
        lines.append(f"{entry.state:8} {entry.name:28} {_duration(entry.seconds):>7}  {note}")
    lines += ["", f"About {_total(rest)} one after another. To go on: dvc repro"]
    if any(e.note.endswith(("deleted", "not in cache", NEVER)) for e in rest):
        lines.append(
            "Outputs are missing: `dvc pull dvc.yaml` fetches them, if your remote has them; "
            "if that fails: docs/guide/share.md"
        )
    return "\n".join(lines)


def _total(entries: list[Entry]) -> str:
    """The sum of what is known; `+ ?` where a stage has never run and so has no time."""
    known = [e.seconds for e in entries if e.seconds is not None]
    unknown = len(known) < len(entries)
    if not known:
        return "?"
    return _duration(sum(known)) + (" + ?" if unknown else "")

"""The jobs of a study: the stages that may run side by side, as its dvc.yaml defines them.

Read without DVC, which `python -m pipeline study` does without.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML

from pipeline.running.params import read_params
from pipeline.study import Study

__all__ = ["Job", "dependents", "due", "first", "lookup", "plan", "stages"]

TOGETHER = re.compile(r"train_\w+|score\w*")  # stages that may run side by side


@dataclass(frozen=True)
class Job:
    """One stage of a study, as dvc.yaml defines it.

    Attributes:
        name: as DVC calls it in that file, such as train_vae@poe-ecg-0.
        params: keys of the study's params.yaml that it reads.
        outs: files and folders that it writes, metrics and plots included.
    """

    name: str
    command: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]

    def needs(self, other: Job) -> bool:
        """Whether this stage reads what `other` writes."""
        return any(_overlap(dep, out) for dep in self.deps for out in other.outs)


def _overlap(one: str, other: str) -> bool:
    return (one + "/").startswith(other + "/") or (other + "/").startswith(one + "/")


def lookup(values: Any, key: str, *default: Any) -> Any:
    """What params hold under a dotted key, or the default; a KeyError without one."""
    for part in key.split("."):
        if default and not (isinstance(values, Mapping) and part in values):
            return default[0]
        values = values[part]
    return values


def _filled(text: str, values: dict[str, Any]) -> str:
    return re.sub(r"\$\{([\w.]+)\}", lambda found: str(lookup(values, found[1])), text)


def _names(items: list[Any]) -> list[str]:
    """Paths of a list in dvc.yaml, whose entries may carry options."""
    return [next(iter(item)) if isinstance(item, dict) else item for item in items]


def _keys(items: list[Any]) -> list[str]:
    """Keys of a list of params in dvc.yaml; those of a file that is not the root's are in a list of
    their own, under its name."""
    return [
        key
        for item in items
        for key in (next(iter(item.values())) if isinstance(item, dict) else [item])
    ]


def stages(study: Study) -> dict[str, Any]:
    """The stages of a study's dvc.yaml, in its order."""
    text = study.definition.read_text(encoding="utf-8")
    return dict(YAML(typ="safe").load(text)["stages"])


def first(study: Study) -> list[str]:
    """The stages before those that may run side by side."""
    return list(itertools.takewhile(lambda name: not TOGETHER.fullmatch(name), stages(study)))


def plan(study: Study, params: dict[str, Any] | None = None) -> list[Job]:
    """Every stage that may run beside others, so that any prefix is a table: seed by seed, first
    what the seed's cells share, then cell by cell, each with its scores.

    Args:
        params: what the study's params.yaml holds, if that has been read.
    """
    values = read_params(study.params) if params is None else params
    jobs: list[tuple[int, int, Job]] = []
    for stage, body in stages(study).items():
        if not TOGETHER.fullmatch(stage):
            continue
        axes = {
            axis: list(lookup(values, of[2:-1]) if isinstance(of, str) else of)
            for axis, of in body["matrix"].items()
        }
        for chosen in itertools.product(*axes.values()):
            item = dict(zip(axes, chosen, strict=True))
            cell = axes["cell"].index(item["cell"]) if "cell" in item else -1
            jobs.append((int(item.get("seed", -1)), cell, _job(stage, body, item, values)))
    return [job for _, _, job in sorted(jobs, key=lambda one: one[:2])]


def _job(stage: str, body: dict[str, Any], item: dict[str, Any], values: Mapping[str, Any]) -> Job:
    """One of a stage's matrix."""
    known = {**values, "item": item, "key": "-".join(map(str, item.values()))}

    def paths(*parts: str) -> tuple[str, ...]:
        return tuple(_filled(name, known) for part in parts for name in _names(body.get(part, [])))

    return Job(
        f"{stage}@{known['key']}",
        _filled(body["cmd"], known),
        paths("deps"),
        tuple(_filled(key, known) for key in _keys(body.get("params", []))),
        paths("outs", "metrics", "plots"),
    )


def dependents(job: Job, among: list[Job]) -> list[Job]:
    """Those of `among` that read what `job` writes, directly or through others."""
    lost: list[Job] = []
    todo = [job]
    while todo:
        one = todo.pop()
        new = [other for other in among if other not in lost and other.needs(one)]
        lost += new
        todo += new
    return lost


def due(jobs: list[Job], stale: Callable[[Job], bool]) -> list[Job]:
    """Those of a `plan` that are stale, or read what one that is due will write."""
    chosen: list[Job] = []
    for job in jobs:
        if any(job.needs(one) for one in chosen) or stale(job):
            chosen.append(job)
    return chosen

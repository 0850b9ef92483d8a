"""A study's trainings and scores side by side, each recorded with DVC as it ends."""

from __future__ import annotations

import json
import subprocess
import sys

from ruamel.yaml import YAML

from pipeline import grid, stage
from studies.study import Study

__all__ = ["run"]

ATTEMPTS = 12  # to record a stage; each waits 5 s for DVC's lock


def run(study: Study, slots: int) -> None:
    """Bring the study up to date with at most `slots` trainings or scores at once.

    What they need runs first and the report last, one after another. What fails costs what needs
    it alone, and is named; then there is no report, and the exit code is 1.
    """
    file = study.home / "dvc.yaml"
    jobs = grid.plan(file, stage.read_params(study.params))
    beside = {job.name.partition("@")[0] for job in jobs}
    stages = YAML(typ="safe").load(file.read_text())["stages"]
    _dvc("repro", *(f"{file}:{name}" for name in stages if name not in beside | {"report"}))
    stale = json.loads(_dvc("status", "--json", str(file), read=True))
    chosen = [job for job in jobs if f"{file}:{job.name}" in stale]
    for job in list(chosen):  # what reads a new model is due as well
        chosen += [one for one in grid.dependents(job, jobs) if one not in chosen]

    def record(job: grid.Job) -> str | None:
        for _ in range(ATTEMPTS):
            command = ["dvc", "commit", "--force", f"{file}:{job.name}"]
            if not subprocess.run(command, check=False, capture_output=True).returncode:
                return None
        return f"finished, but not recorded; `dvc commit {file}:{job.name}` does that"

    outcome = grid.run(sorted(chosen, key=jobs.index), slots, record)
    if outcome.failed:
        for name, reason in outcome.failed.items():
            print(f"{name} failed: {reason} (more in {grid.LOGS / name}.log)", file=sys.stderr)
        print(f"To go on: dvc repro {file}", file=sys.stderr)
        raise SystemExit(1)
    _dvc("repro", str(file))


def _dvc(*words: str, read: bool = False) -> str:
    ran = subprocess.run(["dvc", *words], check=False, text=True, capture_output=read)
    if ran.returncode:
        stage.fail(f"dvc {' '.join(words)} failed{': ' + ran.stderr.strip() if read else ''}")
    return ran.stdout or ""

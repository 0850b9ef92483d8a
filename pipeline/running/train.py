"""`python -m pipeline train`: what `dvc repro` does, with trainings and scores side by side."""

from __future__ import annotations

import concurrent.futures as cf
from collections.abc import Callable
from typing import Any

from pipeline.running import parallel, record
from pipeline.running.params import read_params
from pipeline.running.plan import Job, due, first, lookup, plan
from pipeline.study import Study

__all__ = ["train"]


def train(study: Study, slots: int, executor: cf.Executor | None = None) -> None:
    """Run every stale training and score, and record each with DVC; then what is made of them.

    Where nothing failed, `dvc repro` has nothing to do afterwards.

    Args:
        slots: how many run at once.
        executor: as in `parallel.run`.
    """
    record.need_dvc()
    record.dvc("repro", *(f"{study.definition}:{name}" for name in first(study)))
    stale = record.stale(study)
    jobs = due(plan(study), lambda job: job.name in stale)

    def finished(job: Job, release: Callable[[], None]) -> str | None:
        note = study.note(job.name)
        if note and (edited := _edited(job, note["params"], read_params(study.params))):
            return f"finished, but not recorded: {edited} in {study.params} was edited while it ran"
        return record.record(f"{study.definition}:{job.name}", release)

    outcome = parallel.run(jobs, slots, finished, executor=executor, held=record.reserved)
    if outcome.failed or outcome.left:
        parallel.report(outcome, f"To go on: {study.again}")
    else:
        record.dvc("repro", str(study.definition))
        parallel.report(outcome, f"`{study.again}` has nothing left to do.")


def _edited(job: Job, read: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first key of a job that is no longer what it was as the job began."""
    return next((k for k in job.params if lookup(read, k, None) != lookup(now, k, None)), None)

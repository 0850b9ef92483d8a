"""A run's name is what it is parsed from, and its files are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.run import Run


@pytest.mark.parametrize("run", [Run("poe-ecg", 0), Run("a-1", 10), Run("image", 2**63 - 1)])
def test_a_name_is_read_back(run: Run) -> None:
    assert Run.parse(str(run)) == run
    assert str(run) == f"{run.cell}-{run.seed}"


@pytest.mark.parametrize("name", ["", "poe", "poe-", "-0", "poe-x", "poe-00", "poe-1.5", "poe-²"])
def test_what_names_no_run_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not CELL-SEED, as poe-ecg-0 is"):
        Run.parse(name)


def test_no_two_runs_or_kinds_share_a_file() -> None:
    folder = Path("data")
    kinds = (Run.model, Run.curves, Run.samples, Run.bootstrap, Run.faults, Run.scores)
    kinds += (Run.training, Run.checkpoints)
    runs = (Run("poe", 1), Run("poe-1", 1), Run("poe", 11))
    files = [kind(run, folder) for kind in kinds for run in runs]
    assert len(set(files)) == len(files)

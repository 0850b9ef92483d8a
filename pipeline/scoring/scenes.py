"""The rendered scenes, for the stages that read them."""

from __future__ import annotations

from pipeline.running import stage
from scenegen.dataset import Dataset, open_dataset

__all__ = ["rendered"]


def rendered() -> Dataset:
    """The finished dataset, every shard verified; one line and exit code 2 if one is amiss."""
    try:
        return open_dataset(stage.DATASET)
    except ValueError as error:
        stage.fail(f"{error}. To have it: `dvc repro render`, or `dvc pull dvc.yaml`")

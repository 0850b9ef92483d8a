"""One model of a study's grid, or one of its unimodal VAEs, trained by `models/`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager

import numpy as np

from base.files import as_json
from models.params import Cell, VAEParams
from models.training import DivergedError, train
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.study import Study, device

__all__ = ["train_run", "training"]


def training(study: Study, run: Run) -> AbstractContextManager[None]:
    """The stage that trains `run`, running: an interruption says which checkpoint is kept."""
    return study.running(
        f"{'train_unimodal' if study.alone(run) else 'train_vae'}@{run}",
        lambda: stage.checkpoint_kept(
            run.checkpoints(study.checkpoints), "one every vae.training.checkpoint_every steps"
        ),
    )


def train_run(study: Study, run: Run, data: Mapping[str, np.ndarray]) -> None:
    """Train the model named `run` on `data` and write model, curves and a summary.

    Args:
        run: of a cell or of a modality alone.
        data: modality -> the training split, uint8 [N, H, W, C], [N, D] or [N, T, D].
    """
    params = study.section("vae", VAEParams)
    alone = study.alone(run)
    cell = study.section("grid.unimodal" if alone else f"grid.cells.{run.cell}", Cell)
    if alone:
        params = params.model_copy(update={"modalities": {run.cell: params.modalities[run.cell]}})
    seen = {name: data[name] for name in params.modalities}
    model = run.model(study.data)
    try:
        summary = train(
            params,
            cell,
            seen,
            # The choice the scores need (moe's component) is made on training pairs, as the paper
            # trains on all of them.
            {name: x[:0] for name, x in seen.items()},
            seed=run.seed,
            out=model,
            checkpoints=run.checkpoints(study.checkpoints),
            device=device(),
            keep=True,
        )
    except (DivergedError, ValueError) as error:
        stage.fail(f"{run}: {error}")
    curves = run.curves(study.data).with_name(f"{run}.json")
    stage.write_bytes(curves, as_json(summary["history"]).encode() + b"\n")
    stage.write_json(
        run.training(study.results),
        {
            "loss": round(summary["loss"], 3),
            "steps": summary["steps"],
            "train_seconds": round(summary["seconds"], 1),
            "samples_per_s": round(summary["samples_per_s"], 1),
            "parameters": sum(p.numel() for p in MultimodalVAE.load(model).parameters()),
        },
    )
    shutil.rmtree(run.checkpoints(study.checkpoints), ignore_errors=True)

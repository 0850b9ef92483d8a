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
from pipeline.running import stage
from studies.study import Study, device

__all__ = ["train_run", "training"]


def training(study: Study, run: str) -> AbstractContextManager[None]:
    """The stage that trains `run`, running: an interruption says which checkpoint is kept."""
    return study.running(
        f"{'train_unimodal' if study.alone(run) else 'train_vae'}@{run}",
        lambda: stage.checkpoint_kept(
            study.checkpoints / run, "one every vae.training.checkpoint_every steps"
        ),
    )


def train_run(study: Study, run: str, data: Mapping[str, np.ndarray]) -> None:
    """Train the model named `run` on `data` and write model, curves and a summary.

    Args:
        run: a cell or a modality, and the seed, as in poe-ecg-0 and svhn-0.
        data: modality -> the training split, uint8 [N, H, W, C], [N, D] or [N, T, D].
    """
    name, seed = run.rsplit("-", 1)
    params = study.section("vae", VAEParams)
    alone = study.alone(run)
    cell = study.section("grid.unimodal" if alone else f"grid.cells.{name}", Cell)
    if alone:
        params = params.model_copy(update={"modalities": {name: params.modalities[name]}})
    seen = {name: data[name] for name in params.modalities}
    model = study.data / f"models/{run}.safetensors"
    try:
        summary = train(
            params,
            cell,
            seen,
            # The choice the scores need (moe's component) is made on training pairs, as the paper
            # trains on all of them.
            {name: x[:0] for name, x in seen.items()},
            seed=int(seed),
            out=model,
            checkpoints=study.checkpoints / run,
            device=device(),
            keep=True,
        )
    except (DivergedError, ValueError) as error:
        stage.fail(f"{run}: {error}")
    stage.write_bytes(
        study.data / f"curves/{run}.json", as_json(summary["history"]).encode() + b"\n"
    )
    stage.write_json(
        study.results / f"models/{run}.json",
        {
            "loss": round(summary["loss"], 3),
            "steps": summary["steps"],
            "train_seconds": round(summary["seconds"], 1),
            "samples_per_s": round(summary["samples_per_s"], 1),
            "parameters": sum(p.numel() for p in MultimodalVAE.load(model).parameters()),
        },
    )
    shutil.rmtree(study.checkpoints / run, ignore_errors=True)

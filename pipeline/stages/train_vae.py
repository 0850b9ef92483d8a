"""Stages `train_vae` and `train_unimodal`: one multimodal VAE per cell and seed, and one VAE per
modality and seed, which is the same model with a single modality."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import argparse
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.mixture import Draws
from models.networks import Trunk
from models.params import Cell, VAEParams
from models.training import DivergedError, train
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.scenes import rendered
from scenegen.dataset import MODALITIES

__all__ = ["main"]


def passes(vae: MultimodalVAE, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """Encodes and decodes of one modality per training step and scene, counted in a real step."""
    counts = {"encodes": 0, "decodes": 0}

    def count(kind: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            counts[kind] += len(output)

        return hook

    trunks = [module for module in vae.modules() if isinstance(module, Trunk)]
    hooks = [trunk.register_forward_hook(count("encodes")) for trunk in trunks]
    hooks += [d.register_forward_hook(count("decodes")) for d in vae.decoders.children()]
    with torch.no_grad():
        generator = torch.Generator(vae.device).manual_seed(0)
        vae.bound({name: vae.prepared(name, x) for name, x in batch.items()}, Draws(generator))
    for hook in hooks:
        hook.remove()
    scenes = len(next(iter(batch.values())))
    return {kind: rows / scenes for kind, rows in counts.items()}


def curves(folder: Path) -> Callable[[dict[str, float]], None]:
    """What writes each row of the learning curves into `folder`, as DVCLive lays them out."""
    shutil.rmtree(folder, ignore_errors=True)
    live = None
    with contextlib.suppress(ImportError):  # a machine that has no DVC: see `pipeline study`
        from dvclive import Live

        live = Live(str(folder), save_dvc_exp=False, dvcyaml=None, report=None)

    def log(row: dict[str, float]) -> None:
        for name, value in row.items():
            if name == "step":
                continue
            if live:
                live.step = int(row["step"])
                live.log_metric(name, value)
                continue
            file = folder / "plots/metrics" / f"{name}.tsv"
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                file.write_text(f"step\t{name}\n", encoding="utf-8")
            with open(file, "a", encoding="utf-8") as lines:
                lines.write(f"{int(row['step'])}\t{value}\n")

    return log


def main(run: Run, cell: Cell, modalities: tuple[str, ...]) -> None:
    """Train the model of `run`."""
    params, device = stage.section("vae", VAEParams), stage.device()
    params = params.model_copy(update={"modalities": {m: params.modalities[m] for m in modalities}})
    dataset = rendered()
    validation = {m: dataset.array(m, "validation") for m in modalities}
    model = run.model(stage.DATA)
    try:
        summary = train(
            params,
            cell,
            {m: dataset.array(m, "train") for m in modalities},
            validation,
            seed=run.seed,
            out=model,
            checkpoints=run.checkpoints(stage.CHECKPOINTS),
            device=device,
            log=curves(run.curves(stage.DATA)),
            keep=True,
        )
    except (DivergedError, ValueError) as error:
        stage.fail(f"{run}: {error}")
    vae = MultimodalVAE.load(model, device)
    few = {m: torch.from_numpy(x[:4]) for m, x in validation.items()}
    stage.write_json(
        run.training(stage.RESULTS),
        {
            "loss": summary["loss"],
            "validation_loss": summary["validation_loss"],
            "steps": summary["steps"],
            "train_seconds": round(summary["seconds"], 1),
            "parameters": sum(p.numel() for p in vae.parameters()),
            **passes(vae, few),
        },
    )
    shutil.rmtree(run.checkpoints(stage.CHECKPOINTS), ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modality", choices=MODALITIES, help="train its unimodal VAE")
    chosen = stage.asked_run(parser)
    run, asked = chosen.run, chosen.run.cell
    if chosen.modality != (asked if asked in MODALITIES else None):
        stage.fail(f"{run}: a modality's run needs --modality {asked}, a cell's none")
    if chosen.modality:
        name, cell = "train_unimodal", Cell()  # with one expert, the plain VAE
    else:
        name, cell = "train_vae", stage.section(f"grid.cells.{asked}", Cell)
    with stage.running(
        f"{name}@{run}",
        lambda: stage.checkpoint_kept(
            run.checkpoints(stage.CHECKPOINTS), "one every vae.training.checkpoint_every steps"
        ),
    ):
        main(run, cell, (chosen.modality,) if chosen.modality else MODALITIES)

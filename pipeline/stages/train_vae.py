"""Stages `train_vae` and `train_unimodal`: one multimodal VAE per cell and seed, and one VAE per
modality and seed, which is the same model with a single modality."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

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
from pipeline.study import Study, asked_run

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


def main(study: Study, run: Run) -> None:
    """Train one model and write it, its curves what it costs and how long it took."""
    params, alone = study.section("vae", VAEParams), study.alone(run)
    cell = study.section("grid.unimodal" if alone else f"grid.cells.{run.cell}", Cell)
    names = (run.cell,) if alone else cell.fuses(params.modalities)
    params = params.model_copy(update={"modalities": {m: params.modalities[m] for m in names}})
    data, held_out = study.part("loader").training(names)
    model = run.model(study.data)
    try:
        summary = train(
            params,
            cell,
            data,
            {m: held_out.get(m, x[:0]) for m, x in data.items()},
            seed=run.seed,
            out=model,
            checkpoints=run.checkpoints(study.checkpoints),
            device=stage.device(),
            log=curves(run.curves(study.data)),
            keep=True,
        )
    except (DivergedError, ValueError) as error:
        stage.fail(f"{run}: {error}")
    vae = MultimodalVAE.load(model, stage.device())
    few = {m: torch.from_numpy(x[:4]) for m, x in data.items()}
    stage.write_json(
        run.training(study.results),
        {
            "loss": summary["loss"],
            "validation_loss": summary["validation_loss"],
            "steps": summary["steps"],
            "parameters": sum(p.numel() for p in vae.parameters()),
            **passes(vae, few),
        },
    )
    took = {"steps": summary["steps"], "train_seconds": round(summary["seconds"], 1)}
    stage.write_json(run.times(study.results), took)
    shutil.rmtree(run.checkpoints(study.checkpoints), ignore_errors=True)


if __name__ == "__main__":
    study, asked = asked_run(__doc__)
    with study.running(
        f"{'train_unimodal' if study.alone(asked) else 'train_vae'}@{asked}",
        lambda: stage.checkpoint_kept(
            asked.checkpoints(study.checkpoints), "one every vae.training.checkpoint_every steps"
        ),
    ):
        main(study, asked)

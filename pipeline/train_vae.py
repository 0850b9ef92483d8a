"""Stages `train_vae` and `train_unimodal`: one multimodal VAE per cell and seed, and one VAE per
modality and seed, which is the same model with a single modality."""

from __future__ import annotations

import argparse
from pathlib import Path

from dvclive import Live

from models.params import Cell, VAEParams
from models.training import train
from pipeline import stage
from scenegen.dataset import open_dataset

__all__ = ["main"]


def main(run: str, cell: Cell, modalities: tuple[str, ...]) -> None:
    """Train one model; `run` ends in the seed, as in poe-ecg-0."""
    params = stage.section("vae", VAEParams)
    dataset = open_dataset(stage.DATASET)
    curves = Live(f"data/curves/{run}", save_dvc_exp=False, dvcyaml=None, report=None)

    def log(row: dict[str, float]) -> None:
        curves.step = int(row["step"])
        for name, value in row.items():
            if name != "step":
                curves.log_metric(name, value)
        curves.sync()

    summary = train(
        {name: dataset.array(name, "train") for name in modalities},
        {name: dataset.array(name, "validation") for name in modalities},
        params,
        cell,
        seed=int(run.rsplit("-", 1)[1]),
        out=Path(f"data/models/{run}.safetensors"),
        checkpoints=stage.CHECKPOINTS / run,
        device=stage.device(),
        log=log,
    )
    curves.end()
    stage.write_json(Path(f"results/models/{run}.json"), summary)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="name of the model and its seed, as in poe-ecg-0")
    parser.add_argument("--modalities", nargs="+", default=stage.MODALITIES)
    arguments, options = parser.parse_known_args()
    # The rest is the cell as dvc.yaml unpacks it: --fusion poe --objective lcd --alpha 0.5
    pairs = zip(options[::2], options[1::2], strict=True)
    chosen = Cell.model_validate({key.removeprefix("--"): value for key, value in pairs})
    main(arguments.run, chosen, tuple(arguments.modalities))

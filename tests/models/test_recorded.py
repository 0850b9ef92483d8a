"""A step recorded on a GPU is the step that is taken kernel by kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models import recorded
from models.params import (
    Cell,
    ModalityParams,
    NetworkParams,
    TrainingParams,
    VAEParams,
    fusion_names,
    objective_names,
)
from models.training import train

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

PARAMS = VAEParams(
    modalities={
        "image": ModalityParams(scale=0.3),
        "depth": ModalityParams(likelihood="laplace", scale=0.3),
        "radar": ModalityParams(likelihood="bernoulli"),
    },
    latent=8,
    network=NetworkParams(kind="mixer", width=8, blocks=1),
    training=TrainingParams(
        steps=30, batch=8, warmup=4, kl_warmup=20, clip=100.0, log_every=10, precision="float32"
    ),
)
DATA = {
    name: np.random.default_rng(i).integers(0, 256, (64, 16, 16, 3 if i == 0 else 1), np.uint8)
    for i, name in enumerate(PARAMS.modalities)
}
CELLS = [
    *(Cell(fusion=name, objective="ecg") for name in fusion_names()),
    *(Cell(fusion="poe", objective=name) for name in objective_names() if name != "jmvae"),
    Cell(fusion="largest", objective="jmvae"),
    Cell(fusion="poe", samples=2, gradient="dreg"),
]


def weights(cell: Cell, out: Path) -> dict[str, torch.Tensor]:
    params = PARAMS
    if cell.samples > 1:  # an importance-weighted bound has no KL term to warm up
        plain = PARAMS.training.model_copy(update={"kl_warmup": 0})
        params = PARAMS.model_copy(update={"training": plain})
    train(params, cell, DATA, DATA, seed=0, out=out, checkpoints=out.with_suffix(""), device="cuda")
    return load_file(out)


@gpu
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.fusion}-{cell.objective}")
def test_a_recorded_training_is_that_of_single_kernels(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed = weights(cell, tmp_path / "replayed.safetensors")
    monkeypatch.setattr(recorded, "WARM", 10**9)
    single = weights(cell, tmp_path / "single.safetensors")
    assert set(replayed) == set(single)
    for name, value in single.items():
        torch.testing.assert_close(replayed[name], value, rtol=1e-3, atol=1e-3, msg=name)

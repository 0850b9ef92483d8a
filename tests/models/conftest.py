"""Small models of vectors, on which every identity can be checked in milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models import entries
from models.mixture import Draws, Experts
from models.params import Cell, ModalityParams, TrainingParams, VAEParams
from models.vae import MultimodalVAE

SIZES = {"a": 3, "b": 2, "c": 4, "d": 2}
LATENT = 2


def small_params(names: str = "abc", latent: int = LATENT, scale: float = 0.7) -> VAEParams:
    """Vectors with normal likelihoods of different weights, in float32 arithmetic."""
    weights = {"a": 1.0, "b": 2.0, "c": 0.5, "d": 1.5}
    return VAEParams(
        modalities={n: ModalityParams(scale=scale, weight=weights[n]) for n in names},
        latent=latent,
        training=TrainingParams(precision="float32", threads=1, batch=8, kl_warmup=0),
    )


def small_model(cell: Cell, names: str = "abc", seed: int = 0) -> MultimodalVAE:
    """A float64 model with random weights that are not at their initial, narrow values."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MultimodalVAE(small_params(names), cell, {n: (SIZES[n],) for n in names})
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.3)
    return model.double()


def small_batch(names: str = "abc", batch: int = 5, seed: int = 1) -> dict[str, Tensor]:
    """Standard normal vectors in float64."""
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(batch, SIZES[n], generator=generator).double() for n in names}


def draws(seed: int = 2) -> Draws:
    """Fresh draws that are the same every time."""
    return Draws(torch.Generator().manual_seed(seed))


def random_experts(count: int = 3, batch: int = 4, latent: int = 5, seed: int = 0) -> Experts:
    """Experts with all present, [E, 1, B, L], float64, variances from 0.1 to 3."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 1, batch, latent)
    mean = torch.randn(shape, generator=generator).double()
    var = 0.1 + 2.9 * torch.rand(shape, generator=generator).double()
    return Experts(mean, var, torch.ones(count, 1, 1, 1, dtype=torch.bool))


def with_own(name: str, experts: Experts) -> Experts:
    """The experts with the parameters that fusion `name` owns, at their initial values."""
    own = entries.own("fusion", name, len(experts.mean), experts.mean.shape[-1]).double()
    return replace(experts, own=dict(own.items()))


@pytest.fixture
def experts() -> Experts:
    """Three experts."""
    return random_experts()


@pytest.fixture
def make_model() -> Callable[..., MultimodalVAE]:
    """`small_model`, as a fixture."""
    return small_model

"""The same losses as MultiVae 1.0.3, for the same weights and the same noise."""

from __future__ import annotations

from typing import Any

import multivae.models as multivae
import pytest
import torch
from multivae.data.datasets.base import MultimodalBaseDataset
from multivae.models import base
from torch import Tensor, nn

from models.fusions import mopoe, poe
from models.mixture import Draws, Experts, Mixture
from models.params import Cell
from models.vae import MultimodalVAE
from tests.models.conftest import LATENT, SIZES, small_batch, small_model

BATCH = 15  # MoPoE splits a batch over its 7 subsets: 6 times 2 rows, then 3


class Encoder(base.BaseEncoder):  # type: ignore[name-defined]
    def __init__(self, model: MultimodalVAE, name: str) -> None:
        super().__init__()
        self.latent_dim = LATENT
        self.expert, self.name = model.experts["abc".index(name)], name

    def forward(self, x: Tensor) -> Any:
        mean, var = self.expert({self.name: x})
        return base.ModelOutput(embedding=mean, log_covariance=var.log())


class Decoder(base.BaseDecoder):  # type: ignore[name-defined]
    def __init__(self, model: MultimodalVAE, name: str) -> None:
        super().__init__()
        self.latent_dim = LATENT
        self.model, self.name = [model], name

    def forward(self, z: Tensor) -> Any:
        return base.ModelOutput(reconstruction=self.model[0].decode(self.name, z))


def theirs(kind: str, model: MultimodalVAE, **options: Any) -> nn.Module:
    """MultiVae's model around our networks, likelihoods and weights."""
    modalities = model.params.modalities
    config = getattr(multivae, f"{kind}Config")(
        n_modalities=3,
        latent_dim=LATENT,
        input_dims={n: (SIZES[n],) for n in "abc"},
        decoders_dist=dict.fromkeys("abc", "normal"),
        decoder_dist_params={n: {"scale": modalities[n].scale} for n in "abc"},
        uses_likelihood_rescaling=True,
        rescale_factors={n: modalities[n].weight for n in "abc"},
        **options,
    )
    encoders = {n: Encoder(model, n) for n in "abc"}
    decoders = {n: Decoder(model, n) for n in "abc"}
    built: nn.Module = getattr(multivae, kind)(config, encoders, decoders)
    return built.train()


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """One noise [B, L] for both: every reparametrised normal draw uses its rows."""
    eps = torch.randn(BATCH, LATENT, generator=torch.Generator().manual_seed(3)).double()

    def rsample(self: Any, shape: Any = ()) -> Tensor:
        size = self._extended_shape(torch.Size(shape))
        return self.loc + self.scale * eps.expand(size)

    monkeypatch.setattr(torch.distributions.Normal, "rsample", rsample)
    return eps


def ours(model: MultimodalVAE, x: dict[str, Tensor], noise: Tensor) -> Tensor:
    draws = Draws(torch.Generator().manual_seed(0), normals=noise)
    return -model.bound(x, draws).value.sum(0).mean()


def batch() -> tuple[dict[str, Tensor], Any]:
    x = small_batch(batch=BATCH)
    return x, MultimodalBaseDataset(data=x)


@pytest.mark.parametrize("objective", ["none", "subsampling"])
def test_mvae(objective: str, noise: Tensor) -> None:
    model, (x, dataset) = small_model(Cell(objective=objective, subsets=0)), batch()
    peer = theirs("MVAE", model, use_subsampling=objective == "subsampling", k=0, warmup=0)
    torch.testing.assert_close(ours(model, x, noise), peer(dataset, epoch=2).loss)


@pytest.mark.parametrize("samples", [1, 4])
def test_mmvae(samples: int, noise: Tensor) -> None:
    """Its iwae_looser with normal posteriors; its loss is a sum over the batch."""
    model, (x, dataset) = small_model(Cell(fusion="moe", samples=samples, kl="sampled")), batch()
    peer = theirs(
        "MMVAE",
        model,
        K=samples,
        prior_and_posterior_dist="normal",
        learn_prior=False,
        loss="iwae_looser",
    )
    peer.double()
    torch.testing.assert_close(ours(model, x, noise), peer(dataset).loss / BATCH)


def test_mvtcae(noise: Tensor) -> None:
    cell = Cell(objective="mvtcae", tc=0.9, beta=2.5, prior_expert=False)
    model, (x, dataset) = small_model(cell), batch()
    peer = theirs("MVTCAE", model, alpha=0.9, beta=2.5)
    torch.testing.assert_close(ours(model, x, noise), peer(dataset).loss)


def test_mopoe(noise: Tensor) -> None:
    """MultiVae's has the prior expert in the full set alone, and decodes B/7 rows per subset."""
    model, (x, dataset) = small_model(Cell(fusion="mopoe")), batch()

    def fuse(experts: Experts, cell: Cell, draws: Draws) -> Mixture:
        without = mopoe.fuse(experts, cell.model_copy(update={"prior_expert": False}), draws)
        full = poe.fuse(experts, cell, draws)
        return Mixture(
            torch.cat([without.mean[:-1], full.mean]),
            torch.cat([without.var[:-1], full.var]),
            without.log_weight,
        )

    model.fuse = fuse
    got = theirs("MoPoE", model)(dataset).loss.double()

    bits = {"a": 4, "b": 2, "c": 1}
    order = [sum(bits[n] for n in s) - 1 for s in ("a", "b", "c", "ab", "ac", "bc", "abc")]
    component = [order[min(row // 2, 6)] for row in range(BATCH)]
    q = model.fuse(_experts(model, x), model.cell, Draws())
    z = q.sample(1, Draws(normals=noise))[0, :, 0]  # [C, B, L]
    fit = model.log_likelihoods(x, z).sum(0)[component, range(BATCH)]
    kl = q.kl_bound(torch.zeros(LATENT).double(), torch.ones(LATENT).double())[0]
    torch.testing.assert_close((kl - fit).mean(), got, rtol=1e-6, atol=1e-6)


def _experts(model: MultimodalVAE, x: dict[str, Tensor]) -> Experts:
    mean, var = model.encode(x)
    return Experts(mean[:, None], var[:, None], torch.ones(3, 1, 1, 1, dtype=torch.bool))

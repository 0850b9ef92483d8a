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

BATCH = 15


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


class Empty(base.BaseEncoder):
    """A modality of nothing, whose expert is N(0, I)."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = LATENT

    def forward(self, x: Tensor) -> Any:
        zero = x.new_zeros(len(x), LATENT)
        return base.ModelOutput(embedding=zero, log_covariance=zero)


class EmptyDecoder(base.BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = LATENT

    def forward(self, z: Tensor) -> Any:
        return base.ModelOutput(reconstruction=z.new_zeros(len(z), 1))


def theirs(
    kind: str, model: MultimodalVAE, empty: tuple[str, ...] = (), **options: Any
) -> nn.Module:
    """MultiVae's model around our networks, likelihoods and weights, and `empty` modalities."""
    modalities = model.params.modalities
    names = ("a", "b", "c", *empty)
    config = getattr(multivae, f"{kind}Config")(
        n_modalities=len(names),
        latent_dim=LATENT,
        input_dims={n: (SIZES.get(n, 1),) for n in names},
        decoders_dist=dict.fromkeys(names, "normal"),
        decoder_dist_params={n: {"scale": modalities[n].scale} for n in "abc"},
        uses_likelihood_rescaling=True,
        rescale_factors={n: modalities[n].weight if n in modalities else 0.0 for n in names},
        **options,
    )
    encoders = {n: Empty() if n in empty else Encoder(model, n) for n in names}
    decoders = {n: EmptyDecoder() if n in empty else Decoder(model, n) for n in names}
    built: nn.Module = getattr(multivae, kind)(config, encoders, decoders)
    return built.train()


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """One noise [B, L] for both, and for each copy of a batch: every normal draw uses its rows."""
    eps = torch.randn(BATCH, LATENT, generator=torch.Generator().manual_seed(3)).double()

    def rsample(self: Any, shape: Any = ()) -> Tensor:
        size = self._extended_shape(torch.Size(shape))
        copies = size[-2] // BATCH
        return self.loc + self.scale * eps.repeat(copies, 1).expand(size)

    monkeypatch.setattr(torch.distributions.Normal, "rsample", rsample)
    return eps


def ours(model: MultimodalVAE, x: dict[str, Tensor], noise: Tensor) -> Tensor:
    draws = Draws(torch.Generator().manual_seed(0), normals=noise)
    return -model.bound(x, draws).value.sum(0).mean()


def batch(copies: int = 1, empty: tuple[str, ...] = ()) -> tuple[dict[str, Tensor], Any]:
    """Ours, and theirs: copies of it, one after the other, with `empty` modalities."""
    x = small_batch(batch=BATCH)
    nothing = dict.fromkeys(empty, torch.zeros(BATCH, 1).double())
    many = {n: v.repeat(copies, 1) for n, v in {**x, **nothing}.items()}
    return x, MultimodalBaseDataset(data=many)


@pytest.mark.parametrize("objective", ["none", "subsampling"])
def test_mvae(objective: str, noise: Tensor) -> None:
    own = {"subsets": 0} if objective == "subsampling" else {}
    model, (x, dataset) = small_model(Cell(objective=objective, **own)), batch()
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


def test_crmvae(noise: Tensor) -> None:
    """Its product has no prior expert; its loss is a sum over the batch."""
    cell = Cell(objective="crmvae", beta=2.5, prior_expert=False)
    model, (x, dataset) = small_model(cell), batch()
    peer = theirs("CRMVAE", model, beta=2.5)
    torch.testing.assert_close(ours(model, x, noise), peer(dataset).loss / BATCH)


@pytest.mark.parametrize("prior_expert", [True, False])
def test_mopoe(prior_expert: bool, noise: Tensor) -> None:
    """`bound` for a batch is MultiVae's loss for 7 copies of it: it decodes one subset per row.

    Its rows are the subsets' in turn: the k-th copy is decoded from the k-th subset, with the same
    noise as the others, and the mean over the copies is our sum of 1/7 over the components. It has
    a prior expert in the set of all its modalities alone: here that set, which holds a modality
    that no subset uses, is none of its subsets, and where every subset shall have the prior expert
    it is given as one more modality. Neither is reconstructed (weight 0). Its KL is a float32.
    """
    model, empty = small_model(Cell(fusion="mopoe", prior_expert=prior_expert)), ("prior", "unused")
    x, dataset = batch(7, empty)
    extra = ["prior"] if prior_expert else []
    subsets = [[*s, *extra] for s in ("a", "b", "c", "ab", "ac", "bc", "abc")]
    peer = theirs("MoPoE", model, empty, subsets=subsets)
    loss = peer(dataset).loss.double()
    torch.testing.assert_close(ours(model, x, noise), loss, rtol=1e-6, atol=1e-6)


def test_mopoe_with_the_prior_expert_of_multivae(noise: Tensor) -> None:
    """As published: the full set alone has a prior expert, which no option of ours says."""
    model, (x, dataset) = small_model(Cell(fusion="mopoe")), batch(7)

    def fuse(experts: Experts, options: poe.Options, draws: Draws) -> Mixture:
        without = mopoe.fuse(experts, poe.Options(prior_expert=False), draws)
        full = poe.fuse(experts, options, draws)
        return Mixture(
            torch.cat([without.mean[:-1], full.mean]),
            torch.cat([without.var[:-1], full.var]),
            without.log_weight,
        )

    model.fuse = fuse
    loss = theirs("MoPoE", model)(dataset).loss.double()
    torch.testing.assert_close(ours(model, x, noise), loss, rtol=1e-6, atol=1e-6)

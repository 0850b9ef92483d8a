"""The bound: the linear-Gaussian model, importance weighting, gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from models.fusions import poe
from models.fusions.rbcm import committee
from models.mixture import Draws, Experts, Mixture, gaussian
from models.params import Cell, ModalityParams, TrainingParams, VAEParams
from models.vae import MultimodalVAE
from tests.models.conftest import draws, small_batch, small_model

ONE_COMPONENT = ["poe", "rbcm", "bce", "rce", "barycenter", "code", "gpoe", "hellinger"]
SIGMA, SIZES, LOADS = 0.6, {"a": 3, "b": 4}, {"a": (1.2, 0.5), "b": (0.4, 1.5)}


class ExactExpert(nn.Module):
    """p(z|x) of x = W z + noise: all of it, or the likelihood p(x|z) alone, as a Gaussian in z."""

    def __init__(self, name: str, loading: Tensor, prior: bool, shift: float = 0.0) -> None:
        super().__init__()
        self.name, self.loading, self.prior, self.shift = name, loading, prior, shift

    def forward(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        precision = self.loading.square().sum(0) / SIGMA**2 + self.prior
        mean = x[self.name] @ self.loading / SIGMA**2 / precision + self.shift
        return mean, (1 / precision).expand_as(mean)


def linear_gaussian(cell: Cell, prior: bool, shift: float = 0.0) -> MultimodalVAE:
    """x_i = W_i z + N(0, SIGMA^2), W_i with orthogonal columns: the posterior is diagonal."""
    params = VAEParams(
        modalities={n: ModalityParams(scale=SIGMA) for n in SIZES},
        latent=2,
        training=TrainingParams(precision="float32"),
    )
    model = MultimodalVAE(params, cell, {n: (size,) for n, size in SIZES.items()}).double()
    for index, (name, size) in enumerate(SIZES.items()):
        generator = torch.Generator().manual_seed(index)
        basis = torch.linalg.qr(torch.randn(size, 2, generator=generator).double())[0]
        loading = basis * torch.tensor(LOADS[name])
        model.experts[index] = ExactExpert(name, loading, prior, shift)
        linear = nn.Linear(2, size, bias=False).double()
        linear.weight.data = loading
        model.decoders[name] = linear
    return model


def loadings(model: MultimodalVAE) -> Tensor:
    return torch.cat([next(model.decoders[n].parameters()).detach() for n in SIZES])


def data(batch: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(8)
    return {n: torch.randn(batch, size, generator=generator).double() for n, size in SIZES.items()}


def exact_posterior(model: MultimodalVAE, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    load = loadings(model)
    cov = torch.linalg.inv(torch.eye(2).double() + load.T @ load / SIGMA**2)
    return torch.cat([x[n] for n in SIZES], 1) @ load @ cov / SIGMA**2, cov.diagonal()


def evidence(model: MultimodalVAE, x: dict[str, Tensor]) -> Tensor:
    load = loadings(model)
    cov = load @ load.T + SIGMA**2 * torch.eye(len(load)).double()
    normal = torch.distributions.MultivariateNormal(torch.zeros(len(load)).double(), cov)
    return normal.log_prob(torch.cat([x[n] for n in SIZES], 1))


def experts_of(model: MultimodalVAE, x: dict[str, Tensor]) -> Experts:
    mean, var = model.encode(x)
    return Experts(mean[:, None], var[:, None], torch.ones(2, 1, 1, 1, dtype=torch.bool))


def assert_is_posterior(joint: Mixture, model: MultimodalVAE, x: dict[str, Tensor]) -> None:
    mean, var = exact_posterior(model, x)
    torch.testing.assert_close(joint.mean[0, 0], mean)
    torch.testing.assert_close(joint.var[0, 0], var.expand_as(mean))


def test_poe_of_the_likelihoods_and_the_prior_is_the_posterior() -> None:
    model, x = linear_gaussian(Cell(fusion="poe"), prior=False), data()
    assert_is_posterior(model.posterior(x), model, x)


def test_committee_of_the_exact_experts_is_the_posterior_and_poe_too_narrow() -> None:
    model, x = linear_gaussian(Cell(fusion="rbcm"), prior=True), data()
    experts = experts_of(model, x)
    assert_is_posterior(committee(experts, torch.ones_like(experts.var)), model, x)
    narrow = poe.fuse(experts, poe.Options(), Draws())
    assert (narrow.var[0, 0] < exact_posterior(model, x)[1] - 1e-3).all()


def test_the_bound_with_the_exact_posterior_is_the_evidence() -> None:
    """K > 1 with the exact posterior has no variance: log p(x) whatever the draws."""
    for samples in (2, 5):
        model = linear_gaussian(Cell(fusion="poe", samples=samples), prior=False)
        x = data()
        torch.testing.assert_close(model.bound(x, draws()).value[0], evidence(model, x))


def test_the_elbo_is_the_evidence_minus_the_kl_to_the_posterior() -> None:
    model = linear_gaussian(Cell(fusion="poe"), prior=False, shift=0.2)
    x = {n: v.repeat(4_000, 1) for n, v in data(1).items()}
    q, (mean, var) = model.posterior(x), exact_posterior(model, x)
    gap = q.kl_bound(gaussian(mean[None], var.expand_as(mean)[None]))[0]
    value = model.bound(x, draws()).value[0]
    want = (evidence(model, x) - gap)[0].item()
    assert abs(value.mean().item() - want) < 4 * value.std().item() / math.sqrt(4_000)


@pytest.mark.parametrize("fusion", ["poe", "moe", "mopoe", "rce"])
def test_the_bound_rises_to_the_evidence_with_k(fusion: str) -> None:
    x = {n: v.repeat(600, 1) for n, v in data(1).items()}
    prior = fusion != "poe"
    values = []
    for samples in (1, 4, 40):
        own = {"prior_expert": not prior} if fusion in ("poe", "mopoe") else {}
        cell = Cell(fusion=fusion, samples=samples, kl="sampled", **own)
        model = linear_gaussian(cell, prior=prior, shift=0.15)
        values.append(model.bound(x, draws()).value[0].mean().item())
    exact = evidence(model, x)[0].item()
    assert values[0] < values[1] < values[2] < exact + 0.02
    if fusion == "poe":
        assert exact - values[2] < 0.02


@pytest.mark.parametrize("fusion", ["poe", "moe", "mopoe"])
def test_log_likelihood_is_the_evidence(fusion: str) -> None:
    """Also for mixtures, whose strata are weighted inside the log here."""
    model, x = linear_gaussian(Cell(fusion=fusion), prior=fusion != "poe"), data()
    got = model.log_likelihood(x, 4_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(got, evidence(model, x), atol=0.05, rtol=0)


def test_moe_at_k_1_keeps_the_strata_outside_the_log() -> None:
    """Hand-written: sum_c 1/M [log p(x, z_c) - log q(z_c)], q the whole mixture."""
    model, x = small_model(Cell(fusion="moe", kl="sampled")), small_batch()
    value = model.bound(x, draws()).value[0]
    q = model.posterior(x)
    z = q.sample(1, draws())[0, :, 0]  # [C, B, L]
    log_p = model.log_likelihoods(x, z).sum(0)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    each = torch.distributions.Normal(q.mean[:, 0], q.var[:, 0].sqrt())
    log_q = each.log_prob(z[:, None]).sum(-1).exp().mean(1).log()
    torch.testing.assert_close(value, (log_p + prior - log_q).mean(0))


@pytest.mark.parametrize("fusion", ["poe", "moe", "mopoe"])
def test_iwae_written_out(fusion: str) -> None:
    """sum_c w_c log 1/K sum_k w_kc: the -log K, the weights and the mixture's log q count.

    The curves' reconstructions and KL are means by the same importance weights.
    """
    model, x = small_model(Cell(fusion=fusion, samples=3)), small_batch()
    bound = model.bound(x, draws())
    q = model.posterior(x)
    z = q.sample(3, draws())[:, :, 0]  # [K, C, B, L]
    count = z.shape[1]
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    each = torch.distributions.Normal(q.mean[:, 0], q.var[:, 0].sqrt())
    log_q = each.log_prob(z[:, :, None]).sum(-1).logsumexp(2) - math.log(count)
    value, fit, kl = torch.zeros(5).double(), torch.zeros(3, 5).double(), torch.zeros(5).double()
    for c in range(count):
        log_p = model.log_likelihoods(x, z[:, c])  # [M, K, B]
        ratio = log_p.sum(0) + prior[:, c] - log_q[:, c]
        value += (ratio.logsumexp(0) - math.log(3)) / count
        share = (ratio - ratio.logsumexp(0)).exp()
        fit += (share * log_p).sum(1) / count
        kl += (share * (log_q[:, c] - prior[:, c])).sum(0) / count
    torch.testing.assert_close(bound.value[0], value)
    torch.testing.assert_close(bound.reconstruction[:, 0], fit.mean(1))
    torch.testing.assert_close(bound.kl[0], kl.mean())


@pytest.mark.parametrize(
    "cell",
    [
        Cell(),
        Cell(fusion="rbcm", objective="ecg"),
        Cell(fusion="moe", kl="sampled"),
        Cell(fusion="mopoe", samples=3),
        Cell(fusion="code", objective="mvtcae", beta=2.0),
        Cell(fusion="rce", samples=2),
        Cell(fusion="barycenter", objective="lcd"),
        Cell(fusion="largest", objective="jmvae"),
        Cell(fusion="code", objective="weighted", entropy=30.0),
        Cell(fusion="poe", objective="masked", beta=2.0),
        Cell(fusion="mopoe", objective="masked"),
        Cell(fusion="moe", objective="tc", kl="sampled"),
        Cell(fusion="barycenter", objective="crmvae"),
        Cell(fusion="moe", objective="mmvm"),
        Cell(fusion="gpoe", objective="ecg"),
        Cell(fusion="hellinger", objective="ecg"),
        Cell(fusion="hellinger", objective="split", overlap="joint"),
    ],
    ids=lambda cell: f"{cell.fusion}-{cell.objective}-{cell.samples}",
)
def test_gradients_by_finite_differences(cell: Cell) -> None:
    model, x = small_model(cell), small_batch()

    def loss() -> Tensor:
        return -model.bound(x, draws()).value.sum(0).mean()

    loss().backward()
    generator = torch.Generator().manual_seed(4)
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        direction = torch.randn(weight.shape, generator=generator).double()
        analytic = (weight.grad * direction).sum().item()
        with torch.no_grad():
            weight.add_(direction, alpha=1e-6)
            above = loss().item()
            weight.sub_(direction, alpha=2e-6)
            below = loss().item()
            weight.add_(direction, alpha=1e-6)
        assert analytic == pytest.approx((above - below) / 2e-6, rel=1e-3, abs=1e-4), name


def encoder_gradients(cell: Cell, repeats: int) -> Tensor:
    """d value / d (what each expert's head puts out), for 2 items: [repeats, E, 2, 2L]."""
    model = small_model(cell, "ab")
    x = {n: v.repeat(repeats, 1) for n, v in small_batch("ab", batch=2).items()}
    heads: list[Tensor] = []
    for expert in model.experts:
        expert.head.register_forward_hook(  # type: ignore[union-attr]
            lambda module, inputs, output: heads.append(output)
        )
    value = model.bound(x, draws()).value.sum()
    rows = torch.stack(torch.autograd.grad(value, heads), 1)
    return rows.unflatten(0, (repeats, 2)).movedim(1, 2)


@pytest.mark.parametrize(
    "cell",
    [
        *(Cell(fusion=f, gradient="stl") for f in ONE_COMPONENT),
        *(Cell(fusion=f, gradient="dreg", samples=4) for f in ONE_COMPONENT),
        Cell(fusion="barycenter", objective="ecg", gradient="dreg", samples=2),
        Cell(fusion="largest", objective="jmvae", gradient="stl"),
        Cell(fusion="code", objective="mvtcae", gradient="stl"),
        Cell(fusion="code", objective="masked", gradient="stl"),
        Cell(fusion="barycenter", objective="tc", gradient="stl"),
        Cell(fusion="poe", objective="crmvae", gradient="stl"),
        Cell(fusion="moe", objective="mmvm", gradient="stl", kl="sampled"),
        Cell(fusion="moe", objective="masked", gradient="stl", kl="sampled"),
        Cell(fusion="moe", gradient="stl"),
        Cell(fusion="moe", gradient="stl", kl="sampled"),
        Cell(fusion="mopoe", gradient="stl", kl="sampled"),
    ],
    ids=lambda cell: f"{cell.gradient}-{cell.fusion}-{cell.objective}-{cell.kl}",
)
def test_stl_and_dreg_are_unbiased(cell: Cell) -> None:
    """Their mean over many draws is the standard estimator's, within a noise of a few per cent.

    rce: for each choice, which both draw alike. stl is unbiased for mixtures also; dreg is not.
    """
    repeats = 4_000
    other = encoder_gradients(cell, repeats)
    standard = encoder_gradients(cell.model_copy(update={"gradient": "standard"}), repeats)
    difference = standard - other
    error = difference.std(0) / math.sqrt(repeats)
    assert (difference.mean(0).abs() < 4.5 * error + 1e-9).all()
    assert not torch.allclose(standard, other)
    assert error.max() < 0.06 * standard.mean(0).square().mean().sqrt(), "nothing is proved"


@pytest.mark.parametrize("objective", ["none", "ecg"])
@pytest.mark.parametrize("fusion", ONE_COMPONENT)
def test_dreg_changes_gradients_alone(fusion: str, objective: str) -> None:
    x, bounds = small_batch(), []
    for gradient in ("standard", "dreg"):
        options = {"fusion": fusion, "objective": objective, "samples": 4, "gradient": gradient}
        bounds.append(small_model(Cell.model_validate(options)).bound(x, draws()))
    for name in ("value", "reconstruction", "kl"):
        torch.testing.assert_close(getattr(bounds[1], name), getattr(bounds[0], name))


def test_stl_has_no_variance_at_the_exact_posterior() -> None:
    """Roeder et al. 2017: where q is the posterior, every draw's gradient is 0."""
    model = linear_gaussian(Cell(gradient="stl"), prior=False)
    shift = nn.Parameter(torch.zeros(2).double())
    model.experts[0].shift = shift
    gradient = torch.autograd.grad(model.bound(data(), draws()).value.sum(), shift)[0]
    torch.testing.assert_close(gradient, torch.zeros(2).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("samples", "gradient"), [(1, "stl"), (3, "dreg")])
def test_decoders_learn_as_by_the_standard_gradient(samples: int, gradient: str) -> None:
    x = small_batch()
    grads = []
    for kind in ("standard", gradient):
        model = small_model(Cell.model_validate({"samples": samples, "gradient": kind}))
        model.bound(x, draws()).value.sum().backward()
        grads.append([p.grad for p in model.decoders.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)

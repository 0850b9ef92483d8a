"""Objectives whose terms' posteriors are drawn to one another."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.mixture import Draws, Mixture, gaussian, gaussian_kl
from models.params import Cell
from models.plan import subsets
from models.vae import MultimodalVAE
from tests.models.conftest import draws, small_batch, small_model
from tests.models.test_bound import data, evidence, linear_gaussian
from tests.models.test_objectives import all_subsets, elbo, fit, fixed

DRAWN = ("masked", "tc")  # a subset for every sample


class Chosen(Draws):
    """Uniforms that choose one row of 2^M - 1, the same for every sample."""

    def __init__(self, row: int, modalities: int = 3) -> None:
        super().__init__(torch.Generator().manual_seed(5))
        object.__setattr__(self, "share", (row + 0.5) / (2**modalities - 1))

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return torch.full(shape, self.share, dtype=like.dtype)

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        return fixed().normal(shape, like)


def point(q: Mixture) -> Tensor:
    """The draw [B, L] of a posterior that is one Gaussian, with the noise of `Chosen`."""
    return q.sample(1, Chosen(0))[0, 0, 0]


def kl(q: Mixture, other: Mixture | None) -> Tensor:
    mean, var = q.mean[0, 0], q.var[0, 0]
    if other is None:
        return gaussian_kl(mean, var, torch.zeros_like(mean), torch.ones_like(var))
    return gaussian_kl(mean, var, other.mean[0, 0], other.var[0, 0])


def answers(model: MultimodalVAE, x: dict[str, Tensor], names: str) -> Mixture:
    return model.posterior({n: x[n] for n in names})


ONE_GAUSSIAN = ["poe", "rbcm", "bce", "barycenter", "code", "gpoe", "hellinger", "largest"]


@pytest.mark.parametrize("row", range(7))
@pytest.mark.parametrize("fusion", ONE_GAUSSIAN)
def test_masked_written_out(fusion: str, row: int) -> None:
    cell = Cell(fusion=fusion, objective="masked", beta=1.5)
    model, x, names = small_model(cell), small_batch(), all_subsets("abc")[row]
    bound = model.bound(x, Chosen(row))
    some, full = answers(model, x, names), answers(model, x, "abc")
    torch.testing.assert_close(
        bound.value[0], fit(model, x, point(some), names) - 1.5 * kl(some, None)
    )
    rest = "".join(sorted(set("abc") - set(names)))
    want = fit(model, x, point(full), rest) - 1.5 * kl(full, some)
    torch.testing.assert_close(bound.value[1], want)
    given = torch.tensor([name in names for name in "abc"])
    assert torch.equal(bound.reconstruction[:, 0] == 0, ~given)
    assert torch.equal(bound.reconstruction[:, 1] == 0, given)


@pytest.mark.parametrize("row", range(7))
@pytest.mark.parametrize("fusion", ONE_GAUSSIAN)
def test_tc_written_out(fusion: str, row: int) -> None:
    cell = Cell(fusion=fusion, objective="tc", beta=1.5)
    model, x = small_model(cell), small_batch()
    bound, names = model.bound(x, Chosen(row)), set("abc") - set(all_subsets("abc")[row])
    full = answers(model, x, "abc")
    other = answers(model, x, "".join(sorted(names))) if names else None
    want = fit(model, x, point(full), "abc") - 1.5 * kl(full, other)
    torch.testing.assert_close(bound.value[0], want)
    torch.testing.assert_close(bound.value[1], torch.zeros(5).double())


@pytest.mark.parametrize("fusion", [name for name in ONE_GAUSSIAN if name != "largest"])
def test_crmvae_written_out(fusion: str) -> None:
    cell = Cell(fusion=fusion, objective="crmvae", beta=1.5)
    model, x = small_model(cell), small_batch()
    full, single = answers(model, x, "abc"), [answers(model, x, name) for name in "abc"]
    want = 0.5 * fit(model, x, point(full), "abc") - 1.5 * kl(full, None)
    for name, own in zip("abc", single, strict=True):
        want = want + 0.5 * fit(model, x, point(own), name) - 1.5 * kl(full, own)
    torch.testing.assert_close(model.bound(x, fixed()).value.sum(0), want / 4)


@pytest.mark.parametrize("fusion", [name for name in ONE_GAUSSIAN if name != "largest"])
def test_mmvm_written_out(fusion: str) -> None:
    model, x = small_model(Cell(fusion=fusion, objective="mmvm", beta=1.5)), small_batch()
    value, full = model.bound(x, fixed()).value, answers(model, x, "abc")
    for term, name in enumerate("abc"):
        own = answers(model, x, name)
        torch.testing.assert_close(
            value[term], fit(model, x, point(own), name) - 1.5 * kl(own, full)
        )
    torch.testing.assert_close(value[3], torch.zeros(5).double())


def test_mmvm_of_moe_is_the_kl_to_the_mean_of_the_experts() -> None:
    """The bound of it against draws of the KL itself; no expert is further than log M from it."""
    x = {name: values.repeat(4_000, 1) for name, values in small_batch(batch=1).items()}
    kind = {"fusion": "moe", "objective": "mmvm"}
    above = small_model(Cell(**kind)).bound(x, draws())
    sampled = small_model(Cell(**kind, kl="sampled")).bound(x, draws())
    gap = {
        name: (b.reconstruction[:, :3].diagonal()[:, None] - b.value[:3]).mean(1)
        for name, b in (("bound", above), ("sampled", sampled))
    }
    mean, var = (t[:, 0] for t in small_model(Cell(**kind)).encode(x))
    each = torch.distributions.Normal(mean, var.sqrt())
    noise = torch.randn(20_000, *mean.shape, generator=torch.Generator().manual_seed(6))
    z = mean + var.sqrt() * noise  # [N, M, L]
    log_q = each.log_prob(z).sum(-1)
    log_mean = each.log_prob(z[:, :, None]).sum(-1).logsumexp(-1) - math.log(3)
    exact = (log_q - log_mean).mean(0)
    torch.testing.assert_close(gap["sampled"], exact, atol=0.05, rtol=0)
    assert (gap["bound"] > exact - 0.02).all()
    assert (gap["bound"] < math.log(3) + 1e-6).all()  # the weights are float32


@pytest.mark.parametrize(("objective", "row"), [("masked", 6), ("tc", 6)])
def test_the_full_set_or_none_given_is_the_elbo(objective: str, row: int) -> None:
    """masked: all given, nothing is left; tc: none given, whose posterior is the prior."""
    x, model = small_batch(), small_model(Cell(objective=objective))
    torch.testing.assert_close(
        model.bound(x, Chosen(row)).value.sum(0), elbo(model, x, "abc", "abc")
    )


@pytest.mark.parametrize("objective", DRAWN)
def test_one_modality_has_the_elbo_alone(objective: str) -> None:
    x = small_batch("a")
    none = small_model(Cell(), "a").bound(x, fixed()).value.sum(0)
    one = small_model(Cell(objective=objective), "a").bound(x, fixed()).value.sum(0)
    torch.testing.assert_close(one, none)


@pytest.mark.parametrize("row", range(3))
def test_masked_with_exact_posteriors_is_the_evidence(row: int) -> None:
    """log p(x_S) + log p(x_rest|x_S) = log p(x), whatever S: the mean over the noise is exact."""
    model = linear_gaussian(Cell(objective="masked"), prior=False)
    x = {name: values.repeat(4_000, 1) for name, values in data(1).items()}
    noise = Chosen(row, 2)
    object.__setattr__(noise, "normal", draws().normal)
    value = model.bound(x, noise).value.sum(0)
    error = value.std().item() / math.sqrt(4_000)
    assert abs(value.mean().item() - evidence(model, x)[0].item()) < 4 * error
    assert error < 0.05


def test_tc_with_exact_posteriors_is_the_evidence_and_what_is_given_again() -> None:
    """E_q log p(x_S|z) is counted beside log p(x_rest|x_S): nothing of it is paid for."""
    model = linear_gaussian(Cell(objective="tc"), prior=False)
    masked = linear_gaussian(Cell(objective="masked"), prior=False)
    x = data()
    for row, (mask, given) in enumerate([(1, "b"), (0, "a")]):
        all_of_it, rest = model.bound(x, Chosen(row, 2)), masked.bound(x, Chosen(mask, 2))
        full = model.posterior(x)
        want = rest.value[1] + fit(model, x, point(full), given)
        torch.testing.assert_close(all_of_it.value[0], want)


@pytest.mark.parametrize("objective", DRAWN)
def test_every_subset_is_drawn_alike_for_every_sample(objective: str) -> None:
    model = small_model(Cell(objective=objective))
    layout = model._layout(70_000, torch.zeros(1))
    plan = model.make_plan(layout, model.objective_options, draws())
    some = 0 if objective == "masked" else 1
    code = (plan.present[:, some].long() * torch.tensor([[1], [2], [4]])).sum(0)
    counts = torch.bincount(code, minlength=8)
    assert counts[0] == 0
    assert (counts[1:] - 10_000).abs().max() < 500, counts
    if objective == "tc":  # where it has no subset its posterior stands for the prior
        to_prior, to_subset = plan.links[0, None], plan.links[0, 1]
        assert torch.equal(to_prior, (code == 7).float())
        assert torch.equal(to_subset, (code != 7).float())


@pytest.mark.parametrize(
    ("objective", "decodes"), [("none", 1), ("masked", 1), ("tc", 1), ("crmvae", 2), ("mmvm", 1)]
)
@pytest.mark.parametrize(("fusion", "components"), [("poe", 1), ("moe", 3)])
def test_each_modality_is_decoded_no_more_than_it_must(
    objective: str, decodes: int, fusion: str, components: int
) -> None:
    model, rows = small_model(Cell(fusion=fusion, objective=objective)), []
    for name in "abc":
        model.decoders[name].register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    model.bound(small_batch(), draws())
    assert rows == [5 * decodes * components] * 3


@pytest.mark.parametrize("objective", [*DRAWN, "crmvae", "mmvm"])
def test_the_warm_up_weighs_the_links(objective: str) -> None:
    model, x = small_model(Cell(objective=objective)), small_batch()
    whole, half, none = (model.bound(x, Chosen(1), weight).value for weight in (1.0, 0.5, 0.0))
    torch.testing.assert_close(whole - half, half - none)
    assert not torch.allclose(whole, none)


# --- the KL between two mixtures -----------------------------------------------------------------


def mixture(components: int, seed: int, weights: Tensor | None = None) -> Mixture:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(components, 1, 1, 1, generator=generator).double()
    var = 0.2 + torch.rand(components, 1, 1, 1, generator=generator).double()
    weights = torch.ones(components) if weights is None else weights
    return Mixture(mean, var, (weights / weights.sum()).double().log().view(-1, 1, 1))


def exact_kl(q: Mixture, other: Mixture) -> float:
    grid = torch.linspace(-12, 12, 20_001).double()
    z = grid.view(-1, 1, 1, 1)
    log_q, log_p = q.log_prob(z).flatten(), other.log_prob(z).flatten()
    return torch.trapezoid(log_q.exp() * (log_q - log_p), grid).item()


@pytest.mark.parametrize("seed", range(12))
def test_the_kl_of_mixtures_is_bounded_from_above(seed: int) -> None:
    q, other = mixture(3, seed), mixture(2, 100 + seed, torch.tensor([1.0, 3.0]))
    exact, bound = exact_kl(q, other), q.kl_bound(other).item()
    assert bound > exact
    pairs = torch.stack(
        [q.kl_bound(gaussian(m, v)) for m, v in zip(other.mean, other.var, strict=True)]
    )
    assert bound < (other.weight * pairs).sum().item(), "no more than the mean over pairs"


def test_the_bound_of_a_kl_is_above_by_the_entropy_of_weights_of_components_far_apart() -> None:
    """Each component then lies under one of the other's alone."""
    mean = torch.tensor([-6.0, 6.0]).double().view(2, 1, 1, 1)
    half = torch.full((2, 1, 1), 0.5).double()
    q = Mixture(mean, torch.ones_like(mean), half.log())
    other = Mixture(
        mean + 0.3, 2 * torch.ones_like(mean), torch.stack([half[0] / 2, 1.5 * half[0]]).log()
    )
    got, exact = q.kl_bound(other).item(), exact_kl(q, other)
    assert got == pytest.approx(exact + math.log(2), abs=1e-4)


def test_an_absent_component_of_a_kl_is_not_there() -> None:
    q, two = mixture(2, 0), mixture(2, 1)
    three = Mixture(
        *(torch.cat([t, 0.7 + 0 * t[:1]]) for t in (two.mean, two.var)),
        torch.cat([two.log_weight, torch.full((1, 1, 1), -torch.inf).double()]),
    )
    torch.testing.assert_close(q.kl_bound(three), q.kl_bound(two))
    torch.testing.assert_close(three.kl_bound(q), two.kl_bound(q))


@pytest.mark.parametrize("kind", ["bound", "sampled"])
def test_masked_of_a_mixture_written_out(kind: str) -> None:
    """S = {a, b} of moe: two components, and three of the full set."""
    model, x = small_model(Cell(fusion="moe", objective="masked", kl=kind)), small_batch()
    row = subsets(3).index((True, True, False))
    bound = model.bound(x, Chosen(row))
    some, full = answers(model, x, "ab"), answers(model, x, "abc")
    z = full.sample(1, Chosen(0))[0, :, 0]  # [C, B, L]
    want = torch.zeros(5).double()
    for c in range(3):
        mean, var = full.mean[c, 0], full.var[c, 0]
        if kind == "bound":
            near = [
                (-gaussian_kl(mean, var, some.mean[d, 0], some.var[d, 0])).exp() for d in (0, 1)
            ]
            gap = -(0.5 * near[0] + 0.5 * near[1]).log()
        else:
            gap = full.log_prob(z[c][None])[0] - some.log_prob(z[c][None])[0]
        want = want + (fit(model, x, z[c], "c") - gap) / 3
    torch.testing.assert_close(bound.value[1], want)

"""Fusions against quadrature, identities, invariances and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import entries, fusions
from models.fusions.rbcm import committee
from models.mixture import Draws, Experts, Mixture, gaussian_log_prob
from models.params import fusion_names
from tests.models.conftest import draws, random_experts, with_own

PER_MODALITY = [name for name in fusion_names() if not fusions.traits(name).subset_experts]
GAUSSIAN = ["poe", "rbcm", "bce", "rce", "barycenter", "code", "gpoe", "hellinger"]


def fuse(name: str, experts: Experts, noise: Draws | None = None, **options: object) -> Mixture:
    declared = entries.options("fusion", name)
    own = {key: value for key, value in options.items() if key in declared.model_fields}
    experts = experts if experts.own else with_own(name, experts)
    return fusions.load(name)(experts, declared.model_validate(own), noise or draws())


def moments_on_a_grid(log_density: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of exp(log_density) [..., G], by quadrature on the grid [G]."""
    weight = (log_density - log_density.amax(-1, keepdim=True)).exp()
    total = torch.trapezoid(weight, grid)
    mean = torch.trapezoid(weight * grid, grid) / total
    var = torch.trapezoid(weight * (grid - mean[..., None]).square(), grid) / total
    return mean, var


def beta_entropy(var: Tensor) -> Tensor:
    """Entropy of the unit prior minus entropy of N(., var): the rbcm weight."""
    prior = torch.distributions.Normal(0.0, 1.0).entropy()
    return prior - torch.distributions.Normal(0.0, var.sqrt()).entropy()


@pytest.mark.parametrize("name", ["poe", "poe without prior", "rbcm", "mopoe"])
def test_products_against_quadrature(name: str, experts: Experts) -> None:
    grid = torch.linspace(-30, 30, 40_001, dtype=torch.float64)

    def log_normal(mean: Tensor, var: Tensor) -> Tensor:
        return torch.distributions.Normal(mean[..., None], var.sqrt()[..., None]).log_prob(grid)

    each = log_normal(experts.mean[:, 0], experts.var[:, 0])  # [E, B, L, G]
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid)
    if name == "rbcm":
        beta = beta_entropy(experts.var[:, 0])[..., None]
        density = (beta * each).sum(0) - (beta.sum(0) - 1) * prior
        joint = fuse("rbcm", experts)
    elif name == "mopoe":  # component of bits 110 - 1 = 5: the first two experts
        density, joint = each[:2].sum(0) + prior, fuse("mopoe", experts)
        joint = Mixture(joint.mean[5:6], joint.var[5:6], joint.log_weight[5:6])
    else:
        with_prior = name == "poe"
        density = each.sum(0) + with_prior * prior
        joint = fuse("poe", experts, prior_expert=with_prior)
    mean, var = moments_on_a_grid(density, grid)
    torch.testing.assert_close(joint.mean[0, 0], mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(joint.var[0, 0], var, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("prior_expert", [True, False])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9])
def test_code_against_quadrature(rho: float, prior_expert: bool, experts: Experts) -> None:
    """p(z | means) for mean_i = z + s_i (sqrt(rho) u + sqrt(1 - rho) v_i), all of them N(0, 1).

    The errors share u, which makes them correlate by rho: u and z are on a grid, and no matrix is.
    """
    z = torch.linspace(-20, 20, 801, dtype=torch.float64)
    u = torch.linspace(-8, 8, 161, dtype=torch.float64)[:, None]
    normal = torch.distributions.Normal(0.0, 1.0)
    density = normal.log_prob(u) + prior_expert * normal.log_prob(z)  # [U, Z]
    for mean, var in zip(experts.mean[:, 0, ..., None, None], experts.var[:, 0], strict=True):
        std = var.sqrt()[..., None, None]
        centre = z + rho**0.5 * std * u
        own = torch.distributions.Normal(centre, (1 - rho) ** 0.5 * std)
        density = density + own.log_prob(mean)
    mean, var = moments_on_a_grid(density.logsumexp(-2), z)
    joint = fuse("code", experts, rho=rho, prior_expert=prior_expert)
    torch.testing.assert_close(joint.mean[0, 0], mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(joint.var[0, 0], var, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["poe", "moe", "mopoe", "bce", "rce", "barycenter", "code", "gpoe", "hellinger"]
)
def test_one_expert_alone_is_itself(name: str) -> None:
    alone = random_experts(count=1)
    joint = fuse(name, alone, prior_expert=False)
    torch.testing.assert_close(joint.mean[0], alone.mean[0])
    torch.testing.assert_close(joint.var[0], alone.var[0])


@pytest.mark.parametrize("name", ["poe", "mopoe", "code"])
def test_one_expert_and_the_prior_expert_written_out(name: str) -> None:
    alone = random_experts(count=1)
    joint = fuse(name, alone)
    torch.testing.assert_close(joint.mean, alone.mean / (1 + alone.var))
    torch.testing.assert_close(joint.var, alone.var / (1 + alone.var))


def test_one_expert_alone_of_rbcm_written_out() -> None:
    """N(mean, var)^beta N(0, 1)^(1 - beta)."""
    alone = random_experts(count=1)
    beta = beta_entropy(alone.var)
    joint = fuse("rbcm", alone)
    precision = 1 + beta * (1 / alone.var - 1)
    torch.testing.assert_close(joint.var, 1 / precision)
    torch.testing.assert_close(joint.mean, beta * alone.mean / alone.var / precision)


@pytest.mark.parametrize("prior_expert", [True, False])
def test_mopoe_of_one_expert_present_is_its_poe(prior_expert: bool, experts: Experts) -> None:
    for index, component in enumerate((3, 1, 0)):  # bits 100, 010 and 001, minus 1
        present = (torch.arange(3) == index).view(3, 1, 1, 1)
        joint = fuse("mopoe", replace(experts, present=present), prior_expert=prior_expert)
        alone = Experts(experts.mean[[index]], experts.var[[index]], present[[index]])
        want = fuse("poe", alone, prior_expert=prior_expert)
        assert joint.weight[:, 0, 0].tolist() == [float(c == component) for c in range(7)]
        torch.testing.assert_close(joint.mean[component], want.mean[0])
        torch.testing.assert_close(joint.var[component], want.var[0])


def copies(one: Experts, count: int) -> Experts:
    return Experts(*(t.repeat(count, 1, 1, 1) for t in (one.mean, one.var, one.present)))


@pytest.mark.parametrize("name", ["moe", "bce", "rce", "barycenter", "gpoe", "hellinger"])
def test_identical_experts_change_nothing(name: str) -> None:
    one = random_experts(count=1)
    joint = fuse(name, copies(one, 3))
    torch.testing.assert_close(joint.mean, one.mean.expand_as(joint.mean))
    torch.testing.assert_close(joint.var, one.var.expand_as(joint.var))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("prior_expert", [True, False])
@pytest.mark.parametrize(
    ("name", "rho"), [("poe", 0.3), ("code", 0.0), ("code", 0.3), ("code", 0.9)]
)
def test_identical_experts_of_a_product_count_together(
    name: str, rho: float, prior_expert: bool, count: int
) -> None:
    """n experts whose errors correlate by rho count as n / (1 + (n - 1) rho) independent ones."""
    one = random_experts(count=1)
    joint = fuse(name, copies(one, count), rho=rho, prior_expert=prior_expert)
    effective = count if name == "poe" else count / (1 + (count - 1) * rho)
    precision = effective / one.var + prior_expert
    torch.testing.assert_close(joint.var, 1 / precision)
    torch.testing.assert_close(joint.mean, effective * one.mean / one.var / precision)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_identical_experts_of_rbcm_add_up(count: int) -> None:
    one = random_experts(count=1)
    beta = beta_entropy(one.var)
    joint = fuse("rbcm", copies(one, count))
    precision = 1 + count * beta * (1 / one.var - 1)
    torch.testing.assert_close(joint.var, 1 / precision)
    torch.testing.assert_close(joint.mean, count * beta * one.mean / one.var / precision)


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("prior_expert", [True, False])
def test_identical_experts_of_mopoe_count_in_each_subset(prior_expert: bool, count: int) -> None:
    """A subset of n of them is the product of n copies; the subset's size is all that counts."""
    one = random_experts(count=1)
    joint = fuse("mopoe", copies(one, count), prior_expert=prior_expert)
    assert len(joint.mean) == 2**count - 1
    for component in range(len(joint.mean)):
        members = (component + 1).bit_count()
        precision = members / one.var[0] + prior_expert
        torch.testing.assert_close(joint.var[component], 1 / precision)
        torch.testing.assert_close(
            joint.mean[component], members * one.mean[0] / one.var[0] / precision
        )


@pytest.mark.parametrize("name", PER_MODALITY)
def test_a_fusion_of_several_components_is_known_as_a_mixture(name: str, experts: Experts) -> None:
    """DReG is refused for these: see test_stl_and_dreg_are_unbiased."""
    assert (len(fuse(name, experts).mean) > 1) == fusions.traits(name).mixture


@pytest.mark.parametrize("name", PER_MODALITY)
def test_permuting_the_experts_changes_nothing(name: str, experts: Experts) -> None:
    order = [2, 0, 1]
    permuted = Experts(experts.mean[order], experts.var[order], experts.present)
    z = torch.randn(7, 1, 4, 5, generator=torch.Generator().manual_seed(3)).double()
    if name == "rce":  # the draws choose by position: check the distribution of the choice
        noise = [Draws(uniforms=torch.full((4, 5), u)) for u in (0.1, 0.5, 0.9)]
        one = torch.stack([fuse(name, experts, n).log_prob(z) for n in noise]).sort(0)[0]
        other = torch.stack([fuse(name, permuted, n).log_prob(z) for n in noise]).sort(0)[0]
    else:
        one, other = fuse(name, experts).log_prob(z), fuse(name, permuted).log_prob(z)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", PER_MODALITY)
def test_a_missing_expert_is_absent_and_not_zero(name: str, experts: Experts) -> None:
    """Whatever an absent expert holds, even NaN: the others alone decide."""
    present = torch.tensor([True, False, True]).view(3, 1, 1, 1)
    mean, var = experts.mean.clone(), experts.var.clone()
    mean[1], var[1] = torch.nan, torch.nan
    two = Experts(experts.mean[[0, 2]], experts.var[[0, 2]], present[[0, 2]])
    z = torch.randn(7, 1, 4, 5, generator=torch.Generator().manual_seed(3)).double()
    noise = Draws(uniforms=torch.rand(4, 5, generator=torch.Generator().manual_seed(1)))
    got = fuse(name, Experts(mean, var, present), noise)
    want = fuse(name, two, noise)
    torch.testing.assert_close(got.log_prob(z), want.log_prob(z))
    torch.testing.assert_close(got.weight.sum(0), torch.ones_like(got.weight[0]))


def test_present_may_differ_within_a_batch(experts: Experts) -> None:
    """Rows with their own missing experts give what each row gives by itself."""
    present = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 1], [1, 0, 0, 1]]).bool().view(3, 1, 4, 1)
    noise = Draws(uniforms=torch.full((4, 5), 0.6))
    single = Draws(uniforms=torch.full((1, 5), 0.6))
    z = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(3)).double()
    for name in PER_MODALITY:
        rows = fuse(name, replace(experts, present=present), noise).log_prob(z)
        for b in range(4):
            one = Experts(experts.mean[:, :, [b]], experts.var[:, :, [b]], present[:, :, [b]])
            torch.testing.assert_close(
                rows[:, b], fuse(name, one, single).log_prob(z[:, [b]])[:, 0]
            )


def test_rbcm_with_beta_1_is_the_bayesian_committee(experts: Experts) -> None:
    """At var = exp(-2) the entropic beta is 1; then prod q_i / p^(E-1), written out."""
    var = torch.full_like(experts.var, float(np.exp(-2)))
    joint = fuse("rbcm", replace(experts, var=var))
    precision = 3 * np.exp(2) - 2
    torch.testing.assert_close(joint.var[0, 0], torch.full_like(var[0, 0], 1 / precision))
    torch.testing.assert_close(joint.mean[0, 0], experts.mean.sum(0)[0] * np.exp(2) / precision)
    again = committee(replace(experts, var=var), torch.ones_like(var))
    torch.testing.assert_close(again.mean, joint.mean)


def test_rbcm_falls_back_to_the_prior() -> None:
    flat = random_experts()
    joint = fuse("rbcm", replace(flat, var=torch.ones_like(flat.var)))
    torch.testing.assert_close(joint.mean, torch.zeros_like(joint.mean))
    torch.testing.assert_close(joint.var, torch.ones_like(joint.var))


@settings(max_examples=200)
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5))
def test_rbcm_precision_is_at_least_the_priors(variances: list[float]) -> None:
    var = torch.tensor(variances, dtype=torch.float64).view(-1, 1, 1, 1)
    experts = Experts(torch.ones_like(var), var, torch.ones_like(var, dtype=torch.bool))
    assert (1 / fuse("rbcm", experts).var >= 1 - 1e-12).all()


def test_bce_takes_the_narrowest_expert_of_each_element(experts: Experts) -> None:
    joint = fuse("bce", experts)
    for b in range(4):
        for j in range(5):
            best = min(range(3), key=lambda e: experts.var[e, 0, b, j].item())
            assert joint.var[0, 0, b, j] == experts.var[best, 0, b, j]
            assert joint.mean[0, 0, b, j] == experts.mean[best, 0, b, j]


def test_rce_chooses_by_element_and_uniformly() -> None:
    """Each element draws its own expert; the three are equally likely; both moments go along."""
    label = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 300, 100)
    experts = Experts(label, 1 + label, torch.ones(3, 1, 1, 1, dtype=torch.bool))
    joint = fuse("rce", experts)
    torch.testing.assert_close(joint.var, 1 + joint.mean)
    share = torch.bincount(joint.mean.long().flatten(), minlength=3) / 30_000
    torch.testing.assert_close(share, torch.full((3,), 1 / 3), atol=0.02, rtol=0)
    assert (joint.mean[0, 0].std(1) > 0.5).all(), "one choice per sample is not rce"


def test_moe_is_the_mean_density(experts: Experts) -> None:
    z = torch.randn(4, 5, generator=torch.Generator().manual_seed(3)).double()
    each = gaussian_log_prob(z, experts.mean[:, 0], experts.var[:, 0])
    torch.testing.assert_close(fuse("moe", experts).log_prob(z[None])[0], each.exp().mean(0).log())


def test_mopoe_is_the_mean_over_subsets_of_products(experts: Experts) -> None:
    z = torch.randn(1, 4, 5, generator=torch.Generator().manual_seed(3)).double()
    subsets = [[0], [1], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]]
    products = [
        fuse("poe", Experts(experts.mean[s], experts.var[s], experts.present[s])) for s in subsets
    ]
    want = torch.stack([p.log_prob(z) for p in products]).exp().mean(0).log()
    torch.testing.assert_close(fuse("mopoe", experts).log_prob(z), want)


def test_barycenter_of_equal_scales_keeps_the_scale(experts: Experts) -> None:
    equal = replace(experts, var=torch.full_like(experts.var, 0.4))
    joint = fuse("barycenter", equal)
    torch.testing.assert_close(joint.var[0], equal.var[0])
    torch.testing.assert_close(joint.mean[0], experts.mean.mean(0))


def test_barycenter_minimises_the_summed_wasserstein_distance(experts: Experts) -> None:
    joint = fuse("barycenter", experts)

    def distance(mean: Tensor, std: Tensor) -> Tensor:
        return ((experts.mean - mean).square() + (experts.var.sqrt() - std).square()).sum()

    mean, std = joint.mean[0], joint.var[0].sqrt()
    least = distance(mean, std)
    for shift in (-0.01, 0.01):
        assert distance(mean + shift, std) > least
        assert distance(mean, std + shift) > least


@pytest.mark.parametrize("prior_expert", [True, False])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9])
def test_code_against_the_matrix_form(rho: float, prior_expert: bool, experts: Experts) -> None:
    """Precision p = 1' S^-1 1 (+ 1 with the prior), mean 1' S^-1 m / p, S_ij = s_i s_j rho."""
    joint = fuse("code", experts, rho=rho, prior_expert=prior_expert)
    sigma = experts.var[:, 0].sqrt().permute(1, 2, 0)  # [B, L, E]
    correlation = torch.full((3, 3), rho, dtype=torch.float64).fill_diagonal_(1.0)
    inverse = torch.linalg.inv(sigma[..., None] * sigma[..., None, :] * correlation)
    precision = inverse.sum((-1, -2)) + prior_expert
    mean = (inverse.sum(-2) * experts.mean[:, 0].permute(1, 2, 0)).sum(-1) / precision
    torch.testing.assert_close(joint.var[0, 0], 1 / precision)
    torch.testing.assert_close(joint.mean[0, 0], mean)


@pytest.mark.parametrize("prior_expert", [True, False])
def test_code_at_rho_0_is_poe(prior_expert: bool, experts: Experts) -> None:
    code = fuse("code", experts, rho=0.0, prior_expert=prior_expert)
    poe = fuse("poe", experts, prior_expert=prior_expert)
    torch.testing.assert_close(code.mean, poe.mean)
    torch.testing.assert_close(code.var, poe.var)


def test_largest_is_the_expert_that_covers_what_is_present() -> None:
    experts = random_experts(count=3)  # {a}, {b}, {a, b}
    for present, want in (((1, 0, 0), 0), ((0, 1, 0), 1), ((1, 1, 1), 2)):
        seen = torch.tensor(present).bool().view(3, 1, 1, 1)
        joint = fuse("largest", replace(experts, present=seen))
        torch.testing.assert_close(joint.mean[0], experts.mean[want])
        torch.testing.assert_close(joint.var[0], experts.var[want])


@pytest.mark.parametrize("name", GAUSSIAN)
def test_reverting_to_the_prior_is_not_being_absent(name: str) -> None:
    """design: lcd's prior expert and an absent expert differ for poe and rce, here for most."""
    two = random_experts(count=2)
    keep = torch.tensor([True, False]).view(2, 1, 1, 1).expand(2, 1, 4, 5)
    reverted = fuse(name, two.reverted(keep))
    absent = fuse(name, replace(two, present=keep[..., :1, :1]))
    differs = not torch.allclose(reverted.var, absent.var)
    assert differs == (name != "rbcm"), "a prior expert has beta 0: only rbcm ignores it"


def test_all_reverted_is_the_prior_for_rce_and_narrower_for_poe() -> None:
    none = torch.zeros(3, 1, 4, 5, dtype=torch.bool)
    reverted = random_experts().reverted(none)
    assert (fuse("rce", reverted).var == 1).all()
    torch.testing.assert_close(fuse("poe", reverted).var, torch.full((1, 1, 4, 5), 0.25).double())

"""gpoe's learned weights and hellinger's pairs: quadrature, limits, learning."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.mixture import Experts
from models.params import Cell
from tests.models.conftest import draws, random_experts, small_batch, small_model
from tests.models.test_fusions import fuse, moments_on_a_grid


def logits(seed: int = 4) -> Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)).double()


def log_densities(experts: Experts, grid: Tensor) -> Tensor:
    """log q_i [E, B, L, G] of each element."""
    mean, std = experts.mean[:, 0, ..., None], experts.var[:, 0, ..., None].sqrt()
    return torch.distributions.Normal(mean, std).log_prob(grid)


GRID = torch.linspace(-30, 30, 40_001, dtype=torch.float64)


def test_gpoe_against_quadrature(experts: Experts) -> None:
    share = logits().exp() / logits().exp().sum(0)
    density = (share[:, None, :, None] * log_densities(experts, GRID)).sum(0)
    mean, var = moments_on_a_grid(density, GRID)
    joint = fuse("gpoe", replace(experts, own={"logits": logits()}))
    torch.testing.assert_close(joint.mean[0, 0], mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(joint.var[0, 0], var, rtol=1e-6, atol=1e-7)


def test_gpoe_begins_as_the_root_of_the_product(experts: Experts) -> None:
    joint, product = fuse("gpoe", experts), fuse("poe", experts, prior_expert=False)
    torch.testing.assert_close(joint.mean, product.mean)
    torch.testing.assert_close(joint.var, 3 * product.var)


def test_gpoe_with_all_weight_on_one_expert_is_that_expert(experts: Experts) -> None:
    sure = 800.0 * torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 1, 0]), 3).T.double()
    joint = fuse("gpoe", replace(experts, own={"logits": sure}))
    for element, expert in enumerate([0, 1, 2, 1, 0]):
        torch.testing.assert_close(
            joint.mean[0, 0, :, element], experts.mean[expert, 0, :, element]
        )
        torch.testing.assert_close(joint.var[0, 0, :, element], experts.var[expert, 0, :, element])


def test_gpoe_shares_an_absent_experts_weight_among_the_others(experts: Experts) -> None:
    present = torch.tensor([True, False, True]).view(3, 1, 1, 1)
    some = replace(experts, present=present, own={"logits": logits()})
    two = Experts(
        *(t[[0, 2]] for t in (experts.mean, experts.var, present)), {"logits": logits()[[0, 2]]}
    )
    torch.testing.assert_close(fuse("gpoe", some).mean, fuse("gpoe", two).mean)
    torch.testing.assert_close(fuse("gpoe", some).var, fuse("gpoe", two).var)


def test_gpoe_learns_its_weights_and_uses_them_in_answers() -> None:
    model, x = small_model(Cell(fusion="gpoe")), small_batch()
    model.bound(x, draws()).value.sum().backward()
    gradient = model.fusion_own["logits"].grad
    assert gradient is not None
    assert (gradient.abs() > 1e-6).all()
    torch.testing.assert_close(gradient.sum(0), torch.zeros(2).double(), atol=1e-9, rtol=0)
    before = model.posterior(x).mean
    with torch.no_grad():
        model.fusion_own["logits"][0] += 1
    assert not torch.allclose(model.posterior(x).mean, before)


def test_hellinger_against_quadrature(experts: Experts) -> None:
    density = 2 * (log_densities(experts, GRID) / 2).logsumexp(0)
    mean, var = moments_on_a_grid(density, GRID)
    joint = fuse("hellinger", experts)
    torch.testing.assert_close(joint.mean[0, 0], mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(joint.var[0, 0], var, rtol=1e-6, atol=1e-7)


def test_the_joint_overlap_against_quadrature_in_two_dimensions() -> None:
    experts = random_experts(latent=2)
    grid = torch.linspace(-12, 12, 1_201, dtype=torch.float64)
    each = log_densities(experts, grid)  # [E, B, 2, G]
    both = (each[:, :, 0, :, None] + each[:, :, 1, None, :]) / 2
    density = (2 * both.logsumexp(0)).exp()  # [B, G, G]
    joint = fuse("hellinger", experts, overlap="joint")
    for element, other in ((0, -1), (1, -2)):
        marginal = torch.trapezoid(density, grid, dim=other)
        mean, var = moments_on_a_grid(marginal.log(), grid)
        torch.testing.assert_close(joint.mean[0, 0, :, element], mean, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(joint.var[0, 0, :, element], var, rtol=1e-6, atol=1e-7)


def test_in_one_dimension_the_overlaps_are_the_same() -> None:
    one = random_experts(latent=1)
    element, joint = fuse("hellinger", one), fuse("hellinger", one, overlap="joint")
    torch.testing.assert_close(joint.mean, element.mean)
    torch.testing.assert_close(joint.var, element.var)


@pytest.mark.parametrize("latent", [256, 4096])
def test_in_many_dimensions_the_joint_overlap_leaves_the_moments_of_moe(latent: int) -> None:
    """Its product would underflow; its logarithm does not."""
    many = random_experts(latent=latent)
    many = replace(many, mean=many.mean.float(), var=many.var.float())
    joint, moe = fuse("hellinger", many, overlap="joint"), fuse("moe", many)
    mean = moe.mean.mean(0)
    torch.testing.assert_close(joint.mean[0], mean)
    spread = (moe.var + (moe.mean - mean).square()).mean(0)
    torch.testing.assert_close(joint.var[0], spread)
    assert not torch.allclose(fuse("hellinger", many).mean[0], mean, atol=0.1)


def test_experts_far_apart_have_no_overlap(experts: Experts) -> None:
    """Then the square of the sum is the sum of the squares: moe's moments."""
    apart = replace(experts, mean=experts.mean + 100 * torch.arange(3).view(3, 1, 1, 1))
    mean = apart.mean.mean(0)
    joint = fuse("hellinger", apart)
    torch.testing.assert_close(joint.mean[0], mean)
    torch.testing.assert_close(joint.var[0], (apart.var + (apart.mean - mean).square()).mean(0))

"""Objectives written out by hand: what each term sees, reconstructs and weighs."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from models import fusions, likelihoods
from models.mixture import Draws, gaussian_kl
from models.params import (
    Cell,
    ModalityParams,
    VAEParams,
    check_cell,
    fusion_names,
    objective_names,
)
from models.vae import MultimodalVAE
from tests.models.conftest import LATENT, draws, small_batch, small_model

MIXED = [name for name in fusion_names() if fusions.traits(name).mixture]
PRODUCT_LIKE = ["poe", "rbcm", "bce", "rce", "barycenter", "code", "gpoe", "hellinger"]


class FixedDraws(Draws):
    """The same normal noise [B, L] in every term and component; uniforms from a generator."""

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        noise = torch.randn(
            shape[-2:], generator=torch.Generator().manual_seed(5), dtype=like.dtype
        )
        return noise.expand(shape)


def fixed(seed: int = 0) -> FixedDraws:
    return FixedDraws(torch.Generator().manual_seed(seed))


def fit(model: MultimodalVAE, x: dict[str, Tensor], z: Tensor, names: str) -> Tensor:
    """sum over `names` of the weighted log p(x|z), [B]."""
    total = torch.zeros(len(z), dtype=z.dtype)
    for name in names:
        params = model.params.modalities[name]
        output = model.decode(name, z)[None]
        total = total + params.weight * likelihoods.log_prob(params, x[name], output)[0]
    return total


def elbo(model: MultimodalVAE, x: dict[str, Tensor], sees: str, target: str) -> Tensor:
    """The ELBO of one subset, from `posterior` and scratch, with FixedDraws' noise."""
    q = model.posterior({n: x[n] for n in sees}, draws=fixed())
    mean, var = q.mean[0, 0], q.var[0, 0]
    z = mean + var.sqrt() * fixed().normal(tuple(mean.shape), mean)
    kl = gaussian_kl(mean, var, torch.zeros_like(mean), torch.ones_like(var))
    return fit(model, x, z, target) - kl


def all_subsets(names: str) -> list[str]:
    return ["".join(s) for size in range(1, len(names) + 1) for s in combinations(names, size)]


@pytest.mark.parametrize("fusion", sorted(set(PRODUCT_LIKE) - {"rce"}))
def test_ecg_is_seven_separate_elbos(fusion: str) -> None:
    model, x = small_model(Cell(fusion=fusion, objective="ecg")), small_batch()
    bound = model.bound(x, fixed())
    assert bound.value.shape == (7, 5)
    separate = torch.stack([elbo(model, x, sees, "abc") for sees in all_subsets("abc")])
    torch.testing.assert_close(bound.value, separate)


def test_ecg_for_two_modalities_written_out() -> None:
    model, x = small_model(Cell(fusion="poe", objective="ecg"), "ab"), small_batch("ab")
    mean, var = model.encode(x)
    noise = fixed().normal(tuple(mean.shape[1:]), mean)
    want = torch.zeros(5, dtype=torch.float64)
    for experts in ([0], [1], [0, 1]):
        precision = 1 + (1 / var[experts]).sum(0)
        joint = (mean[experts] / var[experts]).sum(0) / precision
        z = joint + precision.rsqrt() * noise
        kl = 0.5 * (1 / precision + joint.square() - 1 + precision.log()).sum(-1)
        want = want + fit(model, x, z, "ab") - kl
    torch.testing.assert_close(model.bound(x, fixed()).value.sum(0), want)


def test_subsampling_reconstructs_only_what_it_sees() -> None:
    model, x = small_model(Cell(objective="subsampling", subsets=0)), small_batch()
    want = torch.stack([elbo(model, x, s, s) for s in ("abc", "a", "b", "c")])
    torch.testing.assert_close(model.bound(x, fixed()).value, want)


def test_subsampling_draws_random_subsets() -> None:
    model, x = small_model(Cell(objective="subsampling", subsets=40)), small_batch()
    value = model.bound(x, fixed()).value
    every = torch.stack([elbo(model, x, s, s) for s in all_subsets("abc")])
    seen = {int((every - row).abs().sum(1).argmin()) for row in value[4:]}
    assert seen == set(range(7))
    for row in value[4:]:
        assert (every - row).abs().sum(1).min() < 1e-9


@pytest.mark.parametrize("per", ["step", "sample"])
def test_rmd_is_one_random_subset_that_reconstructs_all(per: str) -> None:
    model, x = small_model(Cell.model_validate({"objective": "rmd", "per": per})), small_batch()
    every = torch.stack([elbo(model, x, s, "abc") for s in all_subsets("abc")])  # [7, B]
    steps, mixed = set(), 0
    for seed in range(60):
        value = model.bound(x, fixed(seed)).value
        assert value.shape == (1, 5)
        rows = (every - value).abs().argmin(0)
        torch.testing.assert_close(every[rows, torch.arange(5)], value[0])
        steps |= set(rows.tolist())
        mixed += len(set(rows.tolist())) > 1
    assert steps == set(range(7))
    assert (mixed > 0) == (per == "sample")


def test_split_is_the_full_set_and_two_sides_that_share_the_modalities() -> None:
    model, x = small_model(Cell(objective="split", share=0.4)), small_batch()
    every = torch.stack([elbo(model, x, s, "abc") for s in all_subsets("abc")])  # [7, B]
    for seed in range(20):
        value = model.bound(x, fixed(seed)).value
        assert value.shape == (3, 5)
        torch.testing.assert_close(value[0], 0.4 * every[-1])
        rows = (every - value[1:, None] / 0.3).abs().argmin(1)  # [2, B]
        torch.testing.assert_close(0.3 * every.gather(0, rows), value[1:])
        for one, other in rows.T.tolist():
            sides = all_subsets("abc")[one], all_subsets("abc")[other]
            assert sorted("".join(sides)) == list("abc"), sides


def test_split_draws_every_proper_subset_alike() -> None:
    model = small_model(Cell(objective="split"))
    layout = model._layout(60_000, torch.zeros(1))
    present = model.make_plan(layout, model.objective_options, draws()).present  # [E, T, B]
    code = (present[:, 1].long() * torch.tensor([[1], [2], [4]])).sum(0)
    counts = torch.bincount(code, minlength=8)
    assert counts[0] == counts[7] == 0
    assert (counts[1:7] - 10_000).abs().max() < 500, counts


@pytest.mark.parametrize(
    "cell",
    [Cell(objective="split"), Cell(objective="mmvm"), Cell(fusion="largest", objective="jmvae")],
)
def test_one_modality_has_nothing_to_split(cell: Cell) -> None:
    one = VAEParams(modalities={"a": ModalityParams()})
    with pytest.raises(ValueError, match=f"objective: '{cell.objective}' needs 2 or more"):
        check_cell(one, cell)


def test_split_of_two_modalities_is_ecg_over_three() -> None:
    x = small_batch("ab")
    split = small_model(Cell(objective="split", share=1 / 3), "ab").bound(x, fixed())
    ecg = small_model(Cell(objective="ecg"), "ab").bound(x, fixed())
    torch.testing.assert_close(split.value.sum(0), ecg.value.sum(0) / 3)


def test_split_is_ecg_over_seven_on_average() -> None:
    class Chosen(FixedDraws):
        """Draws one row of the six proper subsets; rows 0 to 2 and their rests are all six."""

        row = 0

        def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
            return torch.full(shape, (self.row + 0.5) / 6, dtype=like.dtype)

    x, chosen = small_batch(), Chosen()
    ecg = small_model(Cell(objective="ecg")).bound(x, fixed()).value.sum(0) / 7
    model, total = small_model(Cell(objective="split", share=1 / 7)), torch.zeros_like(ecg)
    for Chosen.row in range(3):
        total = total + model.bound(x, chosen).value.sum(0)
    torch.testing.assert_close(total / 3, ecg)


@pytest.mark.parametrize("fusion", PRODUCT_LIKE)
def test_lcd_at_alpha_0_is_none(fusion: str) -> None:
    x = small_batch()
    lcd = small_model(Cell(fusion=fusion, objective="lcd", alpha=0.0))
    none = small_model(Cell(fusion=fusion, objective="none"))
    noise = torch.rand(5, LATENT, generator=torch.Generator().manual_seed(0))
    normals = torch.randn(5, LATENT, generator=torch.Generator().manual_seed(1))
    draw = Draws(uniforms=noise, normals=normals)
    torch.testing.assert_close(lcd.bound(x, draw).value, none.bound(x, draw).value)


def test_lcd_at_alpha_1_knows_nothing_of_x() -> None:
    model = small_model(Cell(fusion="bce", objective="lcd", alpha=1.0))
    bound = model.bound(small_batch(), fixed())
    torch.testing.assert_close(bound.kl, torch.zeros_like(bound.kl))
    other = model.bound(small_batch(seed=9), fixed())
    assert not torch.equal(bound.value, other.value), "the targets still count"


@pytest.mark.parametrize("alpha", [0.2, 0.7])
def test_lcd_keeps_each_element_with_probability_1_minus_alpha(alpha: float) -> None:
    model = small_model(Cell(objective="lcd", alpha=alpha))
    layout = model._layout(5_000, torch.zeros(1))
    keep = model.make_plan(layout, model.objective_options, draws()).keep
    assert keep is not None
    assert keep.shape == (3, 1, 5_000, LATENT)
    assert abs(keep.double().mean().item() - (1 - alpha)) < 0.02
    for axis in (-1, 0):  # the elements of an expert, and the experts, apart from one another
        both = keep.all(axis).double().mean().item()
        assert abs(both - (1 - alpha) ** keep.shape[axis]) < 0.02


def test_lcd_reverts_before_the_fusion_written_out() -> None:
    model, x = small_model(Cell(fusion="poe", objective="lcd", alpha=0.4)), small_batch()
    keep = model.make_plan(model._layout(5, x["a"]), model.objective_options, fixed(3)).keep
    assert keep is not None
    mean, var = model.encode(x)
    mean, var = mean * keep[:, 0], var * keep[:, 0] + 1.0 * ~keep[:, 0]
    precision = 1 + (1 / var).sum(0)
    joint = (mean / var).sum(0) / precision
    z = joint + precision.rsqrt() * fixed().normal(tuple(joint.shape), joint)
    want = fit(model, x, z, "abc") - gaussian_kl(joint, 1 / precision, 0 * joint, 1 + 0 * joint)
    torch.testing.assert_close(model.bound(x, fixed(3)).value[0], want)


def weighted(model: MultimodalVAE, logits: Tensor) -> Tensor:
    """The mean bound with the given logits of the subsets' weights."""
    with torch.no_grad():
        model.own["logits"].copy_(logits)
    return model.bound(small_batch(), fixed()).value.sum(0).mean()


@pytest.mark.parametrize("fusion", ["poe", "moe", "code"])
def test_equal_weights_are_ecg_over_7_plus_their_entropy(fusion: str) -> None:
    model = small_model(Cell(fusion=fusion, objective="weighted", entropy=30.0))
    ecg = small_model(Cell(fusion=fusion, objective="ecg"))
    ecg.load_state_dict(model.state_dict(), strict=False)
    terms = ecg.bound(small_batch(), fixed()).value
    got = weighted(model, torch.full((7,), 0.4))
    torch.testing.assert_close(got, terms.sum(0).mean() / 7 + 30 * torch.tensor(7.0).log().double())


def test_weights_written_out_and_their_gradient() -> None:
    model = small_model(Cell(objective="weighted", entropy=30.0))
    ecg = small_model(Cell(objective="ecg"))
    ecg.load_state_dict(model.state_dict(), strict=False)
    terms = ecg.bound(small_batch(), fixed()).value.mean(1).detach()
    logits = torch.linspace(-1, 1, 7).double()
    value = weighted(model, logits)
    weight = logits.exp() / logits.exp().sum()
    each = terms - 30 * weight.log()
    torch.testing.assert_close(value, (weight * each).sum())
    value.backward()
    want = weight * (each - (weight * each).sum())
    torch.testing.assert_close(model.own["logits"].grad, want)
    assert (want.abs() > 1e-3).all()


def test_the_best_weights_are_the_softmax_of_the_bounds() -> None:
    """There the value is entropy * logsumexp(ELBO / entropy), and the gradient is 0."""
    model = small_model(Cell(objective="weighted", entropy=30.0))
    ecg = small_model(Cell(objective="ecg"))
    ecg.load_state_dict(model.state_dict(), strict=False)
    terms = ecg.bound(small_batch(), fixed()).value.mean(1).detach()
    value = weighted(model, terms / 30)
    torch.testing.assert_close(value, 30 * (terms / 30).logsumexp(0))
    value.backward()
    torch.testing.assert_close(model.own["logits"].grad, torch.zeros(7).double(), atol=1e-9, rtol=0)


def test_the_warm_up_weighs_the_kl_alone() -> None:
    bound = small_model(Cell(objective="ecg")).bound(small_batch(), fixed(), 0.25)
    want = bound.reconstruction.sum(0) - 0.25 * bound.kl
    torch.testing.assert_close(bound.value.mean(1), want)


def test_mvtcae_written_out() -> None:
    cell = Cell(objective="mvtcae", tc=0.7, beta=1.5, prior_expert=False)
    model, x = small_model(cell), small_batch()
    mean, var = model.encode(x)
    joint_var = 1 / (1 / var).sum(0)
    joint = (mean / var).sum(0) * joint_var
    z = joint + joint_var.sqrt() * fixed().normal(tuple(joint.shape), joint)
    prior = gaussian_kl(joint, joint_var, 0 * joint, 1 + 0 * joint)
    single = sum(gaussian_kl(joint, joint_var, mean[e], var[e]) for e in range(3))
    want = (3 - 0.7) / 3 * fit(model, x, z, "abc") - 1.5 * (0.3 * prior + 0.7 / 3 * single)
    torch.testing.assert_close(model.bound(x, fixed()).value[0], want)


@pytest.mark.parametrize(("names", "smaller"), [("ab", 2), ("abc", 6)])
def test_jmvae_written_out(names: str, smaller: int) -> None:
    cell = Cell(fusion="largest", objective="jmvae", cross=0.3)
    model, x = small_model(cell, names), small_batch(names)
    mean, var = model.encode(x)
    assert len(mean) == smaller + 1
    q_mean, q_var = mean[-1], var[-1]
    z = q_mean + q_var.sqrt() * fixed().normal(tuple(q_mean.shape), q_mean)
    want = fit(model, x, z, names) - gaussian_kl(q_mean, q_var, 0 * q_mean, 1 + 0 * q_var)
    for e in range(smaller):
        want = want - 0.3 * gaussian_kl(q_mean, q_var, mean[e], var[e])
    torch.testing.assert_close(model.bound(x, fixed()).value[0], want)


def test_a_subset_encoder_reads_its_subset_alone() -> None:
    model, x = small_model(Cell(fusion="largest", objective="jmvae")), small_batch()
    mean, _ = model.encode(x)
    for index, names in enumerate(all_subsets("abc")):
        q = model.posterior({n: x[n] for n in names})
        torch.testing.assert_close(q.mean[0, 0], mean[index])


def test_mopoe_none_is_a_seventh_of_poe_ecg() -> None:
    """Under the bound on a mixture's KL the two objectives are the same."""
    x = small_batch()
    mopoe = small_model(Cell(fusion="mopoe", objective="none")).bound(x, fixed())
    poe = small_model(Cell(fusion="poe", objective="ecg")).bound(x, fixed())
    torch.testing.assert_close(mopoe.value.sum(0), poe.value.sum(0) / 7)


@pytest.mark.parametrize(("names", "terms"), [("ab", 3), ("abc", 7)])
def test_moe_ecg_is_seven_times_moe_none(names: str, terms: int) -> None:
    """Each expert is in as many subsets, with weights 1/size: the terms sum to 2^M - 1 nones."""
    x = small_batch(names)
    ecg = small_model(Cell(fusion="moe", objective="ecg"), names).bound(x, fixed())
    none = small_model(Cell(fusion="moe", objective="none"), names).bound(x, fixed())
    torch.testing.assert_close(ecg.value.sum(0), terms * none.value.sum(0))


def test_rce_and_moe_agree_with_equal_experts() -> None:
    x = small_batch()
    bounds = []
    for fusion in ("rce", "moe", "bce", "barycenter"):
        model = small_model(Cell(fusion=fusion))
        mean, var = model.encode(x)
        for expert in model.experts[1:]:
            expert.forward = lambda _: (mean[0], var[0])  # noqa: B023
        bounds.append(model.bound(x, fixed()).value)
    for other in bounds[1:]:
        torch.testing.assert_close(other, bounds[0])


@pytest.mark.parametrize("fusion", MIXED)
@pytest.mark.parametrize("objective", objective_names())
def test_nothing_of_one_step_reaches_the_next(objective: str, fusion: str) -> None:
    """Such as which components of a mixture were decoded, where the subsets are drawn."""
    try:
        cell = Cell(fusion=fusion, objective=objective)
    except ValidationError:
        return  # refused: see test_grid.py
    x, seeds = small_batch(), range(8)
    fresh = [small_model(cell).bound(x, draws(seed)).value for seed in seeds]
    for before in seeds:
        used = small_model(cell)
        used.bound(x, draws(before))
        for seed in seeds:
            torch.testing.assert_close(used.bound(x, draws(seed)).value, fresh[seed])


TERMS = {  # of 1, 2, 3 and 4 modalities
    "none": (1, 1, 1, 1),
    "ecg": (1, 3, 7, 15),
    "weighted": (1, 3, 7, 15),
    "lcd": (1, 1, 1, 1),
    "rmd": (1, 1, 1, 1),
    "split": (0, 3, 3, 3),  # refused for one: check_cell
    "subsampling": (3, 4, 5, 6),
    "mvtcae": (1, 1, 1, 1),
    "jmvae": (1, 1, 1, 1),
    "masked": (2, 2, 2, 2),
    "tc": (2, 2, 2, 2),
    "crmvae": (2, 3, 4, 5),
    "mmvm": (0, 3, 4, 5),  # refused for one: check_cell
}


@pytest.mark.parametrize("modalities", [1, 2, 3, 4])
@pytest.mark.parametrize("objective", objective_names())
def test_number_of_terms(objective: str, modalities: int) -> None:
    names, terms = "abcd"[:modalities], TERMS[objective][modalities - 1]
    for fusion in fusion_names() if terms else ():
        try:
            cell = Cell(fusion=fusion, objective=objective)
        except ValidationError:
            continue  # refused: see test_grid.py
        bound = small_model(cell, names).bound(small_batch(names), draws())
        assert bound.value.shape == (terms, 5), fusion
        assert bound.reconstruction.shape == (modalities, terms), fusion
        assert bound.kl.shape == (terms,), fusion
        assert bound.value.isfinite().all(), fusion

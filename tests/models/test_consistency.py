"""Which sensor lies: against closed forms of a linear-Gaussian model, and for every fusion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models import fusions
from models.consistency import quantile
from models.mixture import Draws
from models.params import RATES, Cell, ModalityParams, TrainingParams, VAEParams, fusion_names
from models.training import train
from models.vae import MultimodalVAE
from tests.models.conftest import draws, small_batch, small_model

SINGLE = [name for name in fusion_names() if not fusions.traits(name).subset_experts]
SPREAD = 0.5  # deviation of what every sensor sees around z
SIZE = 2  # of the latent, and of what every sensor sees


def linear(count: int, fusion: str = "poe") -> MultimodalVAE:
    """x_i = z + N(0, SPREAD^2) of `count` sensors; poe's posterior is the exact one."""
    names = "abcdefg"[:count]
    params = VAEParams(
        modalities={n: ModalityParams(scale=SPREAD, weight=3.0) for n in names},
        latent=SIZE,
        training=TrainingParams(precision="float32", threads=1),
    )
    model = MultimodalVAE(params, Cell(fusion=fusion), dict.fromkeys(names, (SIZE,)))
    both = torch.cat([torch.eye(SIZE), -torch.eye(SIZE)])  # x = relu(x) - relu(-x)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        for expert, decoder in zip(model.experts, model.decoders.values(), strict=True):
            (trunk,) = expert.trunks.values()
            for first, last in ((trunk[0], expert.head), (decoder[0], decoder[2])):
                first.weight[: 2 * SIZE] = both
                last.weight[:SIZE, : 2 * SIZE] = both.T
            expert.head.bias[SIZE:] = 2 * np.log(SPREAD)
    return model.double()


def seen(count: int, items: int, seed: int = 0) -> dict[str, Tensor]:
    """What the sensors of `linear` see of items drawn from its own prior."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(items, SIZE, generator=generator).double()
    noise = torch.randn(count, items, SIZE, generator=generator).double()
    return dict(zip("abcdefg", z + SPREAD * noise, strict=False))


def log_normal(x: Tensor, mean: Tensor, var: float) -> Tensor:
    each = -0.5 * ((x - mean).square() / var + np.log(2 * np.pi * var))
    return each.sum(-1)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_innovation_is_that_of_the_exact_joint_gaussian(count: int) -> None:
    """Its Mahalanobis distance from p(x_i | the others), by the covariance of all sensors."""
    x = seen(count, 4000)
    found = linear(count).consistency(x)
    covariance = np.ones((count, count)) + SPREAD**2 * np.eye(count)
    stacked = torch.stack(list(x.values())).numpy()  # [M, B, L]
    for i in range(count):
        rest = [j for j in range(count) if j != i]
        gain = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, i])
        mean = np.einsum("j,jbl->bl", gain, stacked[rest])
        var = covariance[i, i] - covariance[i, rest] @ gain
        exact = np.square(stacked[i] - mean).sum(-1) / var
        np.testing.assert_allclose(
            found.innovation[i].numpy(), exact, rtol=1e-6
        )  # SPREAD^2 is float32's
        # Chi-squared with SIZE degrees of freedom.
        assert exact.mean() == pytest.approx(SIZE, rel=0.08)
        assert exact.var() == pytest.approx(2 * SIZE, rel=0.2)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_likelihoods_are_those_of_the_posteriors_they_name(count: int) -> None:
    x = seen(count, 7)
    found = linear(count).consistency(x)
    stacked, var = torch.stack(list(x.values())), SPREAD**2
    for i in range(count):
        rest = [j for j in range(count) if j != i]
        others = stacked[rest]
        joint = others.sum(0) / (count - 1 + var)  # precision 1 + (M - 1) / var
        cross = log_normal(stacked[i], joint, var)
        each = log_normal(stacked[i], others / (1 + var), var)
        torch.testing.assert_close(found.cross[i], -cross)
        torch.testing.assert_close(found.closest[i], -torch.maximum(cross, each.amax(0)))
        own = log_normal(stacked[i], stacked[i] / (1 + var), var)
        torch.testing.assert_close(found.own[i], -own)
        torch.testing.assert_close(found.alone[i, rest], -each)


def test_a_mixtures_innovation_is_the_soft_least_of_its_components() -> None:
    model, x = small_model(Cell(fusion="moe")), small_batch()
    mean, var = model.encode(x)
    gap = ((mean[:, None] - mean).square() / (var[:, None] + var)).sum(-1)
    found = model.consistency(x, draws())
    for i, (j, k) in enumerate(((1, 2), (0, 2), (0, 1))):
        soft = -2 * (((-gap[i, j] / 2).exp() + (-gap[i, k] / 2).exp()) / 2).log()
        torch.testing.assert_close(found.innovation[i], soft)


@pytest.mark.parametrize("fusion", SINGLE)
@pytest.mark.parametrize("names", ["ab", "abc", "abcd"])
def test_any_fusion_of_single_experts_item_by_item(fusion: str, names: str) -> None:
    model, x = small_model(Cell(fusion=fusion), names), small_batch(names)
    uniforms = torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
    model.calibrate(small_batch(names, 40, seed=3))
    whole = model.consistency(x, Draws(uniforms=uniforms))
    assert whole.sensors == tuple(names)
    for b in range(5):
        item = {n: values[[b]] for n, values in x.items()}
        one = model.consistency(item, Draws(uniforms=uniforms[[b]]))
        for key in ("innovation", "cross", "own", "closest", "score"):
            of_whole = getattr(whole, key)
            assert of_whole.shape == (len(names), 5)
            assert of_whole.isfinite().all()
            torch.testing.assert_close(getattr(one, key)[:, 0], of_whole[:, b])
    made = model.generate(x, reject="auto", uniforms=uniforms)
    left = len(names) - torch.stack(list(made.rejected.values())).sum(0)
    assert left.min() >= 2


def test_thresholds_are_exact_quantiles_of_the_clean_items() -> None:
    model, clean = linear(3), seen(3, 237)
    model.calibrate(clean)
    found = model.consistency(clean)
    assert found.score is not None
    assert found.limits is not None
    assert list(found.limits) == [0.01, 0.05]
    for rate, limit in found.limits.items():
        above = (found.score > limit).sum(1)
        assert above.tolist() == [int(rate * 237)] * 3  # no more, and not one less
        exact = np.quantile(found.score.numpy(), 1 - rate, axis=1, method="inverted_cdf")
        np.testing.assert_allclose(limit[:, 0].numpy(), exact, rtol=1e-12)
    # Clean items that it has not seen: the share is the same but for chance.
    fresh = model.consistency(seen(3, 4000, seed=1))
    assert ((fresh.score > fresh.limits[0.05][:, :1]).double().mean(1) < 0.09).all()
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        for count in (1, 20, 100, 237):
            values = torch.rand(count, generator=torch.Generator().manual_seed(count))
            want = np.quantile(values.numpy(), share, method="inverted_cdf")
            assert quantile(values, share).item() == want


def lying(count: int, items: int, liars: dict[int, str]) -> dict[str, Tensor]:
    """Item b of the sensors `liars[b]` is another item's: plausible by itself."""
    x, foreign = seen(count, items, seed=5), seen(count, items, seed=6)
    for b, names in liars.items():
        for name in names:
            away = 4.0 + foreign[name][b].abs()
            x[name][b] = away if name < "c" else -away
    return x


def test_each_item_names_its_own_liar_and_two_sensors_none() -> None:
    liars = {b: "abc"[b % 3] for b in range(0, 60, 2)}
    model, x = linear(3), lying(3, 60, liars)
    model.calibrate(seen(3, 1000))
    named = model.consistency(x).named(0.01)
    assert all(named[b] == liar for b, liar in liars.items())
    assert sum(name is not None for name in named[1::2]) <= 3
    pair = {"a": x["a"], "b": x["b"]}
    found = model.consistency(pair)  # the same model, its third sensor missing
    assert found.named() == [None] * 60
    conflict = found.conflict()
    assert all(conflict[b] for b, liar in liars.items() if liar in "ab")
    assert conflict.sum() <= sum(liar in "ab" for liar in liars.values()) + 3


def test_generate_leaves_the_liars_out_worst_first_and_never_below_two() -> None:
    liars = {0: "a", 1: "e", 2: "ad", 3: "", 4: "abc"}
    model, x = linear(5), lying(5, 5, liars)
    x["d"][2] *= 2  # so that it is the worst of its item
    model.calibrate(seen(5, 1000))
    made = model.generate(x, reject="auto")
    rejected = torch.stack(list(made.rejected.values()))
    assert list(made.rejected) == list("abcde")
    for b in range(4):
        assert [n for n, out in made.rejected.items() if out[b]] == list(liars[b])
        kept = {n: values[[b]] for n, values in x.items() if n not in liars[b]}
        for name, want in model.generate(kept).items():
            torch.testing.assert_close(made[name][[b]], want)
    assert model.consistency(x).named()[2] == "d"
    assert rejected.sum(0).max() <= 3
    # One that is not there is no one's liar, and three of five can lose one.
    few = {n: values for n, values in x.items() if n in "abe"}
    assert model.generate(few, reject="auto").rejected["e"].tolist()[1]
    pair = {n: x[n] for n in "ab"}
    assert not torch.stack(list(model.generate(pair, reject="auto").rejected.values())).any()
    assert model.generate(x).rejected == {}


def test_an_item_whose_component_is_rejected_draws_another() -> None:
    model, x = linear(3, "moe"), lying(3, 4, {1: "a"})
    model.calibrate(seen(3, 1000))
    uniforms = torch.full((4, SIZE), 0.75).double()
    made = model.generate(x, component=0, reject="auto", uniforms=uniforms)
    assert made.rejected["a"].tolist() == [False, True, False, False]
    first, third = (model.generate(x, component=i)["b"] for i in (0, 2))
    torch.testing.assert_close(made["b"][[0, 2, 3]], first[[0, 2, 3]])
    torch.testing.assert_close(made["b"][1], third[1])


def test_a_models_file_keeps_its_thresholds_and_an_older_one_says_it_has_none(
    tmp_path: Path,
) -> None:
    model, x = linear(3).float(), {n: v.float() for n, v in lying(3, 30, {2: "b"}).items()}
    model.calibrate({n: v.float() for n, v in seen(3, 300).items()})
    model.save(tmp_path / "m")
    loaded = MultimodalVAE.load(tmp_path / "m")
    one, two = model.consistency(x), loaded.consistency(x)
    assert one.score is not None
    assert two.score is not None
    assert torch.equal(one.score, two.score)
    assert one.named() == two.named()
    assert two.named()[2] == "b"
    model.calibration = None
    model.save(tmp_path / "older")
    older = MultimodalVAE.load(tmp_path / "older")
    assert older.calibration is None
    found = older.consistency(x)
    torch.testing.assert_close(found.innovation, one.innovation)
    assert found.score is None
    for ask in (found.named, found.conflict, lambda: older.generate(x, reject="auto")):
        with pytest.raises(ValueError, match=r"^calibration: this model has no thresholds"):
            ask()


def test_of_many_sensors_the_full_set_and_those_without_one_are_calibrated() -> None:
    model = linear(7)
    model.calibrate(seen(7, 100))
    assert model.calibration is not None
    assert model.calibration.sets.sum(1).tolist() == [6] * 7 + [7]
    x = lying(7, 3, {0: "ab", 1: "g"})
    rejected = model.generate(x, reject="auto").rejected
    assert rejected["g"].tolist() == [False, True, False]
    assert torch.stack(list(rejected.values())).sum(0)[0] == 2
    few = model.consistency({n: x[n] for n in "abc"})
    assert few.named() == [None] * 3  # a set that is not known has no alarms


MISTAKES = [
    ({"reject": "yes"}, "reject: 'yes' is not 'none', or 'auto' with missing 'absent'"),
    ({"reject": "auto", "missing": "prior"}, "reject: 'auto' is not 'none'"),
    ({"reject": "auto", "rate": 0.02}, "rate: 0.02 is not one of 0.01, 0.05"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_a_mistake_is_one_line(options: dict[str, object], message: str) -> None:
    model, x = linear(3), seen(3, 20)
    model.calibrate(x)
    with pytest.raises(ValueError, match=message):
        model.generate(x, **options)  # type: ignore[arg-type]


def test_what_cannot_be_compared_is_one_line() -> None:
    model, x = linear(3), seen(3, 20)
    with pytest.raises(ValueError, match="available: a alone has no other sensor to agree with"):
        model.consistency({"a": x["a"]})
    with pytest.raises(ValueError, match=r"clean: \['c'\] is missing"):
        model.calibrate({"a": x["a"], "b": x["b"]})
    with pytest.raises(ValueError, match="clean: the model has one sensor, a,"):
        small_model(Cell(), "a").calibrate(small_batch("a"))
    subsets = small_model(Cell(fusion="largest", objective="jmvae"), "ab")
    with pytest.raises(ValueError, match="fusion 'largest' has no expert of each single sensor"):
        subsets.consistency(small_batch("ab"))


@pytest.mark.parametrize(("held", "calibrated"), [(20, 20), (0, None)])
def test_a_training_calibrates_on_its_validation_data(
    held: int, calibrated: int | None, tmp_path: Path
) -> None:
    params = VAEParams(
        modalities={"a": ModalityParams(), "b": ModalityParams()},
        latent=2,
        training=TrainingParams(steps=2, batch=8, threads=1, warmup=0, precision="float32"),
    )
    data = {n: v.numpy().astype(np.float32) for n, v in seen(2, 30).items()}
    train(
        params, Cell(), data, {n: v[:held] for n, v in data.items()}, seed=0,
        out=tmp_path / "m", checkpoints=tmp_path / "c", device="cpu", progress=False,
    )  # fmt: skip
    found = MultimodalVAE.load(tmp_path / "m").calibration
    assert (found and found.items) == calibrated
    assert RATES == (0.01, 0.05)


def test_the_score_is_the_larger_of_what_clean_items_measure() -> None:
    """One sensor, one item at a time, with numpy's quantiles."""
    model, clean = linear(3), seen(3, 101)
    model.calibrate(clean)
    found = model.consistency(clean)

    def standard(values: Tensor) -> np.ndarray:
        middle, high = np.quantile(values.numpy(), [0.5, 0.95], method="inverted_cdf")
        return (values.numpy() - middle) / (high - middle)

    alone = [[standard(found.alone[i, j]) for j in range(3)] for i in range(3)]
    assert found.score is not None
    for i in range(3):
        explains = np.minimum(*(alone[j][i] for j in range(3) if j != i))
        want = np.maximum(alone[i][i], standard(found.closest[i]) + explains)
        np.testing.assert_allclose(found.score[i].numpy(), want, rtol=1e-9, atol=1e-9)

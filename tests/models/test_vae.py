"""What a trained model answers, its files, and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from models import fusions, networks
from models.mixture import Draws
from models.params import (
    Cell,
    ModalityParams,
    NetworkParams,
    TrainingParams,
    VAEParams,
    fusion_names,
)
from models.vae import MultimodalVAE
from tests.models.conftest import LATENT, draws, small_batch, small_model

IMAGES = {"image": (16, 16, 3), "depth": (16, 16, 1)}
MIXED = [name for name in fusion_names() if fusions.traits(name).mixture]


def image_params(kind: str = "residual", precision: str = "float32") -> VAEParams:
    return VAEParams.model_validate(
        {
            "modalities": {"image": {}, "depth": {"likelihood": "bernoulli"}},
            "latent": 4,
            "network": {"kind": kind, "width": 8},
            "training": {"precision": precision, "threads": 1},
        }
    )


def image_model(kind: str = "residual", precision: str = "float32") -> MultimodalVAE:
    return MultimodalVAE(image_params(kind, precision), Cell(), IMAGES).eval()


def stored(batch: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randint(0, 256, (batch, *shape), dtype=torch.uint8, generator=generator)
        for name, shape in IMAGES.items()
    }


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["residual", "cnn", "mixer"])
def test_images_in_and_out(kind: str, precision: str) -> None:
    model = image_model(kind, precision)
    for given in (["image"], ["depth"], ["image", "depth"]):
        out = model.generate({name: stored()[name] for name in given})
        assert list(out) == ["image", "depth"]
        assert out["image"].shape == (3, 3, 16, 16)
        assert out["depth"].shape == (3, 1, 16, 16)
        for value in out.values():
            assert value.dtype == torch.float32
            assert 0 <= value.min() <= value.max() <= 1


def test_bfloat16_is_float32_where_the_cpu_cannot_multiply_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full, fast = image_model(), image_model(precision="bfloat16")
    fast.load_state_dict(full.state_dict())
    for native in (False, True):
        monkeypatch.setattr(networks, "fast_bfloat16", lambda device, native=native: native)
        one, two = full.generate(stored()), fast.generate(stored())
        torch.testing.assert_close(one["image"], two["image"], atol=0.05, rtol=0)
        assert torch.equal(one["image"], two["image"]) != native


def test_stored_bytes_and_floats_give_the_same() -> None:
    model = image_model()
    floats = {name: x.permute(0, 3, 1, 2).float() / 255 for name, x in stored().items()}
    for one, two in zip(
        model.generate(stored()).values(), model.generate(floats).values(), strict=True
    ):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("fusion", ["poe", "moe", "mopoe", "rce"])
@pytest.mark.parametrize("point", ["mean", "sample"])
def test_what_an_item_gets_does_not_depend_on_its_batch(fusion: str, point: str) -> None:
    model, x = small_model(Cell(fusion=fusion)), small_batch()
    uniforms = torch.rand(5, LATENT, generator=torch.Generator().manual_seed(0))
    normals = torch.randn(5, LATENT, generator=torch.Generator().manual_seed(1))
    whole = model.generate(x, point=point, uniforms=uniforms, normals=normals)
    for b in range(5):
        one = model.generate(
            {name: value[[b]] for name, value in x.items()},
            point=point,
            uniforms=uniforms[[b]],
            normals=normals[[b]],
        )
        for name in x:
            torch.testing.assert_close(one[name][0], whole[name][b])


def test_the_component_can_be_chosen() -> None:
    model, x = small_model(Cell(fusion="moe")), small_batch()
    for index, name in enumerate("abc"):
        got = model.generate(x, component=index)
        want = model.decode("b", model.posterior({name: x[name]}).mean[index, 0])
        torch.testing.assert_close(got["b"], want)
    with pytest.raises(ValueError, match="component: 0 needs modalities that are not available"):
        model.generate({"b": x["b"]}, component=0)
    with pytest.raises(ValueError, match=r"component: 9 is not in 0 \.\. 2"):
        model.generate(x, component=9)


def test_components_are_drawn_by_their_weight_and_never_absent() -> None:
    model, x = small_model(Cell(fusion="moe")), small_batch(batch=3)
    some = {"a": x["a"], "c": x["c"]}
    uniforms = torch.tensor([0.2, 0.7, 0.999999999]).double()[:, None].expand(3, LATENT)
    drawn = model.generate(some, uniforms=uniforms)["b"]
    a, c = (model.generate(some, component=i)["b"] for i in (0, 2))
    torch.testing.assert_close(drawn, torch.stack([a[0], c[1], c[2]]))


@pytest.mark.parametrize("fusion", MIXED)
def test_where_one_component_is_there_nothing_is_drawn(fusion: str) -> None:
    model, x = small_model(Cell(fusion=fusion)), small_batch()
    torch.testing.assert_close(
        model.generate({"b": x["b"]})["a"], model.generate({"b": x["b"]}, component=1)["a"]
    )
    with pytest.raises(ValueError, match="give a generator, or uniforms"):
        model.generate(x)


def test_a_missing_modality_may_stand_as_the_prior() -> None:
    model, x = small_model(Cell()), small_batch()
    absent = model.posterior({"a": x["a"]})
    prior = model.posterior({"a": x["a"]}, missing="prior")
    torch.testing.assert_close(1 / prior.var, 1 / absent.var + 2)
    with pytest.raises(ValueError, match="missing: 'zero'"):
        model.posterior(x, missing="zero")


def test_a_random_fusion_without_draws_says_so() -> None:
    model = small_model(Cell(fusion="rce"))
    with pytest.raises(ValueError, match="give a generator, or uniforms"):
        model.generate(small_batch())


def test_samples_come_from_the_prior() -> None:
    model = image_model()
    one = model.sample(4, torch.Generator().manual_seed(1))
    assert one["image"].shape == (4, 3, 16, 16)
    assert torch.equal(one["depth"], model.sample(4, torch.Generator().manual_seed(1))["depth"])
    assert not torch.equal(one["image"], model.sample(4, torch.Generator().manual_seed(2))["image"])
    assert not torch.equal(model.sample(4)["image"], model.sample(4)["image"])
    z = torch.randn(4, 4, generator=torch.Generator().manual_seed(1))
    decoded = model.decode("image", z)
    torch.testing.assert_close(one["image"], decoded.clamp(0, 1))


def test_a_sampled_point_is_the_mean_and_a_deviation_of_noise() -> None:
    model, x = image_model(), stored()
    posterior = model.posterior(x)
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(5))
    z = posterior.mean[0, 0] + posterior.var[0, 0].sqrt() * noise
    made = model.generate(x, point="sample", normals=noise)
    torch.testing.assert_close(made["image"], model.decode("image", z).clamp(0, 1))


def test_subset_encoders_take_no_prior_for_what_is_missing() -> None:
    model, x = small_model(Cell(fusion="largest", objective="jmvae")), small_batch()
    given = {name: x[name] for name in "ab"}
    assert not torch.allclose(model.posterior(given).mean, torch.zeros(()).double())
    with pytest.raises(ValueError, match="'prior' with fusion 'largest'"):
        model.posterior(given, missing="prior")


def test_log_likelihood_is_per_item_and_needs_all() -> None:
    model, x = small_model(Cell()), small_batch()
    assert model.log_likelihood(x, 7, torch.Generator().manual_seed(0)).shape == (5,)
    with pytest.raises(ValueError, match=r"\['c'\] is missing"):
        model.log_likelihood({n: x[n] for n in "ab"}, 7, torch.Generator().manual_seed(0))


def wrong_inputs() -> dict[str, tuple[dict[str, torch.Tensor], str]]:
    x = stored()
    floats = torch.rand(3, 3, 16, 16)
    return {
        "empty": ({}, "at least one is needed"),
        "name": ({"sonar": x["image"]}, r"\['sonar'\] is not among \['image', 'depth'\]"),
        "shape": ({"image": x["image"][:, :8]}, r"image: shape \[3, 3, 8, 16\], expected"),
        "channels": ({"image": x["depth"]}, r"image: shape \[3, 1, 16, 16\]"),
        "no items": ({"image": x["image"][:0]}, r"image: shape \[0"),
        "dtype": ({"image": x["image"].int()}, "image: dtype torch.int32, expected uint8"),
        "range": ({"image": floats * 255}, r"image: values in .* expected \[0, 1\]"),
        "nan": ({"image": floats * torch.nan}, "image: values"),
        "batch": ({"image": x["image"], "depth": x["depth"][:2]}, "differ in batch size"),
        "one number": ({"image": torch.tensor(0.5)}, r"image: shape \[\], expected"),
        "bool": ({"image": x["image"] > 9}, "image: dtype torch.bool, expected uint8"),
        "complex": ({"image": floats.cfloat()}, "image: dtype torch.complex64, expected uint8"),
    }


@pytest.mark.parametrize("case", wrong_inputs())
def test_a_wrong_input_is_named(case: str) -> None:
    x, message = wrong_inputs()[case]
    with pytest.raises(ValueError, match=message):
        image_model().generate(x)


@pytest.mark.parametrize("answer", ["generate", "posterior", "log_likelihood"])
def test_an_array_in_place_of_a_tensor_is_named(answer: str) -> None:
    x: dict[str, Any] = {**stored(), "depth": stored()["depth"].numpy()}
    more = (3,) if answer == "log_likelihood" else ()
    with pytest.raises(TypeError, match=r"^depth: ndarray, expected a torch.Tensor$"):
        getattr(image_model(), answer)(x, *more)


def test_log_likelihood_of_no_samples_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^samples: 0, expected 1 or more$"):
        small_model(Cell()).log_likelihood(small_batch(), 0)


def test_a_model_may_change_its_device_between_two_steps() -> None:
    """Which components it decodes is remembered by device; `meta` stands for another one."""
    model, x = small_model(Cell(fusion="moe", objective="ecg")), small_batch()
    first = model.bound(x, draws())
    assert model._live is not None
    model._live = model._live.to("meta")
    torch.testing.assert_close(model.bound(x, draws()).value, first.value)


def test_a_file_rebuilds_the_model_without_pickle(tmp_path: Path) -> None:
    model = image_model()
    path = tmp_path / "deep" / "model.safetensors"
    model.save(path)
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    assert config["params"]["latent"] == 4
    again = MultimodalVAE.load(path)
    assert again.cell == model.cell
    assert again.params == model.params
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_a_file_of_an_earlier_version_is_read_and_answers_as_then() -> None:
    """saved-2c8d569.safetensors was written by that commit, and so were the numbers."""
    model = MultimodalVAE.load(Path(__file__).parent / "saved-2c8d569.safetensors")
    out = model.generate({"image": torch.linspace(0, 1, 192).view(1, 3, 8, 8)})
    for name, mean, std in (("image", 0.496843487, 0.034966677), ("depth", 0.619847655, 0.0082369)):
        assert out[name].mean().item() == pytest.approx(mean, rel=1e-5), name
        assert out[name].std().item() == pytest.approx(std, rel=1e-4), name


def test_categories_sequences_and_vectors_are_modalities() -> None:
    params = VAEParams(
        modalities={
            "text": ModalityParams(likelihood="categorical", classes=7),
            "features": ModalityParams(likelihood="laplace"),
            "track": ModalityParams(),
            "labels": ModalityParams(likelihood="categorical", classes=3),
        },
        latent=4,
        network=NetworkParams(width=8),
        training=TrainingParams(precision="float32"),
    )
    shapes = {"text": (6, 7), "features": (9,), "track": (5, 2), "labels": (16, 16, 3)}
    model = MultimodalVAE(params, Cell(), shapes)
    generator = torch.Generator().manual_seed(0)
    x = {
        "text": torch.randint(0, 7, (4, 6), generator=generator),
        "features": torch.randn(4, 9, generator=generator),
        "track": torch.randn(4, 5, 2, generator=generator),
        "labels": torch.randint(0, 3, (4, 16, 16), generator=generator),
    }
    model.bound(x, Draws(generator)).value.sum().backward()
    out = model.generate(x)
    assert out["text"].shape == (4, 6, 7)
    assert out["labels"].shape == (4, 16, 16, 3)
    torch.testing.assert_close(out["text"].sum(-1), torch.ones(4, 6))
    assert out["track"].shape == (4, 5, 2)
    with pytest.raises(ValueError, match=r"text: values in \[7, 7\], expected \[0, 6\]"):
        model.generate({"text": torch.full((4, 6), 7)})
    with pytest.raises(ValueError, match="expected integers"):
        model.generate({"text": torch.zeros(4, 6)})


MOVED = {torch.float64: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.08}  # and how far off


def mixed_model(kind: str, precision: str, cell: Cell) -> tuple[MultimodalVAE, dict[str, Any]]:
    """Every sort of modality, and a batch of each as it is stored."""
    params = VAEParams.model_validate(
        {
            "modalities": {
                "image": {},
                "depth": {"likelihood": "bernoulli"},
                "text": {"likelihood": "categorical", "classes": 7},
                "track": {"likelihood": "laplace"},
            },
            "latent": 4,
            "network": {"kind": kind, "width": 8},
            "training": {"precision": precision, "threads": 1},
        }
    )
    shapes = {**IMAGES, "text": (6, 7), "track": (5, 2)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MultimodalVAE(params, cell, shapes).eval()
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, 7, (3, 6), generator=generator)
    return model, {**stored(), "text": text, "track": torch.randn(3, 5, 2, generator=generator)}


@pytest.mark.parametrize("dtype", MOVED, ids=str)
@pytest.mark.parametrize("kind", ["residual", "cnn", "mixer"])
def test_a_model_moved_to_another_dtype_answers_all_the_same(
    dtype: torch.dtype, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored bytes, categories and floats of any width; also where bfloat16 is fast."""
    monkeypatch.setattr(networks, "fast_bfloat16", lambda device: False)
    model, x = mixed_model(kind, "bfloat16", Cell())
    want, mean = model.generate(x), model.posterior(x).mean
    some = model.posterior({"text": x["text"]}, missing="prior").mean
    evidence = model.log_likelihood(x, 9, torch.Generator().manual_seed(0))
    monkeypatch.setattr(networks, "fast_bfloat16", lambda device: True)
    model.to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for given in (x, {**x, "track": x["track"].double()}, {**x, "track": x["track"].to(dtype)}):
        torch.testing.assert_close(
            model.posterior(given).mean, mean.to(wide), atol=MOVED[dtype], rtol=0
        )
        for name, value in model.generate(given).items():
            torch.testing.assert_close(value, want[name].to(wide), atol=MOVED[dtype], rtol=0)
    moved = model.posterior({"text": x["text"]}, missing="prior").mean
    torch.testing.assert_close(moved, some.to(wide), atol=MOVED[dtype], rtol=0)
    found = model.log_likelihood(x, 9, torch.Generator().manual_seed(0))
    assert found.dtype == wide
    if wide == torch.float32:  # with the same draws
        torch.testing.assert_close(found, evidence, atol=0, rtol=0.05)
    assert {value.dtype for value in model.sample(2).values()} == {wide}


@pytest.mark.parametrize("fusion", ["poe", "moe", "mopoe", "rce", "code"])
@pytest.mark.parametrize("dtype", MOVED, ids=str)
def test_every_fusion_answers_in_another_dtype(fusion: str, dtype: torch.dtype) -> None:
    model, x = mixed_model("mixer", "float32", Cell(fusion=fusion))
    keyed: dict[str, Any] = {
        "uniforms": torch.rand(3, 4, generator=torch.Generator().manual_seed(0)),
        "normals": torch.randn(3, 4, generator=torch.Generator().manual_seed(1)),
    }
    want = model.generate(x, point="sample", **keyed)
    for name, value in model.to(dtype).generate(x, point="sample", **keyed).items():
        torch.testing.assert_close(value, want[name].to(value), atol=MOVED[dtype], rtol=0)


def test_a_number_too_large_for_the_weights_is_named() -> None:
    model, _ = mixed_model("mixer", "float32", Cell())
    big = {"track": torch.full((3, 5, 2), 1e5)}
    assert model.generate(big)["track"].isfinite().all()
    with pytest.raises(ValueError, match=r"^track: values in .*expected finite numbers of torch.f"):
        model.half().generate(big)
    with pytest.raises(ValueError, match=r"expected finite numbers of torch\.float32"):
        model.float().generate({"track": torch.full((3, 5, 2), 1e39, dtype=torch.float64)})


def test_shapes_must_name_the_modalities() -> None:
    with pytest.raises(ValueError, match=r"these differ: \['depth'\]"):
        MultimodalVAE(image_params(), Cell(), {"image": (16, 16, 3)})


@pytest.mark.parametrize(
    ("kind", "side", "step"), [("residual", 20, 8), ("cnn", 24, 16), ("mixer", 20, 8)]
)
def test_image_sides_that_do_not_fit_are_named(kind: str, side: int, step: int) -> None:
    shapes = {"image": (16, 16, 3), "depth": (16, side, 1)}
    message = f"'{kind}' needs image sides that are multiples of {step}; these are 16 x {side}"
    with pytest.raises(ValueError, match=message):
        MultimodalVAE(image_params(kind), Cell(), shapes)


@pytest.mark.slow
def test_params_import_no_torch_and_a_model_only_its_own_entries() -> None:
    code = (
        "import sys; import models.params as p; assert 'torch' not in sys.modules;"
        "from models.vae import MultimodalVAE as V;"
        "V(p.VAEParams(modalities={'a': p.ModalityParams()}), p.Cell(), {'a': (3,)});"
        "print(sorted(m for m in sys.modules if m.startswith(('models.fusions.', "
        "'models.objectives.'))))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['models.fusions.poe', 'models.objectives.none']"


@pytest.mark.parametrize("neck", [0, 1, 3])
def test_a_neck_leaves_a_token_so_many_channels(neck: int) -> None:
    """Counted by hand: 4 tokens of 8 channels, L = 5; without a neck there is no layer of it."""
    network = NetworkParams(kind="mixer", width=4, blocks=1, neck=neck)
    params = VAEParams(modalities={"a": ModalityParams()}, latent=5, network=network)
    model = MultimodalVAE(params, Cell(), {"a": (16, 16, 1)})
    without = MultimodalVAE(
        params.model_copy(update={"network": network.model_copy(update={"neck": 0})}),
        Cell(),
        {"a": (16, 16, 1)},
    )
    narrow = 4 * (neck or 8)
    latent = (narrow + 1) * 10 + (5 + 1) * narrow
    layers = (8 + 1) * neck + (neck + 1) * 8 if neck else 0
    wide = (32 + 1) * 10 + (5 + 1) * 32
    assert count_of(model) - count_of(without) == latent + layers - wide
    assert model.generate({"a": torch.zeros(2, 1, 16, 16)})["a"].shape == (2, 1, 16, 16)


def count_of(model: MultimodalVAE) -> int:
    """Its weights."""
    return sum(weight.numel() for weight in model.parameters())

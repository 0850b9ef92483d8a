"""Every fusion x objective x K: runs and learns, or is refused with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.utils._python_dispatch import TorchDispatchMode

from models.bound import Bound
from models.mixture import Draws
from models.params import Cell, check_cell, fusion_names, objective_names
from models.training import train
from models.vae import MultimodalVAE
from tests.models.conftest import LATENT, draws, small_batch, small_params

SUBSETS_UNTRAINED = "never trains the encoders"


def refusal(fusion: str, objective: str, samples: int) -> str | None:
    """What the refusal must say, or None where the cell runs."""
    if objective == "jmvae" and fusion != "largest":
        return "subset encoders"
    if fusion == "largest" and objective in ("none", "lcd", "mvtcae", "crmvae", "mmvm"):
        return SUBSETS_UNTRAINED
    if samples > 1 and objective in ("mvtcae", "jmvae", "masked", "tc", "crmvae", "mmvm"):
        return "has no KL terms"
    return None


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("objective", objective_names())
@pytest.mark.parametrize("fusion", fusion_names())
def test_every_cell(fusion: str, objective: str, samples: int, tmp_path: Path) -> None:
    reason = refusal(fusion, objective, samples)
    if reason:
        with pytest.raises(ValidationError, match=reason):
            Cell(fusion=fusion, objective=objective, samples=samples)
        return
    cell = Cell(fusion=fusion, objective=objective, samples=samples)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MultimodalVAE(small_params(), cell, {"a": (3,), "b": (2,), "c": (4,)})
    x = {name: value.float() for name, value in small_batch().items()}
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)

    losses = []
    for _ in range(12):
        bound = model.bound(x, draws())
        assert bound.value.shape[1] == 5
        assert bound.reconstruction.shape == (3, len(bound.value))
        loss = -bound.value.sum(0).mean()
        optimiser.zero_grad()
        loss.backward()
        for name, weight in model.named_parameters():
            assert weight.grad is None or weight.grad.isfinite().all(), name
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]

    model.save(tmp_path / "model.safetensors")
    again = MultimodalVAE.load(tmp_path / "model.safetensors")
    uniforms = torch.rand(5, LATENT, generator=torch.Generator().manual_seed(0))
    for given in ({"a"}, {"b", "c"}, {"a", "b", "c"}):
        some = {name: x[name] for name in given}
        one = model.generate(some, uniforms=uniforms)
        two = again.generate(some, uniforms=uniforms)
        for name, value in one.items():
            assert value.shape == x[name].shape
            assert torch.equal(value, two[name])


class Waits(TorchDispatchMode):
    """Notes what an accelerator would stop for: a number read from it, a list copied to it."""

    KINDS = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found += [kind for kind in self.KINDS if kind in str(func)]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("objective", objective_names())
@pytest.mark.parametrize("fusion", fusion_names())
def test_after_the_first_no_step_waits_for_the_device(
    fusion: str, objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if refusal(fusion, objective, 1):
        pytest.skip("refused: see test_every_cell")
    """In `train` itself, within an epoch, whose order is copied to the device once."""
    settings = {"steps": 4, "batch": 5, "clip": 1000.0}
    params = small_params()
    params = params.model_copy(update={"training": params.training.model_copy(update=settings)})
    x = {name: value.float().numpy() for name, value in small_batch(batch=20).items()}
    bound, waits = MultimodalVAE.bound, Waits()

    def noted(model: MultimodalVAE, *given: Any) -> Bound:
        waits.found.append("bound")
        return bound(model, *given)

    monkeypatch.setattr(MultimodalVAE, "bound", noted)
    with waits:
        train(
            params,
            Cell(fusion=fusion, objective=objective),
            x,
            {name: values[:0] for name, values in x.items()},
            seed=0,
            out=tmp_path / "model.safetensors",
            checkpoints=tmp_path,
            device="cpu",
            progress=False,
        )
    starts = [place for place, found in enumerate(waits.found) if found == "bound"]
    assert waits.found[starts[1] : starts[3] + 1] == ["bound"] * 3
    assert waits.found[starts[3] + 1 :], "the row of the curves, after the last step, does wait"


def test_an_unknown_entry_is_named() -> None:
    with pytest.raises(ValidationError, match=r"fusion: 'pie' is not one of .*poe"):
        Cell(fusion="pie")
    with pytest.raises(ValidationError, match=r"objective: 'elbow' is not one of .*ecg"):
        Cell(objective="elbow")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"samples": 2, "beta": 0.5}, "samples: 2 .* beta 0.5"),
        ({"gradient": "dreg"}, "needs samples 2 or more"),
        ({"gradient": "stl", "samples": 2}, "'stl' with samples 2 is biased"),
        ({"gradient": "dreg", "samples": 2, "fusion": "moe"}, "'dreg' with fusion 'moe' is biased"),
        ({"objective": "lcd", "alpha": 1.5}, "alpha\n.*less than or equal to 1"),
        ({"fusion": "code", "rho": 1.0}, "rho\n.*less than 1"),
        ({"fusion": "largest", "objective": "jmvae", "cross": 0.0}, "cross: 0 .* never trains"),
        (
            {"fusion": "largest", "objective": "subsampling", "subsets": 0},
            "subsets: 0 .* 3 modalities never trains",
        ),
        (
            {"colour": 1},
            "colour\n.*unknown key; with fusion 'poe' .* there are .*beta, sensors, prior_expert",
        ),
        ({"objective": "ecg", "alpha": 0.5}, "alpha\n.*unknown key; with .* objective 'ecg'"),
    ],
)
def test_contradictions_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_cell(small_params(), Cell.model_validate(options))


def test_two_modalities_have_no_pair_left_untrained() -> None:
    cell = Cell(fusion="largest", objective="subsampling", subsets=0)
    check_cell(small_params("ab"), cell)


def test_every_parameter_of_a_full_objective_learns() -> None:
    """No cell that runs leaves an encoder or a decoder without a gradient over a few steps."""
    x = {name: value.float() for name, value in small_batch().items()}
    for fusion, objective in (("poe", "none"), ("largest", "jmvae"), ("largest", "ecg")):
        model = MultimodalVAE(
            small_params(),
            Cell(fusion=fusion, objective=objective),
            {"a": (3,), "b": (2,), "c": (4,)},
        )
        model.bound(x, Draws(torch.Generator().manual_seed(0))).value.sum().backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None, (fusion, objective, name)
            assert weight.grad.abs().sum() > 0, (fusion, objective, name)

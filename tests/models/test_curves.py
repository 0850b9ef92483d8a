"""What goes wrong in a training is named, with its step, and no checkpoint is spoiled."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from models.bound import Bound
from models.curves import DivergedError, check, curves_of
from models.params import Cell, ModalityParams
from models.training import batch_rows
from models.vae import MultimodalVAE
from tests.models.conftest import small_model
from tests.models.test_training import DATA, PARAMS, run


def test_nan_names_the_step_and_the_modality_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    bad = {**DATA, "features": DATA["features"].copy()}
    row = batch_rows(5, 20, 8, 0, "cpu")[0].item()  # first met in step 5, unless an epoch saw it
    first = next(s for s in range(10) if row in batch_rows(s, 20, 8, 0, "cpu"))
    bad["features"][row] = [3e38, -3e38, 3e38, -3e38, 3e38]  # finite, but no sum of them is
    every = PARAMS.training.model_copy(update={"checkpoint_every": 1, "log_every": 10})
    params = PARAMS.model_copy(update={"training": every})
    message = rf"step {first}: the encoder of features .*last good checkpoint"
    with pytest.raises(DivergedError, match=message):
        run(tmp_path, data=bad, params=params)
    kept = list((tmp_path / "checkpoints").glob("*/*.checkpoint"))
    assert len(kept) == (first > 0)
    for path in kept:
        tensors = load(path.read_bytes()[32:])
        assert all(value.isfinite().all() for value in tensors.values())
    assert not (tmp_path / "model.safetensors").exists()


def test_a_likelihood_that_overflows_names_its_modality_and_term(tmp_path: Path) -> None:
    sharp = {**PARAMS.modalities, "features": ModalityParams().model_copy(update={"scale": 1e-25})}
    with pytest.raises(DivergedError, match=r"step 0: features of term 0 is not finite"):
        run(tmp_path, params=PARAMS.model_copy(update={"modalities": sharp}), cell=Cell())


def test_a_loss_that_runs_away_stops(tmp_path: Path) -> None:
    wild = PARAMS.training.model_copy(
        update={"learning_rate": 1.0, "schedule": "constant", "steps": 400, "clip": 0.0}
    )
    told = r"step \d+: the loss diverges \(.*\), worst in (the KL|image|features) of term 0; "
    with pytest.raises(DivergedError, match=told):
        run(tmp_path, params=PARAMS.model_copy(update={"training": wild}), cell=Cell())


def told(losses: list[float], history: list[float]) -> None:
    """`check` on steps and on rows of the curves with these losses, all of them in image."""
    model = MultimodalVAE(PARAMS, Cell(), {"image": (8, 8, 3), "features": (5,)})
    steps = torch.tensor([[0.0, 0.0, -loss, 0.0, -loss, 0.0] for loss in (*history, *losses)])
    rows = [curves_of(row, model, "") for row in steps[: len(history)]]
    check(steps[len(history) :], 7, model, rows)


def test_a_loss_that_climbs_back_and_beyond_where_it_began_is_stopped() -> None:
    """From 100 it fell to -200: it may reach 100 + 300 + 100."""
    told([490.0, 490.0], [100.0, -200.0])
    told([100.0, 900.0, 300.0], [100.0, -200.0])  # one bad draw among others
    with pytest.raises(DivergedError, match=r"step 8: the loss diverges \(510\), worst in image"):
        told([495.0, 510.0, 505.0], [100.0, -200.0])
    with pytest.raises(DivergedError, match=r"step 7: "):
        told([510.0], [100.0, -200.0, 200.0, 300.0, 400.0, 490.0])  # slowly, too


def test_a_loss_that_starts_near_0_may_double() -> None:
    """Of a likelihood of 300 and a KL of 310: its size is 610 and not 10."""
    model = MultimodalVAE(PARAMS, Cell(), {"image": (8, 8, 3), "features": (5,)})
    numbers = torch.tensor([[0.0, 0.0, -10.0, 310.0, 300.0, 0.0]])
    history = [curves_of(numbers[0], model, "")]
    for loss in (30.0, 600.0, 640.0):
        numbers[0, 2] = -loss
        if loss < 620:
            check(numbers, 1, model, history)
        else:
            with pytest.raises(DivergedError, match=r"step 1: the loss diverges \(640\)"):
                check(numbers, 1, model, history)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("part", "harm", "culprit"),
    [(1, 1e7, "the KL"), (2, -1e7, "a"), (3, -1e7, "b"), (4, -1e7, "c")],
)
@pytest.mark.parametrize(("objective", "term"), [("none", 0), ("ecg", 0), ("ecg", 5)])
def test_what_went_wrong_is_named(
    objective: str, term: int, part: int, harm: float, culprit: str, before: bool
) -> None:
    """[steps, experts + 5 parts (bound, KL, a, b, c) of each term]; steps 1 to 3."""
    model = small_model(Cell(objective=objective))
    table = torch.tensor([-1200.0, 100.0, -300.0, -500.0, -300.0])
    count = 1 if objective == "none" else 7
    numbers = torch.cat([torch.zeros(3), table.repeat_interleave(count)]).repeat(3, 1)
    history = [curves_of(numbers[0], model, "")] if before else []
    check(numbers, 1, model, history)
    numbers[1:, 3 + term] -= 1e7
    numbers[1:, 3 + part * count + term] += harm
    with pytest.raises(DivergedError, match=rf"^step 2: .* worst in {culprit} of term {term};"):
        check(numbers, 1, model, history)
    numbers[1:, 3 + term] = torch.nan
    numbers[1:, 3 + part * count + term] = torch.nan
    with pytest.raises(DivergedError, match=rf"^step 2: {culprit} of term {term} is not finite"):
        check(numbers, 1, model, history)


@pytest.mark.parametrize(
    ("step", "parts", "owner"),
    [
        (3, ["experts.0"], "the encoder of image"),
        (9, ["experts.0", "experts.1", "decoders.features"], "the decoder of features"),
        (9, ["decoders.image", "decoders.features"], r"decoders\.image\.\S+"),
    ],
    ids=["encoder", "decoder", "two"],
)
def test_a_gradient_of_nan_never_reaches_a_file(
    step: int, parts: list[str], owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is finite, its gradient is not; in a checkpoint's step and in the last."""
    bound, steps = MultimodalVAE.bound, itertools.count()

    def poisoned(model: MultimodalVAE, *arguments: Any) -> Bound:
        found = bound(model, *arguments)
        if torch.is_grad_enabled() and next(steps) == step:
            weights = [w for part in parts for w in model.get_submodule(part).parameters()]
            zero = sum((0 * weight.sum()).sqrt() for weight in weights)
            return replace(found, value=found.value + zero)
        return found

    monkeypatch.setattr(MultimodalVAE, "bound", poisoned)
    message = rf"step {step}: the weights of {owner} are not finite"
    # Without clipping, which spreads a gradient of NaN to every weight.
    plain = PARAMS.training.model_copy(update={"clip": 0.0})
    with pytest.raises(DivergedError, match=message):
        run(tmp_path, params=PARAMS.model_copy(update={"training": plain}))
    assert not (tmp_path / "model.safetensors").exists()
    kept = list((tmp_path / "checkpoints").glob("*/*.checkpoint"))
    assert len(kept) == (step > 4)
    for path in kept:
        tensors = load(path.read_bytes()[32:])
        assert all(value.isfinite().all() for value in tensors.values())

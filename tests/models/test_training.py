"""A training resumes to the same weights, stops on NaN, names the culprit, and learns."""

from __future__ import annotations

import multiprocessing
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from models.bound import Bound
from models.mixture import Draws
from models.params import Cell, ModalityParams, NetworkParams, TrainingParams, VAEParams
from models.training import _fingerprint, batch_rows, rate, train
from models.vae import MultimodalVAE

SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.models.test_training import CELL, DATA, PARAMS, train
def die(row):
    if row["step"] == 6:
        os.kill(os.getpid(), signal.SIGKILL)
out, checkpoints = map(Path, sys.argv[1:])
train(PARAMS, CELL, DATA, DATA, seed=0, out=out, checkpoints=checkpoints, log=die, device="cpu")
"""

FAULTS = """
import resource, sys
from pathlib import Path
import torch
from tests.models.test_training import CELL, DATA, PARAMS, train
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(4_000_000) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
out, checkpoints = map(Path, sys.argv[1:])
train(PARAMS, CELL, DATA, DATA, seed=0, out=out, checkpoints=checkpoints, device="cpu")
faults()
print("faults", faults())
"""

PARAMS = VAEParams(
    modalities={"image": ModalityParams(), "features": ModalityParams()},
    latent=3,
    network=NetworkParams(width=4, blocks=1),
    training=TrainingParams(
        steps=10, batch=8, threads=1, warmup=2, log_every=2, checkpoint_every=4, clip=1000.0
    ),
)
LONGER = PARAMS.model_copy(update={"training": PARAMS.training.model_copy(update={"steps": 100})})
CELL = Cell(fusion="rce", objective="lcd")
RANDOM = np.random.default_rng(0)
DATA: dict[str, np.ndarray] = {
    "image": RANDOM.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8),
    "features": RANDOM.normal(size=(20, 5)).astype(np.float32),
    "unused": np.zeros((20, 1), np.float32),
}


def run(folder: Path, **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "params": PARAMS, "cell": CELL, "data": DATA, "validation": DATA, "seed": 0,
        "out": folder / "model.safetensors", "checkpoints": folder / "checkpoints",
        "device": "cpu", "progress": False,
    }  # fmt: skip
    return train(**{**options, **changes})


def assert_same_weights(one: Path, two: Path) -> None:
    first, second = load_file(one), load_file(two)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = run(tmp_path / "unbroken")
    out, checkpoints = tmp_path / "model.safetensors", tmp_path / "checkpoints"
    command = [sys.executable, "-c", SCRIPT, str(out), str(checkpoints)]
    killed = subprocess.run(command, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    assert len(list(checkpoints.glob("*/*.checkpoint"))) == 1
    steps: list[float] = []
    trained: list[bool] = []
    bound = MultimodalVAE.bound

    def counted(self: MultimodalVAE, *given: Any) -> Bound:
        trained.append(torch.is_grad_enabled())
        return bound(self, *given)

    monkeypatch.setattr(MultimodalVAE, "bound", counted)
    resumed = run(tmp_path, log=lambda row: steps.append(row["step"]))
    assert steps == [2, 4, 6, 8, 10], "the curves are whole"
    assert sum(trained) == 6, "the steps before the checkpoint at 4 are not repeated"
    assert_same_weights(tmp_path / "unbroken" / "model.safetensors", out)
    assert resumed["history"] == unbroken["history"]
    assert not checkpoints.exists(), "a finished training leaves no checkpoint"


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_not_asked_for_anew(tmp_path: Path) -> None:
    """After a training the same blocks a second time cost no page faults, or they are 30,000."""
    command = [sys.executable, "-c", FAULTS, str(tmp_path / "model"), str(tmp_path / "checkpoints")]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    assert int(ran.stdout.split("faults ")[1]) < 400


def test_a_kept_checkpoint_is_of_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a caller made of the model and lost is made again without training it."""
    first = run(tmp_path, keep=True)
    weights = load_file(tmp_path / "model.safetensors")
    monkeypatch.setattr(MultimodalVAE, "bound", None)
    again = run(tmp_path)
    assert again["history"] == first["history"]
    for key, value in load_file(tmp_path / "model.safetensors").items():
        assert torch.equal(value, weights[key]), key
    assert not (tmp_path / "checkpoints").exists()


def test_half_of_the_scenes_are_mirrored_all_modalities_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture says which scene it is of, so that a mirror image is known by its row."""
    count, steps = 16, 16
    left = np.arange(count, dtype=np.uint8)[:, None, None, None] + np.zeros((8, 8, 1), np.uint8)
    left[:, :, 4:] += 100
    settings = PARAMS.training.model_copy(update={"mirror": True, "batch": count, "steps": steps})
    modalities = {name: ModalityParams() for name in "ab"}
    params = PARAMS.model_copy(update={"modalities": modalities, "training": settings})
    turned: list[torch.Tensor] = []
    bound = MultimodalVAE.bound

    def looked(self: MultimodalVAE, x: dict[str, torch.Tensor], *given: Any) -> Bound:
        if torch.is_grad_enabled():
            a, b = (x[name][:, 0] * 255 for name in "ab")
            first = a[:, 0, 0] > 99
            assert torch.equal(first, b[:, 0, 0] > 99), "alike"
            for picture, other in zip(a, first, strict=True):
                seen = picture.flip(-1) if other else picture
                assert torch.equal(seen[:, 4:], seen[:, :4] + 100)
            turned.append(first)
        return bound(self, x, *given)

    monkeypatch.setattr(MultimodalVAE, "bound", looked)
    run(
        tmp_path,
        params=params,
        cell=Cell(),
        data={"a": left, "b": left},
        validation={"a": left, "b": left},
    )
    share = torch.stack(turned).float().mean().item()
    assert abs(share - 0.5) < 4 * 0.5 / (count * steps) ** 0.5
    assert len({tuple(row.tolist()) for row in turned}) > steps / 2, "drawn anew"


def test_what_has_no_mirror_image_is_refused(tmp_path: Path) -> None:
    settings = PARAMS.training.model_copy(update={"mirror": True})
    with pytest.raises(ValueError, match=r"training\.mirror: features is no picture"):
        run(tmp_path, params=PARAMS.model_copy(update={"training": settings}))


def test_the_seed_decides_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reseeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    state = torch.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, seed=seed)
    assert_same_weights(tmp_path / "a" / "model.safetensors", tmp_path / "b" / "model.safetensors")
    a, c = (load_file(tmp_path / n / "model.safetensors") for n in "ac")
    assert not any(torch.equal(a[key], c[key]) for key in a)
    assert torch.equal(state, torch.get_rng_state()), "no global random state"
    assert not reseeded, "nor that of any GPU"


def at_once(folder: Path, barrier: Any) -> None:
    """A training in a process of its own, begun when the others have begun."""
    barrier.wait(300)
    run(folder, params=LONGER)


@pytest.mark.slow
def test_how_many_run_at_once_changes_no_byte(tmp_path: Path) -> None:
    run(tmp_path / "alone", params=LONGER)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [context.Process(target=at_once, args=(tmp_path / n, barrier)) for n in ("one", "two")]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    alone, one, two = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "one", "two")
    )
    assert one == alone
    assert two == alone


@pytest.mark.slow
@pytest.mark.parametrize("change", ["seed", "data", "validation", "params", "order", "cell"])
def test_a_checkpoint_of_something_else_is_not_resumed(change: str, tmp_path: Path) -> None:
    def stop(row: dict[str, float]) -> None:
        if row["step"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, log=stop)
    assert list((tmp_path / "checkpoints").glob("*/*.checkpoint"))
    other = {**DATA, "features": DATA["features"] + 1}
    longer = PARAMS.training.model_copy(update={"learning_rate": 1e-3})
    turned = dict(reversed(PARAMS.modalities.items()))  # encoders are numbered
    changes: dict[str, dict[str, Any]] = {
        "seed": {"seed": 1},
        "data": {"data": other},
        "validation": {"validation": other},
        "params": {"params": PARAMS.model_copy(update={"training": longer})},
        "order": {"params": PARAMS.model_copy(update={"modalities": turned})},
        "cell": {"cell": Cell(fusion="bce", objective="lcd")},
    }
    after = run(tmp_path, **changes[change])
    fresh = run(tmp_path / "fresh", **changes[change])
    assert after["history"] == fresh["history"]
    assert_same_weights(tmp_path / "model.safetensors", tmp_path / "fresh/model.safetensors")


def test_two_modalities_of_one_shape_change_places_in_a_training_of_their_own(
    tmp_path: Path,
) -> None:
    """A checkpoint numbers the encoders: the other order is another training."""
    twins = {name: RANDOM.normal(size=(20, 5)).astype(np.float32) for name in ("a", "b")}
    one, two = (
        PARAMS.model_copy(update={"modalities": {name: ModalityParams() for name in names}})
        for names in ("ab", "ba")
    )
    of_twins: dict[str, Any] = {"data": twins, "validation": twins}
    run(tmp_path / "again", params=one, keep=True, **of_twins)
    run(tmp_path / "again", params=two, **of_twins)
    run(tmp_path / "fresh", params=two, **of_twins)
    assert_same_weights(*(tmp_path / name / "model.safetensors" for name in ("again", "fresh")))


def test_a_checkpoint_of_another_kind_of_device_is_not_resumed() -> None:
    """A GPU's noise cannot go on in a CPU's generator."""
    data = {name: torch.from_numpy(DATA[name]) for name in PARAMS.modalities}
    cpu, cuda, second = (
        _fingerprint(PARAMS, CELL, 0, data, device) for device in ("cpu", "cuda", "cuda:1")
    )
    assert cpu != cuda
    assert cuda == second


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_damaged_checkpoint_is_named_and_trained_anew(
    place: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One flipped bit in the digest, in the header, or in a weight."""
    first = run(tmp_path / "whole")
    run(tmp_path, keep=True)
    (file,) = (tmp_path / "checkpoints").glob("*/*.checkpoint")
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    steps: list[float] = []
    capfd.readouterr()
    assert run(tmp_path, log=lambda row: steps.append(row["step"]))["history"] == first["history"]
    assert steps == [2, 4, 6, 8, 10]
    assert f"{file}: damaged, deleted" in capfd.readouterr().err
    assert_same_weights(*(tmp_path / name / "model.safetensors" for name in ("whole", "")))


def test_curves_name_terms_and_modalities(tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    result = run(tmp_path, cell=Cell(objective="ecg"), log=rows.append)
    assert result["history"] == rows
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10]
    terms = [f"{what}_{t}" for what in ("kl", "image", "features") for t in range(3)]
    names = {"loss", *terms}
    assert set(rows[0]) == {"step", *names, *(f"validation_{name}" for name in names)}
    total = sum(rows[0][f"{m}_{t}"] for m in ("image", "features") for t in range(3))
    kl = sum(rows[0][f"kl_{t}"] for t in range(3))
    assert rows[0]["loss"] == pytest.approx(kl - total, rel=1e-4)


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    longer = PARAMS.training.model_copy(update={"steps": 150, "learning_rate": 3e-3})
    history = run(tmp_path, params=PARAMS.model_copy(update={"training": longer}), cell=Cell())[
        "history"
    ]
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert history[-1]["validation_loss"] < 0.7 * history[0]["validation_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["residual", "mixer"])
def test_what_is_always_black_is_learned_at_once(tmp_path: Path, kind: str) -> None:
    """Logits start at one half and are stretched: a weight's step of 0.002 would not get there."""
    settings = {"steps": 150, "learning_rate": 2e-3, "schedule": "constant"}
    params = PARAMS.model_copy(
        update={
            "modalities": {"radar": ModalityParams(likelihood="bernoulli")},
            "network": PARAMS.network.model_copy(update={"kind": kind}),
            "training": PARAMS.training.model_copy(update=settings),
        }
    )
    black = {"radar": np.zeros((20, 8, 8, 1), np.uint8)}
    fresh = MultimodalVAE(params, Cell(), {"radar": (8, 8, 1)})
    assert fresh.sample(4)["radar"].mean().item() == pytest.approx(0.5, abs=0.2)
    run(tmp_path, params=params, cell=Cell(), data=black, validation=black)
    model = MultimodalVAE.load(tmp_path / "model.safetensors")
    assert model.generate({"radar": torch.zeros(4, 1, 8, 8)})["radar"].mean().item() < 0.02


def test_an_objectives_own_parameters_learn_and_are_saved_and_resumed(tmp_path: Path) -> None:
    def stop(row: dict[str, float]) -> None:
        if row["step"] == 6:
            raise KeyboardInterrupt

    cell = Cell(fusion="code", objective="weighted")
    run(tmp_path / "unbroken", cell=cell)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", cell=cell, log=stop)
    run(tmp_path / "broken", cell=cell)
    one, two = (tmp_path / name / "model.safetensors" for name in ("unbroken", "broken"))
    assert_same_weights(one, two)
    logits = MultimodalVAE.load(one).own["logits"]
    assert logits.abs().min() > 0
    torch.testing.assert_close(logits.softmax(0).sum(), torch.tensor(1.0))


def test_seconds_add_up_over_resumes(tmp_path: Path) -> None:
    def slow(row: dict[str, float]) -> None:
        if row["step"] == 2:
            time.sleep(1)
        if row["step"] == 6:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, log=slow)
    resumed = run(tmp_path)
    assert 1 < resumed["seconds"] < time.monotonic() - began
    assert resumed["samples_per_s"] == pytest.approx(10 * 8 / resumed["seconds"])


@pytest.mark.parametrize(
    "change", [{"warmup": 0}, {"schedule": "constant"}, {"clip": 1e-9}, {"kl_warmup": 1000}]
)
def test_every_setting_reaches_the_optimiser(change: dict[str, Any], tmp_path: Path) -> None:
    settings = PARAMS.training.model_copy(update=change)
    run(tmp_path / "one", cell=Cell())
    run(tmp_path / "two", cell=Cell(), params=PARAMS.model_copy(update={"training": settings}))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert any(not torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [1.0, 0.8535534, 0.5, 0.1464466, 0.0]),
        ("one-cycle", [0.04, 0.9356922, 0.8117449, 0.2830581, 0.0]),
    ],
)
def test_a_schedule_by_hand(schedule: str, shares: list[float]) -> None:
    """After the warm-up at 0, 1/4, 1/2, 3/4 and 1 of what is left."""
    settings = PARAMS.training.model_copy(update={"schedule": schedule, "warmup": 4})
    assert [rate(step, 0.0, settings) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    along = [rate(4, part / 4, settings) for part in range(5)]
    assert along == pytest.approx(shares, abs=1e-6)


def test_the_rate_of_every_step_by_hand(tmp_path: Path) -> None:
    """Ten steps, two of them to warm up; then cosine's (1 + cos(pi k / 8)) / 2."""
    used: list[float] = []
    handle = register_optimizer_step_pre_hook(
        lambda optimiser, *_: used.append(optimiser.param_groups[0]["lr"])
    )
    run(tmp_path)
    handle.remove()
    fall = [1, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060]
    peak = PARAMS.training.learning_rate
    assert used == pytest.approx([peak * share for share in (0.5, 1, *fall)], rel=1e-5)


def test_the_validation_loss_is_of_the_first_256_validation_rows(tmp_path: Path) -> None:
    held_out = {
        "image": RANDOM.integers(0, 99, (300, 8, 8, 3), dtype=np.uint8),
        "features": RANDOM.normal(3, size=(300, 5)).astype(np.float32),
    }
    told = run(tmp_path, validation=held_out, seed=3)["validation_loss"]
    model = MultimodalVAE.load(tmp_path / "model.safetensors", "cpu").train()
    for rows, same in ((held_out, True), (DATA, False)):
        x = {m: model.prepared(m, torch.from_numpy(rows[m][:256])) for m in model.modalities}
        with torch.no_grad():
            value = model.bound(x, Draws(torch.Generator().manual_seed(3))).value
        assert (-value.sum(0).mean().item() == pytest.approx(told, rel=1e-5)) == same


def test_each_epoch_is_a_permutation() -> None:
    epoch = torch.cat([batch_rows(step, 20, 5, 3, "cpu") for step in range(4)])
    assert sorted(epoch.tolist()) == list(range(20))
    following = torch.cat([batch_rows(step, 20, 5, 3, "cpu") for step in range(4, 8)])
    assert sorted(following.tolist()) == list(range(20))
    assert epoch.tolist() != following.tolist()


def test_kl_warmup_with_importance_samples_is_refused(tmp_path: Path) -> None:
    warm = PARAMS.training.model_copy(update={"kl_warmup": 5})
    params = PARAMS.model_copy(update={"training": warm})
    with pytest.raises(ValueError, match=r"training\.kl_warmup: 5 with samples 3"):
        run(tmp_path, params=params, cell=Cell(samples=3))

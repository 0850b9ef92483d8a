"""The training loop: one script to read from top to bottom."""

from __future__ import annotations

import ctypes
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from base import code
from base.checkpoints import Checkpoints, fingerprint
from base.progress import Progress
from models import consistency, fusions, objectives
from models.curves import DivergedError, Row, check, check_weights, next_row, numbers_of
from models.data import check_alike, check_mirror, item_shapes, resident
from models.mixture import Draws
from models.networks import fast_bfloat16
from models.params import Cell, TrainingParams, VAEParams, check_cell
from models.recorded import Recorded
from models.vae import MultimodalVAE

__all__ = ["DivergedError", "batch_rows", "keep_freed_memory", "rate", "train"]

CODE = code.loaded(__name__)
LAST = "last"  # the name of a training's checkpoint


def train(
    params: VAEParams,
    cell: Cell,
    data: Mapping[str, np.ndarray],
    validation: Mapping[str, np.ndarray],
    *,
    seed: int,
    out: Path,
    checkpoints: Path,
    device: str | None = None,
    progress: bool = True,
    log: Callable[[Row], None] | None = None,
    keep: bool = False,
) -> dict[str, Any]:
    """Train one cell and write the model to `out`.

    Args:
        params: the `vae:` section; the modalities trained are those it names, or of these the
            cell's `sensors`.
        cell: fusion, objective and options.
        data, validation: modality -> uint8 [N, H, W, C] (or float [N, D] and [N, T, D], or
            categories as integers [N], [N, T] and [N, H, W]); the validation loss is that of the
            first 256 rows, NaN if there are none. They calibrate the model's `consistency`.
        seed: decides weights, batches and noise.
        out: the safetensors file to write.
        checkpoints: folder of this training alone, deleted at its end; a checkpoint there is
            resumed if it fits params, cell, seed, code, data, validation and kind of device, and
            goes with the first new one if it does not. A damaged one is named and deleted.
        device: `cpu`, `cuda`; by default cuda if there is one.
        progress: show a bar (or lines, in a log).
        log: called with each row of the curves as it is made; at once with those of a checkpoint.
        keep: leave a checkpoint of the last step, for a caller whose own work may yet be
            interrupted: the same call then trains no more.

    Returns:
        {"history": rows of the curves, "steps", "seconds", "samples_per_s", "loss",
        "validation_loss"}; losses are in nats per scene, seconds those of all resumes together.

    Raises:
        TypeError: names the modality that is no array.
        ValueError: names the modality whose rows, shape or values do not fit, or the key of params.
        DivergedError: names step, term and modality; the last good checkpoint is kept. Where the
            loss is finite and its gradient is not, names the modality or the weights alone.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_cell(params, cell)
    params = params.of(cell)
    torch.set_num_threads(params.training.threads)
    keep_freed_memory()
    seen = resident(data, params, device)
    if not len(next(iter(seen.values()))):
        raise ValueError("data: no rows to train on")
    check_mirror(params, seen)
    held_out = resident(validation, params, device, "validation")
    check_alike(held_out, seen)
    state = _fresh_state(params, cell, item_shapes(params, seen), seed, device)
    everything = seen | {f"{name} of validation": values for name, values in held_out.items()}
    kept = Checkpoints(checkpoints, _fingerprint(params, cell, seed, everything, device))
    began = _fit(state, kept, seen, held_out, seed, progress, log, keep)
    if consistency.applies(state.model) and len(next(iter(held_out.values()))):
        state.model.calibrate(held_out, seed)
    state.model.save(out)
    if not keep:
        kept.clear()
    return _summary(state, time.monotonic() - began, len(next(iter(seen.values()))))


@dataclass
class _State:
    """What a step changes and a checkpoint holds; seconds are those until the checkpoint."""

    model: MultimodalVAE
    optimiser: torch.optim.Optimizer
    noise: torch.Generator
    step: int = 0
    history: list[Row] = field(default_factory=list)
    seconds: float = 0.0


def _fresh_state(
    params: VAEParams, cell: Cell, shapes: dict[str, tuple[int, ...]], seed: int, device: str
) -> _State:
    """Before the first step: the seed decides weights and noise."""
    settings = params.training
    model = _fresh_model(params, cell, shapes, seed)
    model.to(device).train()
    if settings.precision == "bfloat16" and not fast_bfloat16(model.device):
        print("precision: this CPU cannot multiply bfloat16; float32 it is", file=sys.stderr)
    gpu, peak = model.device.type == "cuda", settings.learning_rate
    rate_now = torch.tensor(peak, device=device) if gpu else peak  # see `_step`
    optimiser = torch.optim.Adam(model.parameters(), lr=rate_now, capturable=gpu, fused=True)
    return _State(model, optimiser, torch.Generator(device).manual_seed(seed))


def _fit(
    state: _State,
    kept: Checkpoints,
    seen: Mapping[str, Tensor],
    held_out: Mapping[str, Tensor],
    seed: int,
    progress: bool,
    log: Callable[[Row], None] | None,
    keep: bool,
) -> float:
    """Train in place, from the checkpoint if there is one.

    Returns the time at which an unbroken training would have begun.
    """
    model, settings = state.model, state.model.params.training
    title = f"{model.cell.fusion}+{model.cell.objective}"
    _resume(kept, state)
    if state.step and progress:
        print(f"{title}: goes on from step {state.step}", flush=True)
    for row in state.history:  # the caller's curves begin anew in a resumed run
        if log is not None:
            log(row)

    began = time.monotonic() - state.seconds
    bar = Progress(settings.steps, title, "steps", done=state.step, shown=progress)
    recent: list[Tensor] = []
    count = len(next(iter(seen.values())))
    gpu = model.device.type == "cuda"
    update = _recorded(state, seen) if gpu else partial(_update, state, seen)
    for step in range(state.step, settings.steps):
        rows = batch_rows(step, count, settings.batch, seed, str(model.device))
        # Numbers stay on the device until a row of the curves is due: no step waits for them.
        recent.append(_step(state, update, rows))
        done = state.step
        last = done == settings.steps
        if done % settings.log_every == 0 or done % settings.checkpoint_every == 0 or last:
            table = torch.stack(recent).cpu()
            check(table, step - len(recent) + 1, model, state.history)
            check_weights(step, model)
            recent.clear()
            row = next_row(done, table.mean(0), model, held_out, seed)
            state.history.append(row)
            if log is not None:
                log(row)
            bar.reach(done, f"loss {row['loss']:.0f}")
        due = keep if last else done % settings.checkpoint_every == 0
        if due:
            _checkpoint(kept, state, time.monotonic() - began)
    bar.close()
    return began


def _step(state: _State, update: Callable[[Tensor, float], Tensor], rows: Tensor) -> Tensor:
    """One step of the optimiser on these rows; returns its numbers, still on the device."""
    share, kl_weight = _schedule(state)
    learning_rate = share * state.model.params.training.learning_rate
    for group in state.optimiser.param_groups:
        if isinstance(group["lr"], Tensor):  # a recorded step reads it where it is
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate
    numbers = update(rows, kl_weight)
    state.step += 1
    return numbers


def _schedule(state: _State) -> tuple[float, float]:
    """The learning rate as a share of its peak, and the KL's weight, of the step to come."""
    settings, step = state.model.params.training, state.step
    along = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return rate(step, along, settings), min(1.0, (step + 1) / max(1, settings.kl_warmup))


def _update(
    state: _State, seen: Mapping[str, Tensor], rows: Tensor, kl_weight: float | Tensor
) -> Tensor:
    """The bound on these rows, its gradient, and the optimiser's step at its present rate."""
    model, settings = state.model, state.model.params.training
    x = {name: model.prepared(name, values[rows]) for name, values in seen.items()}
    if settings.mirror:
        turned = torch.rand(len(rows), 1, 1, 1, generator=state.noise, device=model.device) < 0.5
        x = {name: torch.where(turned, values.flip(-1), values) for name, values in x.items()}
    bound = model.bound(x, Draws(state.noise), kl_weight)
    state.optimiser.zero_grad(set_to_none=True)
    (-bound.value.sum(0).mean()).backward()
    if settings.clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    state.optimiser.step()
    return numbers_of(bound)


def _recorded(state: _State, seen: Mapping[str, Tensor]) -> Callable[[Tensor, float], Tensor]:
    """`_update` for a GPU: what changes from step to step stands in tensors that it reads."""
    batch = min(state.model.params.training.batch, len(next(iter(seen.values()))))
    rows = torch.zeros(batch, dtype=torch.int64, device=state.model.device)
    kl_weight = torch.ones((), device=state.model.device)
    replay = Recorded(lambda: _update(state, seen, rows, kl_weight), state.noise)

    def update(wanted: Tensor, weight: float) -> Tensor:
        rows.copy_(wanted)
        kl_weight.fill_(weight)
        return replay()

    return update


def _summary(state: _State, seconds: float, count: int) -> dict[str, Any]:
    """What `train` returns, of `count` rows."""
    settings, history = state.model.params.training, state.history
    return {
        "history": history,
        "steps": settings.steps,
        "seconds": seconds,
        "samples_per_s": settings.steps * min(settings.batch, count) / seconds,
        "loss": history[-1]["loss"],
        "validation_loss": history[-1].get("validation_loss", math.nan),
    }


def keep_freed_memory() -> None:
    """Have this process's C library keep what a step frees for the next (glibc on Linux alone).

    Left to itself it may return large blocks to the kernel, and a step of 40 ms gets them anew in
    10,000 page faults; whether it does hangs on what the process freed before.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "gnu_get_libc_version"):
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD in bytes; glibc refuses a larger one
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD in bytes, the largest int


def _fresh_model(
    params: VAEParams, cell: Cell, shapes: dict[str, tuple[int, ...]], seed: int
) -> MultimodalVAE:
    """A model whose weights `seed` decides, leaving the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed reseeds every GPU as well
        return MultimodalVAE(params, cell, shapes)


def batch_rows(step: int, count: int, batch: int, seed: int, device: str) -> Tensor:
    """Which of `count` rows step `step` trains on: int64 [batch], or [count] if that is less.

    Each epoch is a permutation that depends on (seed, epoch) alone.
    """
    batch = min(batch, count)
    epoch, place = divmod(step, count // batch)
    order = _permutation(epoch, count, seed, device)
    return order[place * batch : (place + 1) * batch]


_LAST: dict[tuple[int, int, int, str], Tensor] = {}


def _permutation(epoch: int, count: int, seed: int, device: str) -> Tensor:
    key = (epoch, count, seed, device)
    if key not in _LAST:
        _LAST.clear()
        order = np.random.default_rng([seed, epoch]).permutation(count)
        _LAST[key] = torch.from_numpy(order).to(device)
    return _LAST[key]


def rate(step: int, along: float, settings: TrainingParams) -> float:
    """The learning rate at `step`, as a share of its peak.

    Args:
        step: decides the rate during the warm-up.
        along: the share of the training after the warm-up that is done, 0 to 1; decides the rest.
        settings: warm-up and schedule.
    """
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * along))
    if along < 0.3:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * along / 0.3))
    return 0.5 * (1 + math.cos(math.pi * (along - 0.3) / 0.7))


def _fingerprint(
    params: VAEParams, cell: Cell, seed: int, data: Mapping[str, Tensor], device: str
) -> str:
    """Names what a checkpoint was trained from: params, cell, seed, code, data, device.

    Of the data those of validation, too, whose loss the curves have. The order of the modalities
    numbers the encoders. Of the device its kind: the noise of a GPU's generator cannot go on in a
    CPU's. And whether it multiplies bfloat16: float32 in its stead is another training.
    """
    decides = {
        "params": params.model_dump(mode="json"),
        "modalities": list(params.modalities),  # in order
        "cell": cell.model_dump(mode="json"),
        "seed": seed,
        "code": [CODE, fusions.code_of(cell.fusion), objectives.code_of(cell.objective)],
        "torch": torch.__version__,
        "device": torch.device(device).type,
        "bfloat16": fast_bfloat16(torch.device(device)),
    }
    return fingerprint(decides, {name: values.cpu().numpy() for name, values in data.items()})


def _checkpoint(kept: Checkpoints, state: _State, seconds: float) -> None:
    """Weights, Adam's moments, the noise's state, the curves and the time so far."""
    tensors = {f"model.{key}": value for key, value in state.model.state_dict().items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{key}": value for key, value in moments.items()}
    about = json.dumps({"step": state.step, "history": state.history, "seconds": seconds})
    tensors["noise"] = state.noise.get_state()
    tensors["about"] = torch.from_numpy(np.frombuffer(about.encode(), np.uint8).copy())
    kept.save(LAST, safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}))


def _resume(kept: Checkpoints, state: _State) -> None:
    """Load the checkpoint, if there is one."""
    content = kept.load(LAST)
    if content is None:
        return
    tensors = safetensors.torch.load(content)
    about = json.loads(tensors.pop("about").numpy().tobytes())
    state.noise.set_state(tensors.pop("noise"))
    state.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    moments: dict[int, dict[str, Tensor]] = {}
    weights = list(state.model.parameters())
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = _as_stored(value, weights[int(index)])
    groups = state.optimiser.state_dict()["param_groups"]
    state.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    state.step, state.history = int(about["step"]), about["history"]
    state.seconds = float(about["seconds"])


def _as_stored(value: Tensor, weight: Tensor) -> Tensor:
    """A moment in its weight's memory order, which the fused Adam relies on."""
    return torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value

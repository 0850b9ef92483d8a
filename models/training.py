"""The training loop: one script to read from top to bottom."""

from __future__ import annotations

import ctypes
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from base import code
from base.checkpoints import Checkpoints, fingerprint
from base.progress import Progress
from models import fusions, objectives
from models.mixture import Draws
from models.networks import fast_bfloat16
from models.params import Cell, ModalityParams, TrainingParams, VAEParams, check_cell
from models.vae import Bound, MultimodalVAE

__all__ = ["DivergedError", "batch_rows", "keep_freed_memory", "rate", "train"]

Row = dict[str, float]
CODE = code.loaded(__name__)
LAST = "last"  # the name of a training's checkpoint


class DivergedError(RuntimeError):
    """A training whose loss became NaN, infinite or ever larger."""


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
        params: the `vae:` section; the modalities trained are those it names.
        cell: fusion, objective and options.
        data, validation: modality -> uint8 [N, H, W, C] (or float [N, D] and [N, T, D], or
            categories as integers [N], [N, T] and [N, H, W]); the validation loss is that of the
            first 256 rows, NaN if there are none.
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
    settings = params.training
    torch.set_num_threads(settings.threads)
    keep_freed_memory()
    seen = _resident(data, params, device)
    if not len(next(iter(seen.values()))):
        raise ValueError("data: no rows to train on")
    held_out = _resident(validation, params, device, "validation")
    _check_alike(held_out, seen)

    model = _fresh_model(params, cell, _shapes(params, seen), seed)
    model.to(device).train()
    if settings.precision == "bfloat16" and not fast_bfloat16(model.device):
        print("precision: this CPU cannot multiply bfloat16; float32 it is", file=sys.stderr)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    noise = torch.Generator(device).manual_seed(seed)
    title = f"{cell.fusion}+{cell.objective}"
    everything = seen | {f"{name} of validation": values for name, values in held_out.items()}
    kept = Checkpoints(checkpoints, _fingerprint(params, cell, seed, everything, device))
    start, history, spent = _resume(kept, model, optimiser, noise)
    if start and progress:
        print(f"{title}: goes on from step {start}", flush=True)
    for row in history:  # the caller's curves begin anew in a resumed run
        if log is not None:
            log(row)

    began = time.monotonic() - spent
    bar = Progress(settings.steps, title, "steps", done=start, shown=progress)
    recent: list[Tensor] = []
    count = len(next(iter(seen.values())))
    for step in range(start, settings.steps):
        rows = batch_rows(step, count, settings.batch, seed, device)
        x = {name: model.prepared(name, values[rows]) for name, values in seen.items()}
        along = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate(step, along, settings)
        bound = model.bound(x, Draws(noise), min(1.0, (step + 1) / max(1, settings.kl_warmup)))
        optimiser.zero_grad(set_to_none=True)
        (-bound.value.sum(0).mean()).backward()
        if settings.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimiser.step()

        # Numbers stay on the device until a row of the curves is due: no step waits for them.
        recent.append(_numbers(bound))
        done = step + 1
        last = done == settings.steps
        if done % settings.log_every == 0 or done % settings.checkpoint_every == 0 or last:
            table = torch.stack(recent).cpu()
            _check(table, step - len(recent) + 1, model, history)
            _check_weights(step, model)
            recent.clear()
            row = _row(done, table.mean(0), model, held_out, seed)
            history.append(row)
            if log is not None:
                log(row)
            bar.reach(done, f"loss {row['loss']:.0f}")
        due = keep if last else done % settings.checkpoint_every == 0
        if due:
            _checkpoint(kept, model, optimiser, noise, done, history, time.monotonic() - began)
    bar.close()

    model.save(out)
    if not keep:
        kept.clear()
    seconds = time.monotonic() - began
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


def _resident(
    data: Mapping[str, np.ndarray], params: VAEParams, device: str, where: str = "data"
) -> dict[str, Tensor]:
    """The modalities that `params` names, as stored, on the device.

    Raises:
        TypeError: names the modality that is no array.
        ValueError: names the modality that is missing, or whose rows, shape or values do not fit.
    """
    missing = sorted(set(params.modalities) - set(data))
    if missing:
        raise ValueError(f"modalities: {missing} is not in the {where}, which has {sorted(data)}")
    for name, modality in params.modalities.items():
        _check_form(f"{name} of {where}", data[name], modality)
        _check_values(f"{name} of {where}", data[name], modality)
    counts = {name: len(data[name]) for name in params.modalities}
    if len(set(counts.values())) > 1:
        raise ValueError(f"modalities: row i of each is of the same thing; they have {counts} rows")
    return {name: torch.from_numpy(_plain(data[name])).to(device) for name in params.modalities}


def _check_form(name: str, x: np.ndarray, modality: ModalityParams) -> None:
    """Refuse an array whose type or number of axes no network here takes."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name}: {type(x).__name__}, expected a NumPy array")
    if modality.classes:
        fits = x.dtype.kind in "biu" and x.ndim in (1, 2, 3)
        expected = "integers [N], [N, T] or [N, H, W]"
    else:
        real = x.dtype.kind == "f" and x.dtype.itemsize <= 8  # torch knows no longer ones
        fits = x.ndim in (2, 4) if x.dtype == np.uint8 else real and x.ndim in (2, 3)
        expected = "uint8 [N, H, W, C] (C = 1 for grey), uint8 or float [N, D], or float [N, T, D]"
    if not fits or 0 in x.shape[1:]:
        raise ValueError(f"{name}: {x.dtype} {list(x.shape)}, expected {expected}")


def _check_values(name: str, x: np.ndarray, modality: ModalityParams) -> None:
    """Refuse categories out of range, what is no probability, and what is not finite."""
    if not len(x) or (x.dtype == np.uint8 and not modality.classes):
        return
    low, high = float(x.min()), float(x.max())
    if modality.classes or modality.likelihood == "bernoulli":
        least, most = 0.0, max(modality.classes - 1.0, 1.0)
        expected = f"[0, {most:g}]"
    else:
        most = float(np.finfo(np.float32).max)
        least, expected = -most, "finite numbers of float32"
    if not least <= low <= high <= most:  # nor NaN
        raise ValueError(
            f"{name}: values in [{low:g}, {high:g}], {modality.likelihood} needs {expected}"
        )


def _plain(x: np.ndarray) -> np.ndarray:
    """The array as torch takes it: contiguous, of this machine's byte order, and its own.

    Of the unsigned integers torch indexes those of 8 bits alone; a read-only array makes it warn.
    """
    dtype = np.dtype(np.int64) if x.dtype.kind == "u" and x.dtype.itemsize > 1 else x.dtype
    plain = np.ascontiguousarray(x, dtype.newbyteorder("="))
    return plain if plain.flags.writeable else plain.copy()


def _check_alike(held_out: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> None:
    """Refuse validation data of another shape than those trained on."""
    for name, x in held_out.items():
        if x.shape[1:] != seen[name].shape[1:]:
            raise ValueError(
                f"{name} of validation: {list(x.shape)}, expected "
                f"[N, {str(list(seen[name].shape[1:]))[1:]} as in the data"
            )


def _shapes(params: VAEParams, data: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of one item; categories are stored as integers, their last axis is the classes."""
    classes = {name: (m.classes,) if m.classes else () for name, m in params.modalities.items()}
    return {name: (*x.shape[1:], *classes[name]) for name, x in data.items()}


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


def _numbers(bound: Bound) -> Tensor:
    """[E + (2 + M) T]: the encoders' sums; per term the bound, the KL, the reconstructions."""
    parts = [bound.value.mean(-1)[None], bound.kl[None], bound.reconstruction]
    return torch.cat([bound.encoded, torch.cat(parts).flatten()]).detach()


def _unpacked(numbers: Tensor, model: MultimodalVAE) -> tuple[Tensor, Tensor]:
    """The encoders' sums [..., E], and [..., 2 + M, T]: bound, KL, reconstructions."""
    count = len(model.experts)
    return numbers[..., :count], numbers[..., count:].unflatten(-1, (2 + len(model.modalities), -1))


def _check(numbers: Tensor, first: int, model: MultimodalVAE, history: list[Row]) -> None:
    """Stop at the first step whose numbers are not finite, or where the loss ran away.

    It ran away if the mean of these steps is above the first row by more than the loss has fallen
    since, and the first row's size.
    """
    bad = (~numbers.isfinite()).any(-1).nonzero()
    if len(bad):
        step = int(bad[0])
        raise DivergedError(
            f"step {first + step}: {_culprit(numbers[step], model)} is not finite; "
            "the last good checkpoint is kept"
        )
    mean = _curves(numbers.mean(0), model, "")  # a single step may be an unlucky draw
    rows = history or [_curves(numbers[0], model, "")]
    start = rows[0]["loss"]
    fallen = start - min(row["loss"] for row in rows)
    # Where likelihoods and KL cancel, a loss that starts near 0 may well double: its parts may not.
    size = max(abs(start), sum(abs(rows[0][key]) for key in mean if key != "loss"))
    limit = start + fallen + size
    if mean["loss"] > limit:
        loss = -_unpacked(numbers, model)[1][:, 0].sum(-1)
        step = int((loss > limit).int().argmax())
        now = _curves(numbers[step], model, "")
        # A KL harms by rising, a log-likelihood by falling.
        harm = {
            key: (value - rows[-1][key]) * (1 if key.startswith("kl_") else -1)
            for key, value in now.items()
            if key != "loss"
        }
        what, term = max(harm, key=lambda key: harm[key]).rsplit("_", 1)
        raise DivergedError(
            f"step {first + step}: the loss diverges ({now['loss']:.4g}), worst in "
            f"{'the KL' if what == 'kl' else what} of term {term}; "
            "the last good checkpoint is kept"
        )


def _check_weights(step: int, model: MultimodalVAE) -> None:
    """Stop before weights that a finite loss made infinite are saved as good."""
    bad = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if bad:
        raise DivergedError(
            f"step {step}: the weights of {_owner(bad, model)} are not finite after it; "
            "the last good checkpoint is kept"
        )


def _owner(bad: list[str], model: MultimodalVAE) -> str:
    """Whose parameters these are: one decoder's (whatever it spoiled), one encoder's, or the first.

    A decoder's gradient reaches every encoder; all terms share the weights.
    """
    decoders = {name.split(".")[1] for name in bad if name.startswith("decoders.")}
    encoders = {int(name.split(".")[1]) for name in bad if name.startswith("experts.")}
    if len(decoders) == 1:
        return f"the decoder of {decoders.pop()}"
    if not decoders and len(encoders) == 1:
        return f"the encoder of {' and '.join(model.expert_inputs()[encoders.pop()])}"
    return bad[0]


def _culprit(numbers: Tensor, model: MultimodalVAE) -> str:
    """What went wrong first: an encoder, else a modality's likelihood, else the KL."""
    encoded, table = _unpacked(numbers, model)
    for inputs, value in zip(model.expert_inputs(), encoded, strict=True):
        if not value.isfinite():
            return f"the encoder of {' and '.join(inputs)} (every term)"
    for name, row in (*zip(model.modalities, table[2:], strict=True), ("the KL", table[1])):
        for term in (~row.isfinite()).nonzero().flatten().tolist():
            return f"{name} of term {term}"
    return f"the bound of term {int((~table[0].isfinite()).nonzero()[0])}"


def _row(
    step: int, numbers: Tensor, model: MultimodalVAE, held_out: dict[str, Tensor], seed: int
) -> Row:
    """One row of the curves: means since the last row, and the validation loss."""
    row = {"step": float(step), **_curves(numbers, model, "")}
    if len(next(iter(held_out.values()))):
        noise = torch.Generator(model.device).manual_seed(seed)
        x = {name: model.prepared(name, values[:256]) for name, values in held_out.items()}
        with torch.no_grad():
            row |= _curves(_numbers(model.bound(x, Draws(noise))).cpu(), model, "validation_")
    return row


def _curves(numbers: Tensor, model: MultimodalVAE, prefix: str) -> Row:
    _, table = _unpacked(numbers, model)
    row = {f"{prefix}loss": -table[0].sum().item()}
    for term in range(table.shape[1]):
        row[f"{prefix}kl_{term}"] = table[1, term].item()
        for name, value in zip(model.modalities, table[2:, term], strict=True):
            row[f"{prefix}{name}_{term}"] = value.item()
    return row


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


def _checkpoint(
    kept: Checkpoints,
    model: MultimodalVAE,
    optimiser: torch.optim.Optimizer,
    noise: torch.Generator,
    step: int,
    history: list[Row],
    seconds: float,
) -> None:
    """Weights, Adam's moments, the noise's state, the curves and the time so far."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{key}": value for key, value in state.items()}
    about = json.dumps({"step": step, "history": history, "seconds": seconds})
    tensors["noise"] = noise.get_state()
    tensors["about"] = torch.from_numpy(np.frombuffer(about.encode(), np.uint8).copy())
    kept.save(LAST, safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}))


def _resume(
    kept: Checkpoints,
    model: MultimodalVAE,
    optimiser: torch.optim.Optimizer,
    noise: torch.Generator,
) -> tuple[int, list[Row], float]:
    """Step, curves and seconds of the checkpoint, which the arguments load, if there is one."""
    content = kept.load(LAST)
    if content is None:
        return 0, [], 0.0
    tensors = safetensors.torch.load(content)
    about = json.loads(tensors.pop("about").numpy().tobytes())
    noise.set_state(tensors.pop("noise"))
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    weights = list(model.parameters())
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = _as_stored(value, weights[int(index)])
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    return int(about["step"]), about["history"], float(about["seconds"])


def _as_stored(value: Tensor, weight: Tensor) -> Tensor:
    """A moment in its weight's memory order, which the fused Adam relies on."""
    return torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value

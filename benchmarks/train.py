"""Training speed: one JSON line per case, ours beside MultiVae's MVAE with the same networks.

    python -m benchmarks.train [--rounds 5] [--threads 2] [--network residual]

Takes under a minute on two quiet cores. Keys: `case`, `precision` (what it ran in: bfloat16 is
float32 on a CPU that is slow in it), `samples_per_s` (of the median round), `ratio_vs_multivae`
(our rate over MultiVae's), `cost_vs_none` (time of a step over poe+none's in the same arithmetic),
`roofline_ms` (a step at the rates of arithmetic or memory measured here, whichever takes longer)
and `ratio_vs_roofline` (the time of a step over that), `peak_mb` (resident memory, or the
accelerator's). A machine's speed drifts by a fifth within a minute, so the cases take turns, each
in a process of its own, and a ratio is the median of the rounds' ratios.

Whole steps are compared, each as its library's own loop takes them. MultiVae's trainer has floats,
float32 and torch.optim.Adam with its defaults (not fused), and so has its step here; what its
loop adds, a data loader, callbacks and reading the loss in every step, is left out (0.3 ms of 65).
Ours has bytes on the device, `prepared` for a step, the fused Adam and a C library that keeps freed
memory, as in `models.training`.

`--cpu-time` counts processor time, for a machine that others use too; with one thread it is what
the clock would say on a quiet one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.mixture import Draws
from models.networks import fast_bfloat16
from models.params import Cell, ModalityParams, NetworkParams, TrainingParams, VAEParams
from models.training import keep_freed_memory
from models.vae import MultimodalVAE

__all__ = ["main", "measure", "prepare"]

CHANNELS = {"image": 3, "depth": 1, "radar": 1}
FULL = "float32"
PEER = "multivae mvae float32"
CASES: dict[str, tuple[Cell | None, str]] = {
    PEER: (None, FULL),
    "poe+none float32": (Cell(fusion="poe", objective="none"), FULL),
    "poe+ecg float32": (Cell(fusion="poe", objective="ecg"), FULL),
    "bce+lcd float32": (Cell(fusion="bce", objective="lcd"), FULL),
    "poe+none bfloat16": (Cell(fusion="poe", objective="none"), "bfloat16"),
    "poe+ecg bfloat16": (Cell(fusion="poe", objective="ecg"), "bfloat16"),
    "bce+lcd bfloat16": (Cell(fusion="bce", objective="lcd"), "bfloat16"),
}

STEPS = 4  # of a case in a round; the fastest counts, as other work only adds time

_READY: list[Callable[[], None]] = []  # the step of the case that this process measures


def prepare(case: str, options: argparse.Namespace) -> tuple[int, int]:
    """Make this process ready for `measure`: one case of CASES, warmed up.

    Returns the `_work` of a step.
    """
    torch.set_num_threads(options.threads)
    cell, precision = CASES[case]
    if cell:
        keep_freed_memory()
    data = {
        name: torch.randint(0, 256, (1024, options.size, options.size, channels),
                            dtype=torch.uint8, device=_device())
        for name, channels in CHANNELS.items()
    }  # fmt: skip
    model = _model(cell or Cell(), precision, options).to(_device())
    step = _our_step(model, data, options) if cell else _their_step(model, data, options)
    step()
    step()
    _READY.append(step)
    return _work(step, model)


def measure(clock: Callable[[], float]) -> tuple[float, int]:
    """Seconds of the fastest of STEPS steps by `clock`, and peak memory in MiB."""
    seconds = min(_timed(_READY[0], _device(), clock) for _ in range(STEPS))
    return seconds, _peak_mb(_device())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _timed(step: Callable[[], object], device: str, clock: Callable[[], float]) -> float:
    began = clock()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def _peak_mb(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _work(step: Callable[[], None], model: nn.Module) -> tuple[int, int]:
    """FLOP of a step's products and convolutions, and the bytes it moves at the least.

    Bytes are what autograd saves (written, read) and ten times the weights: forward, backward,
    gradient, and the seven reads and writes of Adam.
    """
    weights = {weight.data_ptr(): weight.nbytes for weight in model.parameters()}
    saved: dict[tuple[int, int], int] = {}

    def note(x: Tensor) -> Tensor:
        if x.data_ptr() not in weights:
            saved[x.data_ptr(), x.nbytes] = x.nbytes
        return x

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda x: x)
    with FlopCounterMode(display=False) as arithmetic, hooks:
        step()
    return arithmetic.get_total_flops(), 10 * sum(weights.values()) + 2 * sum(saved.values())


def _rates(precision: str, threads: int) -> tuple[float, float]:
    """Measured FLOP/s of a square product, and bytes/s of a copy (read and written)."""
    torch.set_num_threads(threads)
    side = 1024 if _device() == "cpu" else 8192
    factor = torch.ones(side, side, dtype=getattr(torch, precision), device=_device())
    source = torch.ones(2**26, device=_device())  # beyond the caches
    target = torch.empty_like(source)

    def fastest(work: Callable[[], object]) -> float:
        return min(_timed(work, _device(), time.perf_counter) for _ in range(8))

    product, copy = fastest(lambda: factor @ factor), fastest(lambda: target.copy_(source))
    return 2 * side**3 / product, 2 * source.nbytes / copy


def _model(cell: Cell, precision: str, options: argparse.Namespace) -> MultimodalVAE:
    params = VAEParams(
        modalities={name: ModalityParams() for name in CHANNELS},
        latent=options.latent,
        network=NetworkParams(kind=options.network),
        training=TrainingParams.model_validate({"precision": precision}),
    )
    shapes = {name: (options.size, options.size, c) for name, c in CHANNELS.items()}
    return MultimodalVAE(params, cell, shapes).train()


def _rows(data: dict[str, Tensor], batch: int) -> Tensor:
    some = next(iter(data.values()))
    return torch.randint(0, len(some), (batch,), device=some.device)


def _our_step(
    model: MultimodalVAE, data: dict[str, Tensor], options: argparse.Namespace
) -> Callable[[], None]:
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    noise = torch.Generator(model.device).manual_seed(0)

    def step() -> None:
        rows = _rows(data, options.batch)
        x = {name: model.prepared(name, values[rows]) for name, values in data.items()}
        loss = -model.bound(x, Draws(noise)).value.sum(0).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def _their_step(
    model: MultimodalVAE, data: dict[str, Tensor], options: argparse.Namespace
) -> Callable[[], None]:
    """A step of MultiVae's MVAE around the very same networks, on floats as its trainer feeds."""
    from multivae.data.datasets.base import MultimodalBaseDataset

    peer = _peer(model)
    optimiser = torch.optim.Adam(peer.parameters())
    floats = {name: x.movedim(-1, 1).contiguous().float() / 255 for name, x in data.items()}

    def step() -> None:
        rows = _rows(data, options.batch)
        batch = MultimodalBaseDataset(data={name: x[rows] for name, x in floats.items()})
        optimiser.zero_grad()
        peer(batch, epoch=1).loss.backward()
        optimiser.step()

    return step


def _peer(model: MultimodalVAE) -> nn.Module:
    from multivae.models import MVAE, MVAEConfig
    from multivae.models.base import BaseDecoder, BaseEncoder, ModelOutput

    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    latent = model.params.latent

    class Encoder(BaseEncoder):
        def __init__(self, index: int, name: str) -> None:
            super().__init__()
            self.latent_dim, self.name, self.expert = latent, name, model.experts[index]

        def forward(self, x: Tensor) -> Any:
            mean, var = self.expert({self.name: x})
            return ModelOutput(embedding=mean, log_covariance=var.log())

    class Decoder(BaseDecoder):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.latent_dim, self.network = latent, model.decoders[name]

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.network(z))

    config = MVAEConfig(
        n_modalities=len(CHANNELS),
        latent_dim=latent,
        input_dims={name: (s[2], *s[:2]) for name, s in model.shapes.items()},
        decoders_dist=dict.fromkeys(CHANNELS, "normal"),
        decoder_dist_params={name: {"scale": 0.1} for name in CHANNELS},
        use_subsampling=False,
        warmup=0,
    )
    encoders = {name: Encoder(i, name) for i, name in enumerate(CHANNELS)}
    peer: nn.Module = MVAE(config, encoders, {name: Decoder(name) for name in CHANNELS})
    return peer.train().to(model.device)


def main() -> None:
    """Run every case in a process of its own, in turns, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help=f"turns of {STEPS} steps each")
    parser.add_argument("--batch", type=int, default=16, help="scenes a step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--latent", type=int, default=256, help="dimensions of z")
    parser.add_argument(
        "--network", choices=["residual", "cnn", "mixer"], default="mixer", help="kind"
    )
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    fast = fast_bfloat16(torch.device(_device()))
    precisions = {case: precision if fast else FULL for case, (_, precision) in CASES.items()}
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:  # apart: a process's peak memory is handed down to its children
        each = sorted(set(precisions.values()))
        rates = {precision: pool.apply(_rates, (precision, options.threads)) for precision in each}
    with contextlib.ExitStack() as stack:
        pools = {case: stack.enter_context(context.Pool(1)) for case in CASES}
        work = {case: pool.apply(prepare, (case, options)) for case, pool in pools.items()}
        taken: dict[str, list[float]] = {case: [] for case in CASES}
        peak = dict.fromkeys(CASES, 0)
        for _ in range(options.rounds):
            for case, pool in pools.items():
                seconds, peak[case] = pool.apply(measure, (clock,))
                taken[case].append(seconds)

    def ratio(case: str, base: str) -> float:
        pairs = zip(taken[base], taken[case], strict=True)
        return round(statistics.median(b / c for b, c in pairs), 2)

    for case, (_, arithmetic) in CASES.items():
        seconds = statistics.median(taken[case])
        # As if the shorter of the two hid behind the longer (Williams et al. 2009, "Roofline").
        pairs = zip(work[case], rates[precisions[case]], strict=True)
        roofline = max(amount / rate for amount, rate in pairs)
        line = {
            "case": case,
            "precision": precisions[case],
            "samples_per_s": round(options.batch / seconds, 1),
            "peak_mb": peak[case],
            "ratio_vs_multivae": ratio(case, PEER),
            "cost_vs_none": ratio(f"poe+none {arithmetic}", case) if case != PEER else None,
            "roofline_ms": round(1000 * roofline, 3),
            "ratio_vs_roofline": round(seconds / roofline, 2),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

"""How fast, how clean and how steady scenes render: `python -m benchmarks.render`.

Prints one JSON line. The whole generator (sampling, render, radar, boxes, writing) and a bare
render loop take turns on the same warm workers, so that both meet the same machine. PSNR is the
median over a few scenes against 512 samples per pixel.
"""

from __future__ import annotations

import argparse
import concurrent.futures as cf
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from scenegen.executors import available_cores, local_pool
from scenegen.generate import render_dataset
from scenegen.params import SceneParams
from scenegen.scene import sample_scene
from scenegen.worker import prepared_renderer, render_specs

__all__ = ["main"]

REFERENCE_SAMPLES = 512
BLOCK = 20  # scenes per job; small, so that workers finish together


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _bare(params: SceneParams, first: int) -> tuple[int, float]:
    """Render a block and throw it away; the worker's process id and memory afterwards."""
    renderer = prepared_renderer(params)
    for spec in [sample_scene(params, k) for k in range(first, first + BLOCK)]:
        renderer.render(spec)
    return os.getpid(), _resident_mb()


def _pictures(params: SceneParams, scenes: range) -> np.ndarray:
    return render_specs(params, [sample_scene(params, k) for k in scenes])["image"].astype(float)


def _psnr(pool: cf.Executor, params: SceneParams, scenes: int) -> float:
    image = params.image.model_copy(update={"samples": REFERENCE_SAMPLES})
    reference = params.model_copy(update={"image": image})
    singles = [range(k, k + 1) for k in range(scenes)]
    ours = [pool.submit(_pictures, params, s) for s in singles]
    theirs = [pool.submit(_pictures, reference, s) for s in singles]
    errors = [np.mean((a.result() - b.result()) ** 2) for a, b in zip(ours, theirs, strict=True)]
    return float(np.median(10 * np.log10(255.0**2 / np.array(errors))))


class _Turns:
    """Whole and bare rendering by turns; seconds of each, and memory by worker."""

    def __init__(self, pool: cf.Executor, params: SceneParams) -> None:
        self._pool, self._params = pool, params
        self.whole = self.bare = 0.0
        self.memory: list[dict[int, float]] = []

    def take(self, first: int) -> None:
        """Render `params.count` scenes each way, with scenes from `first` in the bare loop."""
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            render_dataset(self._params, Path(folder), executor=self._pool, progress=False)
        between = time.perf_counter()
        blocks = range(first, first + self._params.count, BLOCK)
        done = list(self._pool.map(_bare, [self._params] * len(blocks), blocks))
        self.bare += time.perf_counter() - between
        self.whole += between - started
        self.memory.append(dict(done))


def _growth(memory: list[dict[int, float]], scenes_between: float) -> float:
    """Mean growth in MB per 1,000 scenes of a worker, from the first turn to the last."""
    first, last = memory[0], memory[-1]
    gains = [last[pid] - first[pid] for pid in first if pid in last]
    return float(np.mean(gains)) / scenes_between * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=600, help="scenes per way of rendering")
    parser.add_argument("--turns", type=int, default=3, help="how often the two ways take turns")
    parser.add_argument(
        "--psnr-scenes", type=int, default=12, help="scenes whose noise is measured"
    )
    parser.add_argument("--workers", type=int, default=len(available_cores()), help="processes")
    options = parser.parse_args()
    turn = max(options.scenes // options.turns // BLOCK, 1) * BLOCK
    params = SceneParams(count=turn, shard_size=BLOCK)
    total = turn * options.turns
    with local_pool(options.workers) as pool:
        list(pool.map(_bare, [params] * 2 * options.workers, [0] * 2 * options.workers))
        turns = _Turns(pool, params)
        for number in range(options.turns):
            turns.take(number * turn)
        per_worker = 2 * turn * (options.turns - 1) / options.workers
        line = {
            "scenes_per_s": round(total / turns.whole, 1),
            "bare_scenes_per_s": round(total / turns.bare, 1),
            "ratio": round(turns.bare / turns.whole, 3),
            "psnr_db": round(_psnr(pool, params, options.psnr_scenes), 2),
            "rss_mb_per_1000": round(_growth(turns.memory, max(per_worker, 1)), 3),
        }
    print(json.dumps(line))


if __name__ == "__main__":
    main()

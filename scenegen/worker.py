"""What one worker process does: keep a Blender scene ready, and fill arrays of records."""

from __future__ import annotations

import functools
import os

import numpy as np
from numpy.typing import NDArray

from scenegen.blender import Renderer, blender_version
from scenegen.params import SceneParams
from scenegen.records import fill_record, record_dtype
from scenegen.scene import SceneSpec, sample_scene

__all__ = ["pin_to_core", "render_scenes", "render_specs"]


@functools.lru_cache(maxsize=1)  # Blender has one scene per process: the newest
def _renderer(params: SceneParams) -> Renderer:
    return Renderer(params)


def render_specs(params: SceneParams, specs: list[SceneSpec]) -> NDArray[np.void]:
    """Records of the given scenes, in order: [n] of `record_dtype(params)`."""
    renderer = _renderer(params)
    records = np.zeros(len(specs), record_dtype(params))
    for record, spec in zip(records, specs, strict=True):
        fill_record(record, spec, *renderer.render(spec), params)
    return records


def render_scenes(params: SceneParams, first: int, count: int) -> tuple[str, NDArray[np.void]]:
    """Sample and render scenes `first` to `first + count - 1`.

    Returns:
        Blender's version, and the records [count].
    """
    specs = [sample_scene(params, k) for k in range(first, first + count)]
    return blender_version(), render_specs(params, specs)


def pin_to_core(cores: object) -> None:
    """Bind this process to one core from a shared queue; two busy threads on one core halve it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})  # type: ignore[attr-defined]

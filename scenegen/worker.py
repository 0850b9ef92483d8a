"""What one worker process does: keep a Blender scene ready, and fill arrays of records."""

from __future__ import annotations

import functools
import hashlib
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from base import code
from base.process import end_child_with_parent
from scenegen import sensors
from scenegen.blender import Renderer, blender_version
from scenegen.layout import record_dtype
from scenegen.params import SceneParams
from scenegen.records import fill_record
from scenegen.scene import SceneSpec, sample_scene

__all__ = [
    "Maker",
    "code_of",
    "prepared_renderer",
    "render_scenes",
    "render_specs",
    "start_worker",
]


CODE = code.loaded(__name__)  # of this process, however long ago it began


def code_of(params: SceneParams) -> str:
    """The digest of the code that turns these params into records, as this process has loaded it.

    Sensors are found by their names, so that no import leads to them.
    """
    parts = [CODE, *(sensors.code_of(name) for name in params.sensors)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


class Maker(NamedTuple):
    """What made some records: Blender's version, and the digest of the code that was loaded."""

    blender: str
    code: str


@functools.lru_cache(maxsize=1)  # Blender has one scene per process: the newest
def prepared_renderer(params: SceneParams) -> Renderer:
    """The prepared Blender scene of this process for these params."""
    return Renderer(params)


def render_specs(params: SceneParams, specs: list[SceneSpec]) -> NDArray[np.void]:
    """Records of the given scenes, in order: [n] of `record_dtype(params)`."""
    renderer = prepared_renderer(params)
    records = np.zeros(len(specs), record_dtype(params))
    for record, spec in zip(records, specs, strict=True):
        fill_record(record, spec, renderer.render, params)
    return records


def render_scenes(params: SceneParams, first: int, count: int) -> tuple[Maker, NDArray[np.void]]:
    """Sample and render scenes `first` to `first + count - 1`.

    Returns:
        What made them, and the records [count].
    """
    specs = [sample_scene(params, k) for k in range(first, first + count)]
    return Maker(blender_version(), code_of(params)), render_specs(params, specs)


def start_worker(cores: Any) -> None:
    """Prepare a pool's process: die with its parent, and stay on one core from a shared queue.

    A worker of `concurrent.futures` outlives a parent that is killed. Unpinned, two renders on
    two cores varied nearly twofold in speed. Ctrl-C ends it at once and without a word: its parent
    says what is kept.
    """
    end_child_with_parent()
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})

"""A dataset folder from params: few shards of fixed scene ranges and one manifest.

The manifest is rewritten after every shard, so it is the truth about a run that was killed: a
shard that it lists, with the fingerprint of these params and the listed hash, is kept.
"""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from base.files import PARTIAL, npy_bytes, sha256_file, write_bytes
from base.progress import Progress
from scenegen.executors import (
    Job,
    RenderError,
    available_cores,
    dask_executor,
    render_jobs,
)
from scenegen.manifest import MANIFEST, Manifest, Shard, fingerprint, make_manifest, read_manifest
from scenegen.params import SceneParams
from scenegen.sight import blind_sensor
from scenegen.worker import Maker, code_of

__all__ = ["SCHEDULER_VARIABLE", "render_dataset"]

SCHEDULER_VARIABLE = "SCENEGEN_SCHEDULER"
# What a run may remove from its folder; all else there is a user's own.
OURS = re.compile(
    rf"shard-\d{{5,}}\.npy|\.(shard-\d{{5,}}\.npy|{re.escape(MANIFEST)}){re.escape(PARTIAL)}"
)


def render_dataset(
    params: SceneParams,
    folder: Path,
    *,
    workers: int | None = None,
    executor: cf.Executor | None = None,
    progress: bool = True,
) -> Manifest:
    """Render what is missing in `folder` and return its manifest.

    The files depend on the params and Blender's version alone, never on workers, order or
    interruptions. Finished shards of the same params are kept, also when `count` has changed.

    Args:
        workers: local processes; all available cores by default
        executor: where to render instead; by default a local process pool, or the Dask cluster
            whose scheduler's address is in the environment variable SCENEGEN_SCHEDULER
        progress: show a bar, or lines in a log

    Raises:
        RenderError: a sensor would show no object, scenes failed three times, another run has the
            folder, or the disk is full; finished shards stay.
    """
    if blind := blind_sensor(params):
        raise RenderError(blind)
    if workers is not None and workers < 1:
        raise RenderError(f"workers: {workers} is not possible; at least 1")
    workers = workers or len(available_cores())
    with contextlib.ExitStack() as stack:
        address = os.environ.get(SCHEDULER_VARIABLE)
        if executor is None and address:
            executor, disconnect = dask_executor(address)
            stack.callback(disconnect)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_only_run(folder))
            return _Folder(params, folder).complete(workers, executor, progress)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
            raise RenderError(
                f"{folder}: no room to write ({error.strerror}); finished shards are intact, "
                "make room and run again"
            ) from None


@contextlib.contextmanager
def _only_run(folder: Path) -> Iterator[None]:
    """Hold the folder, so that two runs cannot remove each other's files."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # of the lock alone: a fork at the limit of processes raises it too
            raise RenderError(f"{folder}: another run is rendering here; wait for it") from None
        yield
    finally:
        os.close(handle)


def _rest(job: Job, done: int) -> Job:
    return Job(job.first + done, job.scenes - done)


def _installed_blender() -> str:
    """Blender's version without loading Blender, which this process need not do."""
    try:
        return importlib.metadata.version("bpy")
    except importlib.metadata.PackageNotFoundError:
        raise RenderError("Blender is not installed: pip install bpy==5.0.1") from None


class _Folder:
    """The state of one dataset folder during a run."""

    def __init__(self, params: SceneParams, folder: Path) -> None:
        self._params, self._folder = params, folder
        self._blender = _installed_blender()
        self._code = code_of(params)
        self._fingerprint = fingerprint(params, self._blender, self._code)
        self._shards: list[Shard] = []

    def complete(self, workers: int, executor: cf.Executor | None, progress: bool) -> Manifest:
        size, total = self._params.shard_size, self._params.count
        plan = [Job(first, min(size, total - first)) for first in range(0, total, size)]
        parts = self._keep(plan)
        finished = {s.first for s in self._shards}
        jobs = [_rest(j, len(parts.get(j.first, ()))) for j in plan if j.first not in finished]
        self._write_manifest()
        done = total - sum(j.scenes for j in jobs)
        with (
            Progress(total, "render", "scenes", done=done, shown=progress) as bar,
            contextlib.closing(render_jobs(self._params, jobs, workers, executor)) as results,
        ):
            for job, made_by, records in results:
                self._check_maker(made_by)
                first = job.first // size * size
                whole = np.concatenate([parts[first], records]) if first in parts else records
                self._add(first, whole)
                bar.advance(job.scenes)
        return self._write_manifest()

    def _keep(self, plan: list[Job]) -> dict[int, NDArray[np.void]]:
        """Adopt what is already there; returns the beginnings of shards that have to grow."""
        try:
            listed = {s.first: s for s in read_manifest(self._folder).shards}
        except ValueError:
            listed = {}
        parts = {}
        for job in plan:
            shard = listed.get(job.first)
            if shard is None or not self._valid(shard):
                continue
            if shard.count == job.scenes:
                self._shards.append(shard)
                continue
            records = np.load(self._folder / shard.file)[: job.scenes]
            if len(records) == job.scenes:
                self._add(job.first, records)
            else:
                parts[job.first] = records
        self._remove_strangers({self._name(j.first) for j in plan})
        return parts

    def _valid(self, shard: Shard) -> bool:
        path = self._folder / shard.file
        return (
            shard.fingerprint == self._fingerprint
            and shard.file == self._name(shard.first)
            and path.is_file()
            and sha256_file(path) == shard.sha256
        )

    def _remove_strangers(self, wanted: set[str]) -> None:
        """Remove shards of no use to this dataset, and what a killed run was writing."""
        for path in self._folder.iterdir():
            if OURS.fullmatch(path.name) and path.name not in wanted and path.is_file():
                path.unlink()

    def _name(self, first: int) -> str:
        return f"shard-{first // self._params.shard_size:05d}.npy"

    def _add(self, first: int, records: NDArray[np.void]) -> None:
        data, name = npy_bytes(records), self._name(first)
        write_bytes(self._folder / name, data)
        digest = hashlib.sha256(data).hexdigest()
        self._shards.append(
            Shard(
                file=name,
                first=first,
                count=len(records),
                sha256=digest,
                fingerprint=self._fingerprint,
            )
        )
        self._write_manifest()

    def _write_manifest(self) -> Manifest:
        manifest = make_manifest(self._params, self._blender, self._shards)
        manifest.write(self._folder)
        return manifest

    def _check_maker(self, made_by: Maker) -> None:
        """A worker must be what this process is, or its scenes would lie under a false name."""
        if made_by.blender != self._blender:
            raise RenderError(
                f"a worker renders with Blender {made_by.blender}, this machine has "
                f"{self._blender}; install the same bpy everywhere"
            )
        if made_by.code != self._code:
            raise RenderError(
                f"a worker has loaded other code ({made_by.code[:12]}) than this process "
                f"({self._code[:12]}); bring the same files everywhere and start the workers anew"
            )

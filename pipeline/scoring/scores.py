"""Scoring a trained VAE: decode, detect, compare with what is really in the scene.

A score is the mean average precision (mAP) of a detector that was trained on clean data, on what
the VAE generates for one modality from a subset of the sensors (the paper's section IV-B). Every
figure comes with its values on resamples of the scenes, the same resamples for every figure and
model, so that differences have intervals too (a paired bootstrap).
"""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import combinations
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from base.checkpoints import Checkpoints, fingerprint
from base.files import npz_bytes, sha256_file
from base.process import end_child_with_parent
from base.progress import Progress
from detector.boxes import Detections, Truth
from detector.metrics import match
from detector.trained import Detector
from detector.trained import load as load_detector
from models import fusions, objectives
from models.params import Cell
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.bootstrap import bounds, known
from pipeline.scoring.compared import Compared
from pipeline.scoring.decoding import Items
from pipeline.scoring.metrics import DETECTED, figures
from pipeline.study import Study
from scenegen.dataset import Dataset

__all__ = [
    "Figures",
    "Judge",
    "Part",
    "Parts",
    "agreement",
    "code_of",
    "detector_file",
    "detectors_of",
    "load_model",
    "scenes_of",
    "subsets",
    "summary",
]

SURE = 0.5  # score from which a detection on a prior sample counts as an object
# They decide figures; detectors add theirs. OpenCV comes under several names, so it says itself.
LIBRARIES = ("torch", "pycocotools", "numpy")

Part = dict[str, NDArray[Any]]
"""What is kept of a finished part of a score: arrays by name."""

Figures = dict[str, NDArray[np.float64]]
"""Metric -> [1 + R]: the figure on the scenes themselves, then on each of R resamples."""


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, small ones first: 2^M - 1 of them."""
    return [s for n in range(1, len(modalities) + 1) for s in combinations(modalities, n)]


def summary(figures: Figures) -> dict[str, Any]:
    """Figures as a score file shows them: the value, and under `ci` the 95 % percentile interval.

    A figure without resamples, or not defined on some (a mAP without any object), has no interval;
    one that is not defined on the scenes themselves is None.
    """
    shown: dict[str, Any] = {
        name: known(round(float(values[0]), 5)) for name, values in figures.items()
    }
    intervals = {name: bounds(values) for name, values in figures.items()}
    shown["ci"] = {
        name: [round(low, 5), round(high, 5)]
        for name, (low, high) in intervals.items()
        if low is not None and high is not None
    }
    return shown


def scenes_of(
    dataset: Dataset, split: str, modalities: Sequence[str], most: int | None = None
) -> Items:
    """The first `most` scenes of a split; their truths are tuples (boxes float32 [n, 4] xyxy in
    pixels, classes [n])."""
    return Items(
        dataset.scenes(split)[:most],
        {m: dataset.array(m, split, most) for m in modalities},
        {m: dataset.boxes(m, split, most) for m in modalities},
    )


@dataclass(frozen=True)
class Judge:
    """Detectors, the scenes whose truth they are compared with, and the resamples of these.

    Attributes:
        copies: int64 [1 + R, N], from `bootstrap.copies`.
        headline: the metric that decides.
    """

    detectors: dict[str, Detector]
    scenes: Items
    n_classes: int
    copies: NDArray[np.int64]
    headline: str = next(iter(DETECTED))

    def detect(self, modality: str, generated: np.ndarray) -> list[Detections]:
        """Detections on uint8 [N, H, W, C]."""
        return self.detectors[modality].detect(generated)

    def compared(
        self, modality: str, generated: np.ndarray, detections: list[Detections]
    ) -> Compared:
        """What is generated for a modality and found in it, beside the scenes' truth."""
        seen, truths = self.scenes.seen[modality], self.scenes.truths[modality]
        return Compared(generated, seen, detections, truths, self.n_classes, self.copies)

    def score(self, modality: str, generated: np.ndarray, detections: list[Detections]) -> Figures:
        """Every metric [1 + R]."""
        return figures(DETECTED, self.compared(modality, generated, detections))


def agreement(
    found: list[Detections],
    reference: list[Detections],
    n_classes: int,
    resamples: NDArray[np.int64],
) -> Figures:
    """Do two modalities of the same samples show the same objects?

    What is surely detected in the reference (a score of 0.5 or more) serves as the truth; where
    that is nothing, mAP is nan.

    Returns:
        `map50`, `map50_95`; `map50_chance`, the agreement with the sample before; and `objects`,
        the objects of a sample in the reference.
    """
    sure: list[Truth] = [
        (d.boxes[d.scores >= SURE], d.classes[d.scores >= SURE]) for d in reference
    ]
    precision = match(found, sure, n_classes).average_precision(resamples)
    others = match(found, [*sure[-1:], *sure[:-1]], n_classes, overlaps=1)
    counts = np.array([len(boxes) for boxes, _ in sure])
    return {
        "map50": precision[:, 0],
        "map50_95": precision.mean(1),
        "map50_chance": others.average_precision(resamples)[:, 0],
        "objects": resamples @ counts / resamples.sum(1),
    }


def load_model(study: Study, run: Run) -> MultimodalVAE:
    """A trained model; one line and exit code 2 if it is not of this run's cell and modalities."""
    model = run.model(study.data)
    vae = study.read(model, lambda file: MultimodalVAE.load(file, stage.device()))
    alone = study.alone(run)
    cell = study.section("grid.unimodal" if alone else f"grid.cells.{run.cell}", Cell)
    names = (run.cell,) if alone else cell.fuses(study.modalities)
    if cell.model_dump() != vae.cell.model_dump() or set(names) != set(vae.modalities):
        of = f"{vae.cell.fusion} + {vae.cell.objective} of {', '.join(vae.modalities)}"
        stage.fail(
            f"{model}: is of another cell, or other options of it: {of}; `{study.again}` makes it "
            "anew"
        )
    return vae


def detectors_of(vae: MultimodalVAE, classes: Sequence[str]) -> dict[str, Detector]:
    """The detectors of a model's modalities.

    One line and exit code 2 if one is missing or knows other classes than the dataset.
    """
    device = stage.device()
    detectors = {
        m: stage.read(detector_file(m), lambda file: load_detector(file, device))
        for m in vae.modalities
    }
    for m, detector in detectors.items():
        if detector.classes != tuple(classes):
            others = stage.cut(", ".join(detector.classes))
            stage.fail(
                f"{detector_file(m)}: knows {others}, not the scenes' classes; `dvc repro` makes "
                "it anew"
            )
    return detectors


def code_of(vae: MultimodalVAE) -> list[str]:
    """Digests of the code of a model's fusion and objective."""
    return [fusions.code_of(vae.cell.fusion), objectives.code_of(vae.cell.objective)]


def detector_file(modality: str) -> Path:
    """Where the detector of a modality lies."""
    return Path(f"data/detectors/{modality}.safetensors")


class Parts:
    """The parts of a long score, each kept on disk once done, so that a killed run goes on there.

    A part is a dict of arrays. Parts are kept under a fingerprint of all they depend on; those of
    another model, detector, dataset, code or params are deleted.
    """

    def __init__(
        self, name: str, decides: Mapping[str, Any], files: Sequence[Path], total: int
    ) -> None:
        """Look for finished parts.

        Args:
            name: of the run; its folder under .cache/checkpoints.
            decides: the params and the digests of code that decide the parts.
            files: the models and data that do; so do the device and the libraries' versions.
            total: how many parts there are, for the progress bar.
        """
        everything = {
            **decides,
            "versions": {library: version(library) for library in LIBRARIES}
            | {"opencv": cv2.__version__},
            "device": [stage.device(), torch.cuda.is_available()],
            "files": [sha256_file(file) for file in files],
        }
        self.kept = Checkpoints(stage.CHECKPOINTS / name, fingerprint(everything))
        done = len(self.kept.names())
        if done:
            print(f"{name}: {done} of {total} parts were finished before", flush=True)
        self._progress = Progress(total, name.replace("-", " ", 1), "parts", done=done)

    def all(self, makers: Mapping[str, Callable[[], Part]]) -> dict[str, Part]:
        """The parts of these names, each from disk or made now: one at a time on each core.

        Half of a part's time is Python, which keeps all threads of a process but one waiting.
        """
        found = {name: self.kept.load(name) for name in makers}
        left = [name for name, content in found.items() if content is None]
        with _processes(len(left), lambda name: self._make(name, makers[name])) as pool:
            begun = {pool.submit(_inherited, name): name for name in left}
            for future in as_completed(begun):
                future.result()
                self._progress.advance(note=begun[future])
        found |= {name: self.kept.load(name) for name in left}
        return {name: _unpacked(content) for name, content in found.items() if content}

    def _make(self, name: str, make: Callable[[], Part]) -> None:
        self.kept.save(name, npz_bytes(make()))

    def clear(self) -> None:
        """All is done and written: forget the parts."""
        self._progress.close()
        self.kept.clear()


def _unpacked(content: bytes) -> Part:
    with np.load(io.BytesIO(content)) as file:
        return {key: file[key] for key in file.files}


_work: list[Callable[[str], None]] = []  # of the processes below; a closure cannot be sent to them


def _inherited(name: str) -> None:
    _work[-1](name)


@contextmanager
def _processes(most: int, work: Callable[[str], None]) -> Iterator[Executor]:
    """Run `_inherited(name)` as `work(name)`: processes of one thread each.

    As many as torch would use threads (one for each core; OMP_NUM_THREADS bounds them), but never
    more than the `most` parts that are left; each takes some 0.4 GB. They are forked, so that what
    is loaded is there. Where that is unsafe (a GPU, macOS), two threads. On an error, and on
    Ctrl-C, what is under way is given up.
    """
    threads, of_cv2 = torch.get_num_threads(), cv2.getNumThreads()
    others = set(active_children())
    forked = sys.platform == "linux" and not (torch.cuda.is_available() and stage.device() != "cpu")
    _work.append(work)
    pool: Executor
    if not forked:
        pool = ThreadPoolExecutor(2)
    else:
        torch.set_num_threads(1)  # a forked process that begins with threads waits for lost ones
        cv2.setNumThreads(1)
        gc.freeze()  # else each process would look through, and so copy, all that is loaded
        pool = ProcessPoolExecutor(
            max(1, min(threads, most)), get_context("fork"), end_child_with_parent
        )
    try:
        yield pool
    except BrokenProcessPool:
        stage.fail(f"a process was killed (out of memory?); {stage.PARTS_KEPT}")
    except BaseException:
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        _work.pop()
        if forked:
            gc.unfreeze()
        torch.set_num_threads(threads)
        cv2.setNumThreads(of_cv2)

"""A dataset card: what is in a dataset, as Markdown with plots."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from base.files import write_bytes
from scenegen.camera import DEPTH_STEPS, depth_metres
from scenegen.checks import BoxCheck, check_boxes
from scenegen.dataset import Dataset
from scenegen.preview import contact_sheet, encode_png

__all__ = ["write_card"]

TITLE = "# Shapes with "  # every card begins so
CHECKED_SCENES = 1000  # occlusion and agreement are told from the first so many scenes


class _Facts(NamedTuple):
    labels: NDArray[np.int64]
    per_scene: NDArray[np.int64]
    boxes: NDArray[np.float32]
    hues: dict[str, NDArray[np.float64]]
    depth: NDArray[np.float64]
    checks: list[BoxCheck]


def write_card(dataset: Dataset, out: Path) -> Path:
    """Write `README.md`, `plots.png` and `scenes.png` into a folder; returns the Markdown file.

    Raises:
        ValueError: a file of such a name is there and is not of an earlier card.
    """
    out.mkdir(parents=True, exist_ok=True)  # before the work: it may not be possible
    _check_own(out)
    facts = _gather(dataset)
    first = np.array(dataset.shard(0)[:12])
    files = {
        "scenes.png": encode_png(contact_sheet(first, dataset.params)),
        "plots.png": _plots(dataset, facts),
        "README.md": _text(dataset, facts).encode(),
    }
    for name, data in files.items():
        write_bytes(out / name, data)
    return out / "README.md"


def _check_own(out: Path) -> None:
    """Refuse to replace what no card has written: a project's README.md, for instance."""
    card = out / "README.md"
    if card.is_file() and card.read_bytes().startswith(TITLE.encode()):
        return
    for name in (card.name, "plots.png", "scenes.png"):
        if (out / name).exists():
            raise ValueError(f"{out / name}: is not of an earlier card; name another folder")


def _gather(dataset: Dataset) -> _Facts:
    shards = [dataset.shard(i) for i in range(len(dataset.manifest.shards))]
    some = np.concatenate(  # memory-mapped until here
        [
            s[: max(CHECKED_SCENES - listed.first, 0)]
            for s, listed in zip(shards, dataset.manifest.shards, strict=True)
        ]
    )
    there = np.concatenate([s["label"] >= 0 for s in shards])
    labels = np.concatenate([s["label"] for s in shards]).astype(np.int64)
    boxes = np.concatenate([s["box"][s["has_box"]] for s in shards])
    hues = {
        "object": np.concatenate([s["hsv"][..., 0] for s in shards])[there],
        "floor": np.concatenate([s["floor_hsv"][:, 0] for s in shards]),
        "backdrop": np.concatenate([s["backdrop_hsv"][:, 0] for s in shards]),
    }
    limits = dataset.params.depth
    # Where rounding puts the far limit just before itself, it is still no surface.
    seen = some["depth"] < DEPTH_STEPS
    depth = np.where(seen, depth_metres(some["depth"], limits), limits.far)
    checks = check_boxes(some, dataset.params)
    return _Facts(labels[there], there.sum(axis=1), boxes, hues, depth, checks)


def _text(dataset: Dataset, facts: _Facts) -> str:
    manifest, params = dataset.manifest, dataset.params
    counts = np.bincount(facts.labels, minlength=len(dataset.classes))
    balance = "".join(f"| {c} | {n} |\n" for c, n in zip(dataset.classes, counts, strict=True))
    splits = "".join(f"| {s} | {n} |\n" for s, n in manifest.splits.items())
    *others, last = dataset.modalities
    listed = " and ".join([*filter(None, [", ".join(others)]), last])
    shapes = {name: dataset.sensor(name).shape(params) for name in dataset.modalities}
    sizes = ", ".join(f"{name} {w} x {h}" for name, (h, w, _) in shapes.items())
    return f"""{TITLE}{listed}: {manifest.count} scenes

Rendered by Blender {manifest.blender} from master seed {params.seed}; SHA-256 `{manifest.sha256}`.
Pictures, width x height: {sizes}.

![Scenes](scenes.png)

| split | scenes |
|---|---|
{splits}
| class | objects |
|---|---|
{balance}
- Objects per scene: {facts.per_scene.min()} to {facts.per_scene.max()}, \
mean {facts.per_scene.mean():.2f}.
- Boxes: {_sizes(facts.boxes)}.
- Occlusion: {_occlusion(facts.checks)}.
- Depth: {_depths(facts.depth, params.depth.far)}, limits {params.depth.near} to \
{params.depth.far} m.
- Boxes from depth against Blender's object index: {_agreement(facts.checks)}.

![Distributions](plots.png)
"""


def _sizes(boxes: NDArray[np.float32]) -> str:
    if not len(boxes):
        return "none"
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    low, middle, high = np.percentile(sides, [5, 50, 95])
    return (
        f"{len(boxes)}; square root of the area 5 % {low:.1f}, median {middle:.1f}, "
        f"95 % {high:.1f} pixels"
    )


def _occlusion(checks: list[BoxCheck]) -> str:
    if not checks:
        return f"none, as no object has a box (first {CHECKED_SCENES} scenes)"
    occluded = np.array([c.occluded for c in checks])
    return (
        f"{(occluded > 0.1).mean():.1%} of the objects with a box are hidden by more than a "
        f"tenth, {(occluded > 0.5).mean():.1%} by more than half (first {CHECKED_SCENES} scenes)"
    )


def _depths(metres: NDArray[np.float64], far: float) -> str:
    if metres.min() >= far:
        return "none before the far limit"
    return f"nearest {metres.min():.2f} m, median {np.median(metres):.2f} m"


def _agreement(checks: list[BoxCheck]) -> str:
    if not checks:
        return "none to compare"
    agreement = np.array([c.against_index for c in checks])
    return f"mean IoU {agreement.mean():.4f}, lowest {agreement.min():.4f}"


def _plots(dataset: Dataset, facts: _Facts) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), layout="constrained")
    axes: Any = figure.subplots(2, 3).ravel()
    counts = np.bincount(facts.labels, minlength=len(dataset.classes))
    axes[0].bar(dataset.classes, counts)
    axes[0].set(title="class balance", ylabel="objects")
    values, scenes = np.unique(facts.per_scene, return_counts=True)
    axes[1].bar(values.astype(str), scenes)
    axes[1].set(title="objects per scene", ylabel="scenes")
    axes[2].hist([c.occluded for c in facts.checks], bins=20, range=(0, 1))
    axes[2].set(title="occlusion", xlabel="hidden share of the projection")
    if facts.checks:  # a logarithm of nothing warns
        axes[2].set(yscale="log")
    size = facts.boxes[:, 2:] - facts.boxes[:, :2]
    axes[3].hist(size, bins=20, label=["width", "height"])
    axes[3].set(title="box sizes", xlabel="pixels")
    axes[3].legend()
    axes[4].hist(facts.depth[facts.depth < dataset.params.depth.far].ravel(), bins=40)
    axes[4].set(title="depth before the far limit", xlabel="metres")
    axes[5].hist(list(facts.hues.values()), bins=12, label=list(facts.hues))
    axes[5].set(title="hues", xlabel="hue")
    axes[5].legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()

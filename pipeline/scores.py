"""Scoring a trained VAE: decode, detect, compare with what is really in the scene.

A score is the mean average precision (mAP) of a detector that was trained on clean data, on what
the VAE generates for one modality from a subset of the sensors (the paper's section IV-B).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import torch

from detector.boxes import Detections
from detector.metrics import mean_average_precision
from detector.yolo import Detector
from models.vae import MultimodalVAE
from scenegen.dataset import Dataset

__all__ = ["Judge", "Scene", "generate", "prior_agreement", "subsets", "to_uint8"]

BATCH = 256  # scenes decoded at once; no score depends on it


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, small ones first: 2^M - 1 of them."""
    return [s for n in range(1, len(modalities) + 1) for s in combinations(modalities, n)]


def to_uint8(generated: torch.Tensor) -> np.ndarray:
    """[B, C, H, W] in [0, 1] -> uint8 [B, H, W, C], as the detectors were trained on."""
    scaled = (generated.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


@dataclass(frozen=True)
class Scene:
    """Scenes under evaluation: their numbers, and what each sensor saw of them.

    Attributes:
        numbers: int64 [N].
        seen: modality -> uint8 [N, H, W, C].
        truths: modality -> N tuples (boxes float32 [n, 4] xyxy in pixels, classes [n]).
    """

    numbers: np.ndarray
    seen: dict[str, np.ndarray]
    truths: dict[str, list[tuple[np.ndarray, np.ndarray]]]

    @classmethod
    def load(
        cls, dataset: Dataset, split: str, modalities: Sequence[str], most: int | None = None
    ) -> Scene:
        """The first `most` scenes of a split."""
        return cls(
            dataset.scenes(split)[:most],
            {m: dataset.array(m, split)[:most] for m in modalities},
            {m: dataset.boxes(m, split)[:most] for m in modalities},
        )


def keyed(seed: int, scenes: np.ndarray, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform and normal draws [B, size] that depend on the seed and the scene number alone."""
    uniforms, normals = np.empty((2, len(scenes), size), np.float32)
    for row, scene in enumerate(scenes):
        generator = np.random.default_rng([seed, int(scene)])
        uniforms[row] = generator.random(size, dtype=np.float32)
        normals[row] = generator.standard_normal(size, dtype=np.float32)
    return torch.from_numpy(uniforms), torch.from_numpy(normals)


@torch.inference_mode()
def generate(
    vae: MultimodalVAE,
    scenes: Scene,
    given: Sequence[str],
    *,
    seed: int,
    point: Literal["mean", "sample"] = "mean",
    component: int | None = None,
    missing: Literal["absent", "prior"] = "absent",
) -> dict[str, np.ndarray]:
    """What the VAE generates for every modality from the sensors in `given`.

    Args:
        seed: of the draws of random fusions, mixtures and samples; keyed by scene number.
        point: of the posterior, which is decoded.
        component: of a mixture, decoded for all scenes; None draws one a scene.
        missing: a missing sensor has no expert (absent), or the prior for an expert, as lcd trains.

    Returns:
        modality -> uint8 [N, H, W, C].
    """
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, len(scenes.numbers), BATCH):
        rows = slice(start, start + BATCH)
        uniforms, normals = keyed(seed, scenes.numbers[rows], vae.params.latent)
        decoded = vae.generate(
            {m: torch.from_numpy(scenes.seen[m][rows]) for m in given},
            point=point,
            component=component,
            missing=missing,
            uniforms=uniforms,
            normals=normals,
        )
        parts.append({m: to_uint8(x) for m, x in decoded.items()})
    return {m: np.concatenate([part[m] for part in parts]) for m in parts[0]}


@dataclass(frozen=True)
class Judge:
    """Detectors, and the scenes whose truth they are compared with."""

    detectors: dict[str, Detector]
    scenes: Scene
    n_classes: int

    def detect(self, modality: str, generated: np.ndarray) -> list[Detections]:
        """Detections on uint8 [N, H, W, C]."""
        return self.detectors[modality].detect(generated)

    def score(
        self, modality: str, generated: np.ndarray, detections: list[Detections]
    ) -> dict[str, float]:
        """mAP against the scenes' truth, and the mean squared error of pixels in [0, 1]."""
        scores = mean_average_precision(detections, self.scenes.truths[modality], self.n_classes)
        error = (generated.astype(np.float32) - self.scenes.seen[modality]) / 255
        scores["mse"] = float(np.square(error).mean())
        return {name: round(float(value), 5) for name, value in scores.items()}


@torch.inference_mode()
def prior_agreement(
    vae: MultimodalVAE, detectors: dict[str, Detector], n_classes: int, samples: int, seed: int
) -> dict[str, float] | None:
    """Joint agreement: do a prior sample's modalities show the same objects?

    Image and depth share their frame, so the detections of one (score 0.5 or more) serve as the
    truth for the other: mAP@0.5; None if the depth maps show no object. The paper does not report
    it for this dataset.
    """
    generator = torch.Generator(vae.device).manual_seed(seed)
    decoded = {m: to_uint8(x) for m, x in vae.sample(samples, generator).items()}
    found = {m: detectors[m].detect(decoded[m]) for m in ("image", "depth")}
    sure = [(d.boxes[d.scores >= 0.5], d.classes[d.scores >= 0.5]) for d in found["depth"]]
    objects = sum(len(boxes) for boxes, _ in sure) / samples
    if not objects:
        return None
    scores = mean_average_precision(found["image"], sure, n_classes)
    return {"image-depth": round(float(scores["map50"]), 5), "objects": round(objects, 3)}

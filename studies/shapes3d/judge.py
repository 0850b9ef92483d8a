"""The judge of Shapes 3D: detectors that were trained on what the sensors saw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Detections, Truth
from models.vae import MultimodalVAE
from pipeline.running import stage
from pipeline.scoring import scores
from pipeline.scoring.bootstrap import Values, copies
from pipeline.scoring.compared import diversity
from pipeline.scoring.decoding import Decoded, Items, sample
from pipeline.scoring.metrics import DETECTED
from pipeline.scoring.mistakes import SURE, mistakes
from pipeline.scoring.params import ScoreParams
from pipeline.scoring.scenes import rendered
from pipeline.scoring.scores import Part, agreement, detector_file, detectors_of, scenes_of
from scenegen.manifest import MANIFEST

__all__ = ["Bench", "Judge", "ScoreParams"]

PICTURES = 24  # scenes kept for the report's pictures
BOXES = 8  # detections drawn in a picture


class Judge(scores.Judge):
    """Detectors before scenes, as the stage asks them."""

    @property
    def items(self) -> Items:
        """The scenes."""
        return self.scenes

    def part(self, generated: Decoded, targets: Sequence[str]) -> Part:
        """Figures [1 + R] by target and metric, and what the report draws of the first scenes."""
        part: Part = {}
        for m, x in generated.items():
            found = self.detect(m, x if m in targets else x[:PICTURES])
            part |= {f"pictures/{m}": x[:PICTURES], f"boxes/{m}": picture_boxes(found)}
            if m in targets:
                worst, wrong = worst_scene(found, self.scenes.truths[m])
                part |= {
                    f"worst/{m}": x[worst][None],
                    f"worst-boxes/{m}": picture_boxes([found[worst]]),
                    f"worst-scene/{m}": self.scenes.numbers[worst][None],
                    f"worst-mistakes/{m}": wrong[None],
                }
                part |= {
                    f"figures/{m}/{k}": values for k, values in self.score(m, x, found).items()
                }
        return part

    def quality(self, modality: str, generated: NDArray[np.uint8]) -> Values:
        """The headline metric [1 + R]."""
        compared = self.compared(modality, generated, self.detect(modality, generated))
        return DETECTED[self.headline].compute(compared)

    def ceiling(self, modalities: Sequence[str]) -> Part:
        """What is found in the sensors' own pictures, the measure of what a VAE generates."""
        part: Part = {}
        for m in modalities:
            seen = self.scenes.seen[m]
            found = self.score(m, seen, self.detect(m, seen))
            own = [k for k, metric in DETECTED.items() if metric.own or k == self.headline]
            part |= {f"figures/{m}/{k}": found[k] for k in own}
        return part

    def joint(self, vae: MultimodalVAE, params: ScoreParams) -> Part:
        """How far image and depth drawn from the prior show the same objects, and how diverse."""
        drawn = sample(vae, Bench.pair, params.samples, params.seed)
        found, reference = (self.detect(m, x) for m, x in drawn.items())
        resampled = copies(params.samples, params.resamples, params.seed)
        spread = {
            f"diversity_{m}": np.array([diversity(x, self.scenes.seen[m])])
            for m, x in drawn.items()
        }
        return {**agreement(found, reference, self.n_classes, resampled), **spread}


class Bench:
    """The scenes and the detectors of a model's sensors."""

    pair = ("image", "depth")  # whose prior samples are compared

    def __init__(self, vae: MultimodalVAE, headline: str) -> None:
        self.headline = headline
        self.dataset, self.names = rendered(), tuple(vae.modalities)
        self.detectors = detectors_of(vae, self.dataset.classes)
        self.files = [*map(detector_file, self.names), stage.DATASET / MANIFEST]
        self.code = [each for d in self.detectors.values() for each in d.decided_by]

    def extra(self, _generate: object) -> dict[str, Part]:
        """What is shown besides what is scored: nothing."""
        return {}

    def judge(self, split: str, most: int, resamples: int, seed: int) -> Judge:
        """The detectors before the first scenes of a split."""
        scenes = scenes_of(self.dataset, split, self.names, most)
        drawn = copies(len(scenes.numbers), resamples, seed)
        return Judge(self.detectors, scenes, len(self.dataset.classes), drawn, self.headline)


def picture_boxes(detections: list[Detections]) -> np.ndarray:
    """The surest detections of the first scenes: [PICTURES, BOXES, 6], padded with NaN."""
    rows = np.full((min(PICTURES, len(detections)), BOXES, 6), np.nan, np.float32)
    for row, found in zip(rows, detections, strict=False):
        for slot, i in zip(row, np.argsort(-found.scores)[:BOXES], strict=False):
            slot[:] = (*found.boxes[i], found.scores[i], found.classes[i])
    return rows


def worst_scene(detections: list[Detections], truths: list[Truth]) -> tuple[int, np.ndarray]:
    """The first of the scenes in which most objects are missed or made up, and how many are.

    Returns:
        The scene's place, and int64 [2]: objects missed, and surely detected where there is none.
    """

    def count(found: Detections, truth: Truth) -> tuple[int, int]:
        sure = found.scores >= SURE
        boxes = np.column_stack([found.boxes[sure], found.classes[sure]])
        return mistakes(boxes, np.column_stack(truth))

    wrong = np.array([count(f, t) for f, t in zip(detections, truths, strict=True)])
    worst = int(wrong.sum(1).argmax())
    return worst, wrong[worst]

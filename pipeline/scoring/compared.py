"""What is generated beside what was seen: everything that metrics look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.boxes import Detections, Images, Truth
from detector.metrics import match, one_class
from pipeline.scoring.bootstrap import Values, average, average_of
from pipeline.scoring.colours import background_errors, hue_errors, inner_colours
from pipeline.scoring.mistakes import SURE, Hits, all_hits

__all__ = ["Compared", "diversity", "pixel_errors"]

SSIM_SIGMA, SSIM_SIDE = 1.5, 11  # the Gaussian window of Wang et al. 2004


def pixel_errors(
    generated: NDArray[np.uint8], seen: NDArray[np.uint8]
) -> dict[str, NDArray[np.float64]]:
    """Per scene [N]: mean squared error (`mse`) and structural similarity (`ssim`).

    Args:
        generated, seen: uint8 [N, H, W, C], scored as values in [0, 1].

    SSIM is Wang et al. 2004's, with their Gaussian window and constants, as a mean over pixels (the
    border reflected, as torchmetrics has it) and channels. OpenCV filters the windows: torch's
    depthwise convolution, which libraries build on, takes ten times as long on a CPU.
    """
    x, y = (np.float32(1 / 255) * pictures for pictures in (generated, seen))
    n, height, width, channels = x.shape
    # Scenes become channels, of which OpenCV takes up to 512; 64 stay in a core's cache.
    together = max(1, 64 // channels)
    mse = np.square(x - y).mean((1, 2, 3), dtype=np.float64)
    ssim = np.empty(n)
    for start in range(0, n, together):
        a, b = (v[start : start + together].transpose(1, 2, 0, 3) for v in (x, y))
        a, b = (v.reshape(height, width, -1) for v in (a, b))
        blurred = [
            cv2.GaussianBlur(v, (SSIM_SIDE, SSIM_SIDE), SSIM_SIGMA).reshape(a.shape)
            for v in (a, b, a * a, b * b, a * b)
        ]
        mean_a, mean_b, aa, bb, ab = blurred
        c1, c2 = 0.01**2, 0.03**2
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        covariance = ab - mean_a * mean_b
        structure = (2 * covariance + c2) / (aa - mean_a**2 + bb - mean_b**2 + c2)
        of_channel = (luminance * structure).mean((0, 1), dtype=np.float64)
        ssim[start : start + together] = of_channel.reshape(-1, channels).mean(1)
    return {"mse": mse, "ssim": ssim}


def diversity(samples: Images, seen: Images) -> float:
    """How much samples differ from one another: their variance over that of what was seen.

    The variance is a sum over pixels; 1 is as diverse as the scenes, 0 is all alike.
    """
    return float(samples.var(0).sum() / seen.var(0).sum())


@dataclass(frozen=True)
class Compared:
    """What is generated for one modality, beside what its sensor saw: what metrics look at.

    Attributes:
        generated, seen: uint8 [N, H, W, C].
        copies: int64 [1 + R, N], from `bootstrap.copies`.
    """

    generated: NDArray[np.uint8]
    seen: NDArray[np.uint8]
    detections: list[Detections]
    truths: list[Truth]
    n_classes: int
    copies: NDArray[np.int64]

    @cached_property
    def precision(self) -> NDArray[np.float64]:
        """Average precision [1 + R, 10], mean over classes, at overlaps of 0.5, 0.55 .. 0.95."""
        return match(self.detections, self.truths, self.n_classes).average_precision(self.copies)

    @cached_property
    def agnostic(self) -> NDArray[np.float64]:
        """Average precision [1 + R] at an overlap of 0.5, all classes taken for one."""
        there = one_class(self.detections, self.truths)
        return match(*there, 1, overlaps=1).average_precision(self.copies)[:, 0]

    @cached_property
    def errors(self) -> dict[str, Values]:
        """`mse` and `ssim` [1 + R], of pixels in [0, 1]."""
        weights = self.copies / self.copies.sum(1, keepdims=True)
        each = pixel_errors(self.generated, self.seen)
        return {name: weights @ per_scene for name, per_scene in each.items()}

    @cached_property
    def right_counts(self) -> Values:
        """The share of scenes [1 + R] in which as many objects are surely detected as are there."""
        sure = np.array([(found.scores >= SURE).sum() for found in self.detections])
        right = sure == [len(boxes) for boxes, _ in self.truths]
        return average(right, self.copies)

    @cached_property
    def hits(self) -> Hits:
        """The objects that are surely detected."""
        return all_hits(self.detections, self.truths)

    @cached_property
    def distances(self) -> Values:
        """Pixels [1 + R] from the middle of an object's box to its detection's, mean over hits."""
        apart = (self.hits.found - self.hits.there).reshape(-1, 2, 2).mean(1)
        return average_of(np.linalg.norm(apart, axis=1), self.hits.scenes, self.copies)

    @cached_property
    def object_hues(self) -> Values:
        """Error of hue [1 + R], mean over hits; nan without colours."""
        scenes, there, found = self.hits
        made = inner_colours(self.generated, scenes, found)
        return self._defined(hue_errors(made, inner_colours(self.seen, scenes, there)), scenes)

    @cached_property
    def background_hues(self) -> Values:
        """Error of hue [1 + R] of floor and backdrop, mean over scenes; nan without colours."""
        errors = background_errors(self.generated, self.seen, self.truths)
        return self._defined(errors, np.arange(len(errors)))

    def _defined(self, errors: Values, scenes: NDArray[np.int64]) -> Values:
        there = np.isfinite(errors)
        return average_of(errors[there], scenes[there], self.copies)

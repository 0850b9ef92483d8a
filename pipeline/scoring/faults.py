"""What goes wrong with a sensor: small functions that spoil one picture by a stated amount.

A severity lies in [0, 1]; what it measures stands at each fault, and 0 changes nothing. The draws
are keyed by seed, scene number, sensor and kind, and not by severity: a pixel that is dead at 0.1
is dead at 0.3 as well, so that a curve over severities shows the fault and not the draw.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAULTS", "degrade"]

Picture = NDArray[np.uint8]
"""[H, W, C] as the VAE reads it, of any sensor."""

Fault = Callable[[Picture, Picture, float, np.random.Generator], Picture]
"""(picture, the picture before it, severity, draws) -> spoiled picture."""


def noise(picture: Picture, _before: Picture, severity: float, rng: np.random.Generator) -> Picture:
    """Gaussian noise on every value; severity is its deviation, in full ranges; clipped."""
    noisy = picture + 255 * severity * rng.standard_normal(picture.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def dead(picture: Picture, _before: Picture, severity: float, rng: np.random.Generator) -> Picture:
    """Pixels stuck at 0 or 255, each as likely; severity is their share."""
    draws, values = rng.random((2, *picture.shape[:2], 1))
    stuck = np.where(values < 0.5, 0, 255).astype(np.uint8)
    return np.where(draws < severity, stuck, picture)


def frozen(picture: Picture, before: Picture, severity: float, rng: np.random.Generator) -> Picture:
    """The scene before is still shown; severity is how often. Nothing in it looks broken."""
    return before if rng.random() < severity else picture


def shifted(
    picture: Picture, _before: Picture, severity: float, rng: np.random.Generator
) -> Picture:
    """The picture moved left or right, its edge repeated; severity is how far, in half widths."""
    width = picture.shape[1]
    move = round(severity * width / 2) * (1 if rng.random() < 0.5 else -1)
    return picture[:, (np.arange(width) - move).clip(0, width - 1)]


def blackout(
    picture: Picture, _before: Picture, severity: float, rng: np.random.Generator
) -> Picture:
    """A rectangle of the picture's proportions is 0; severity is its share of the area."""
    height, width = (round(side * severity**0.5) for side in picture.shape[:2])
    at = rng.random(2)  # drawn before the size matters, so that it stays about the same place
    top, left = ((picture.shape[i] - s) * at[i] for i, s in enumerate((height, width)))
    spoiled = picture.copy()
    spoiled[round(top) : round(top) + height, round(left) : round(left) + width] = 0
    return spoiled


FAULTS: dict[str, Fault] = {
    "noise": noise,
    "dead": dead,
    "frozen": frozen,
    "shifted": shifted,
    "blackout": blackout,
}


def degrade(
    kind: str,
    severity: float,
    sensor: str,
    seen: NDArray[np.uint8],
    scenes: NDArray[np.int64],
    seed: int,
) -> NDArray[np.uint8]:
    """What a faulty sensor sees of N scenes: uint8 [N, H, W, C].

    Args:
        kind: a name in FAULTS.
        severity: in [0, 1].
        sensor: whose draws these are.
        seen: uint8 [N, H, W, C], what it would see; N is 2 or more.
        scenes: [N] scene numbers, which key the draws.
        seed: of the draws.

    A scene's predecessor, for `frozen`, is the one before it in `seen`; the first scene's is the
    second.
    """
    before = np.concatenate([seen[1:2], seen[:-1]])
    key = zlib.crc32(f"{sensor} {kind}".encode())
    return np.stack(
        [
            FAULTS[kind](picture, last, severity, np.random.default_rng([seed, int(scene), key]))
            for picture, last, scene in zip(seen, before, scenes, strict=True)
        ]
    )

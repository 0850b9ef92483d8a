"""Table II of the paper: CCA coefficients, and gains over the unimodal VAEs in percent.

Source: Da Silva-Filarder, Ancora, Filippone, Michiardi, "Multimodal Variational Autoencoders for
Sensor Fusion and Cross Generation", Table II; the unimodal figures are in its caption.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reporting.findings import Claim
from pipeline.reporting.table import Column, columns_of
from studies.claims import two_directions

__all__ = ["METRIC", "PAPER_SAMPLES", "SENSORS", "TABLE", "TRUTH", "UNIMODAL", "claims", "columns"]

_COLUMNS = ("cross_image", "cross_text", "synergy_image", "synergy_text")

# (fusion, objective): C->I, I->C (CCA), all->I, all->C (gain over the unimodal VAE, %)
_ROWS = {
    ("largest", "jmvae"): (0.14, 0.04, -50.2, 32.3),
    ("moe", "none"): (0.17, 0.04, -39.4, 21.0),
    ("rce", "none"): (0.45, 0.17, 27.5, 214.2),
    ("poe", "none"): (-0.01, 0.09, 1.8, 80.7),
    ("bce", "none"): (0.03, 0.08, 4.6, 103.2),
    ("rbcm", "none"): (0.01, 0.09, 3.4, 93.5),
    ("poe", "ecg"): (0.44, 0.15, 24.7, 163.6),
    ("bce", "ecg"): (0.47, 0.10, 36.5, 137.3),
    ("rbcm", "ecg"): (0.40, 0.11, 21.8, 121.8),
    ("bce", "rmd"): (0.40, 0.12, 27.5, 171.1),
    ("bce", "lcd"): (0.44, 0.08, 34.1, 174.2),
}

METRIC = "cosine"  # the paper's
TABLE = {cell: dict(zip(_COLUMNS, row, strict=True)) for cell, row in _ROWS.items()}
UNIMODAL = {"image": 0.276, "text": 0.062}
TRUTH = 0.27  # pictures and their own captions; not the paper's but mmvae's, under the same scheme
PAPER_SAMPLES = 10  # importance samples K of every row

LETTERS = {"image": "I", "text": "C"}
SENSORS = tuple(LETTERS)


def columns(modalities: Sequence[str], alike: bool = True) -> tuple[Column, ...]:
    """Each modality from the other, and its gain over the unimodal VAE."""
    return columns_of({m: LETTERS[m] for m in modalities}, alike, pooled=True)


def claims(_columns: Sequence[Column]) -> list[Claim]:
    """What the paper concludes."""
    return two_directions(list(LETTERS))

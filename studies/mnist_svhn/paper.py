"""Table I of the paper: digit classification accuracy in percent.

Source: Da Silva-Filarder, Ancora, Filippone, Michiardi, "Multimodal Variational Autoencoders for
Sensor Fusion and Cross Generation", Table I; the unimodal figures are in its section IV-C.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reporting.findings import Claim
from pipeline.reporting.table import Column, columns_of
from studies.claims import two_directions

__all__ = ["METRIC", "PAPER_SAMPLES", "SENSORS", "TABLE", "UNIMODAL", "claims", "columns"]

_COLUMNS = ("joint", "cross_mnist", "cross_svhn", "synergy_mnist", "synergy_svhn")

# (fusion, objective): joint, S->M, M->S (%), all->M, all->S (gain over the unimodal VAE, %)
_ROWS = {
    ("largest", "jmvae"): (52.57, 73.83, 59.21, -1.3, 126.9),
    ("moe", "none"): (47.02, 54.42, 77.81, -2.0, 90.7),
    ("rce", "none"): (49.43, 67.00, 74.59, -1.4, 133.9),
    ("poe", "none"): (52.92, 15.91, 68.06, -0.4, 126.0),
    ("bce", "none"): (53.98, 10.11, 87.06, 0.0, 123.5),
    ("rbcm", "none"): (52.47, 15.26, 57.71, -0.2, 122.5),
    ("poe", "ecg"): (58.91, 73.77, 81.90, 1.5, 141.7),
    ("bce", "ecg"): (58.87, 73.50, 77.27, 1.5, 142.7),
    ("rbcm", "ecg"): (58.82, 70.38, 81.81, 1.0, 141.5),
    ("bce", "rmd"): (55.44, 63.00, 67.28, 0.5, 136.4),
    ("bce", "lcd"): (52.96, 70.04, 65.32, 0.0, 138.3),
}

METRIC = "accuracy"  # the paper's
TABLE = {cell: dict(zip(_COLUMNS, row, strict=True)) for cell, row in _ROWS.items()}
UNIMODAL = {"mnist": 92.9, "svhn": 36.2}
PAPER_SAMPLES = 30  # importance samples K of every row

LETTERS = {"mnist": "M", "svhn": "S"}
SENSORS = tuple(LETTERS)


def columns(modalities: Sequence[str], alike: bool = True) -> tuple[Column, ...]:
    """Joint agreement, each modality from the other, and its gain over the unimodal VAE."""
    return (
        Column("joint", "joint", "joint/mnist-svhn", form="{:.1f}"),
        *columns_of({m: LETTERS[m] for m in modalities}, alike, "{:.1f}", pooled=True),
    )


def claims(_columns: Sequence[Column]) -> list[Claim]:
    """What the paper concludes."""
    return two_directions(list(LETTERS))

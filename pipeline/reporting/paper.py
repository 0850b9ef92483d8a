"""Table III of the paper: mAP of cross generation and synergy gain in percent.

Source: Da Silva-Filarder, Ancora, Filippone, Michiardi, "Multimodal Variational Autoencoders for
Sensor Fusion and Cross Generation", Table III. The paper scores no radar.
"""

from __future__ import annotations

__all__ = ["ALIASES", "COLUMNS", "CROSSING", "PLAIN", "SENSORS", "TABLE3", "UNIMODAL"]

SENSORS = ("image", "depth", "radar")

COLUMNS = ("cross_image", "cross_depth", "synergy_image", "synergy_depth")

# (fusion, objective): D+R->I, I+R->D (mAP), all->I, all->D (gain over the unimodal VAE, %)
_ROWS = {
    ("moe", "none"): (0.51, 0.52, -32.6, -40.2),
    ("rce", "none"): (0.93, 0.88, 3.7, 2.5),
    ("poe", "none"): (0.70, 0.01, 5.6, 6.7),
    ("bce", "none"): (0.76, 0.02, 5.6, 6.4),
    ("rbcm", "none"): (0.75, 0.01, 5.6, 6.6),
    ("poe", "ecg"): (0.95, 0.91, 5.3, 6.1),
    ("bce", "ecg"): (0.93, 0.87, 4.0, 3.4),
    ("rbcm", "ecg"): (0.95, 0.91, 5.2, 5.9),
    ("poe", "lcd"): (0.94, 0.90, 4.6, 4.5),
    ("bce", "lcd"): (0.93, 0.90, 4.3, 4.5),
    ("rbcm", "lcd"): (0.94, 0.90, 4.7, 4.8),
}

TABLE3 = {cell: dict(zip(COLUMNS, row, strict=True)) for cell, row in _ROWS.items()}
UNIMODAL = {"image": 0.91, "depth": 0.87}
ALIASES = {"poe": "MVAE", "moe": "MMVAE"}  # its names of fusions
PLAIN, CROSSING = "none", "ecg"  # the objectives without and with cross generation, its two ends

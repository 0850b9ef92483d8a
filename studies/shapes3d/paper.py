"""Table III of the paper: mAP of cross generation and synergy gain in percent.

Source: Da Silva-Filarder, Ancora, Filippone, Michiardi, "Multimodal Variational Autoencoders for
Sensor Fusion and Cross Generation", Table III. The paper scores no radar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.reporting.findings import Claim, beats, gains, having, share_of_best
from pipeline.reporting.table import Column, Row, columns_of
from scenegen import sensors

__all__ = [
    "ALIASES",
    "ENDS",
    "KEYS",
    "METRIC",
    "SENSORS",
    "TABLE",
    "UNIMODAL",
    "claims",
    "columns",
    "letters",
]

SENSORS = ("image", "depth", "radar")

KEYS = ("cross_image", "cross_depth", "synergy_image", "synergy_depth")

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

METRIC = "map50"  # the paper's
TABLE = {cell: dict(zip(KEYS, row, strict=True)) for cell, row in _ROWS.items()}
UNIMODAL = {"image": 0.91, "depth": 0.87}
PERCENT = "{:+z.1f} %"  # how a gain is written
ALIASES = {"poe": "MVAE", "moe": "MMVAE"}  # its names of fusions
ENDS = ("none", "ecg")  # the objectives without and with cross generation

_MOE, _RCE = having(["moe"]), having(["rce"], ["none"])
_NONE = having(["poe", "bce", "rbcm"], ["none"])
_EXPLICIT = having(objectives=["ecg", "lcd"])


def columns(modalities: Sequence[str], alike: bool = True) -> tuple[Column, ...]:
    """Each sensor from all others, and its gain over the unimodal VAE."""
    return columns_of(letters(modalities), alike)


def letters(modalities: Sequence[str]) -> dict[str, str]:
    """The letter of each sensor, as its file declares it."""
    return {m: sensors.get(m).traits.letter for m in modalities}


def claims(columns: Sequence[Column]) -> list[Claim]:
    """What the paper concludes from Table III, of the cells that it has, with all its sensors."""
    head = {column.key: column.heading for column in columns}
    depth, image = "cross_depth", "cross_image"
    if not {depth, image} <= head.keys():
        return []
    found = [
        *(
            Claim(
                "Training for cross generation (ecg, lcd) beats training without it on "
                f"{head[key]}.",
                beats(key, _EXPLICIT, _NONE, same_fusion=True),
            )
            for key in (depth, image)
        ),
        Claim(
            f"rce beats the other fusions on {head[depth]} when none is trained for cross "
            "generation.",
            beats(depth, _RCE, lambda row: _MOE(row) or _NONE(row)),
        ),
        Claim(
            f"Without cross generation, the depth from the other sensors ({head[depth]}) fails.",
            share_of_best(depth, head[depth], _NONE, works=False),
        ),
        Claim(
            "Without cross generation, the image from the other sensors "
            f"({head[image]}) still works.",
            share_of_best(image, head[image], _NONE, works=True),
        ),
    ]
    for target in ("image", "depth"):
        key = f"synergy_{target}"
        found += [
            Claim(
                f"moe has the lowest synergy gain on the {target}.",
                beats(key, lambda row: not _MOE(row), _MOE),
                PERCENT,
            ),
            Claim(
                f"Every method but moe gains over the unimodal VAE on the {target}.",
                gains(key, lambda row: not _MOE(row)),
                PERCENT,
            ),
        ]
    found.append(
        Claim(
            "Cross generation costs a little synergy on the depth: none is above ecg and lcd.",
            beats("synergy_depth", _NONE, _EXPLICIT, same_fusion=True),
            PERCENT,
        )
    )

    def theirs(row: Row) -> bool:
        return (row.fusion, row.objective) in TABLE and set(SENSORS) <= set(row.sensors)

    return [replace(claim, only=theirs) for claim in found]

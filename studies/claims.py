"""What the paper concludes from Tables I and II, each of two modalities."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.reporting.findings import Claim, direction_fails, having, loses, mends

__all__ = ["two_directions"]


def two_directions(modalities: Sequence[str]) -> list[Claim]:
    """The claims on generating each of two modalities from the other, and both from both."""
    cross, synergy = ([f"{kind}_{m}" for m in modalities] for kind in ("cross", "synergy"))
    none = having(["poe", "bce", "rbcm"], ["none"])
    fails, shares = direction_fails(cross, none)
    named = {"rce": having(["rce"], ["none"])} | {
        name: having(objectives=[name]) for name in ("ecg", "rmd", "lcd")
    }
    return [
        Claim(
            "Without cross generation, at least one of the two directions fails.",
            fails,
            detail=shares,
        ),
        *(Claim(f"{name} mends it.", mends(cross, which, none)) for name, which in named.items()),
        Claim(
            "moe loses synergy: its mean gain is the least, 10 points or more below the others’ "
            "median.",
            loses(synergy, having(["moe"])),
            "{:+z.1f} %",
        ),
    ]

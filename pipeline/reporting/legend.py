"""What stands under a study's table: what its letters and signs mean, how it was decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["EMPTY", "UNDEFINED", "decoding", "legend_of"]

UNDEFINED = (
    "–: not defined, as a gain over, or a share of, a score of zero or less is not, or where the "
    "data show nothing to be scored."
)
EMPTY = (
    "Cells fuse different sensors. Empty: the cell has no such sensor. others→: from all other "
    "sensors of the cell; all→: from all of its own. Figures of one column are of the same scenes."
)


def legend_of(
    unimodal: Mapping[str, Mapping[str, Any]],
    scenes: int,
    seeds: int,
    sensors: Sequence[str],
    letter: Mapping[str, str],
) -> str:
    """What letters, ± and brackets mean, and the figures to compare with.

    Args:
        unimodal: modality -> `mean`, the score of its own VAE; `paper`, the paper's; `ceiling`,
            that of what the sensor saw.
        scenes: test scenes scored.
        seeds: trainings of a cell.
        sensors: the paper's.
        letter: of each modality.
    """
    spread = (
        f"the deviation over {seeds} trainings with other seeds, on the same test scenes"
        if seeds > 1
        else f"half the 95 % interval over resamples of the {scenes:,} test scenes; what another "
        "seed or machine does to a training is not in it (one seed)"
    )
    theirs = set(unimodal) - set(sensors)
    apart = f", which has no {' or '.join(sorted(theirs))}" if theirs else ""
    named = ", ".join(f"{one} {name}" for name, one in letter.items())
    alone = ", ".join(
        f"{modality} {_two(row['mean'])}" + (f" ({_two(row['paper'])})" if row["paper"] else "")
        for modality, row in unimodal.items()
    )
    reach = ", ".join(f"{modality} {_two(row['ceiling'])}" for modality, row in unimodal.items())
    return (
        f"{named}. ± {spread}; in brackets the paper{apart}; enc + dec: passes of one modality "
        "through an encoder and a decoder, per scene and training step; params: parameters in "
        f"millions.\n\nVAEs of one sensor alone: {alone}. The ceiling, what is found in the "
        f"sensors' own pictures of these scenes: {reach}."
    )


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def decoding(scores: Sequence[Mapping[str, Any]]) -> str:
    """What was decoded for the figures, in one line: the rules that score files state."""
    said = scores[0]
    components = {
        "drawn": "one drawn per scene",
        "best": f"the best on {max(score['choosing'] or 0 for score in scores)} validation scenes",
    }
    parts = [f"Decoded: the posterior's {said['point']}; a missing sensor is {said['missing']}"]
    if mixed := [score for score in scores if score["mixture"]]:
        cross, synergy = (mixed[0][f"{kind}_component"] for kind in ("cross", "synergy"))
        alike = ", the same for every sensor it generates" if synergy == "best" else ""
        parts.append(
            f"component of a mixture ({_fusions(mixed)}): {components[cross]} where a sensor is "
            f"missing, {components[synergy]} where none is{alike}"
        )
    if drawn := [score for score in scores if score["drawn_per_element"]]:
        parts.append(f"{_fusions(drawn)}: an expert drawn for every element of the latent")
    return "; ".join(parts) + "."


def _fusions(scores: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(str(score["fusion"]) for score in scores))

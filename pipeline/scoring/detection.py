"""How well a model tells which sensor lies, and at what price: figures with their resamples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.mixture import Draws
from models.params import RATES
from models.vae import MultimodalVAE
from pipeline.scoring.bootstrap import Values, average, average_of
from pipeline.scoring.decoding import BATCH, Items, keyed

__all__ = ["Alarms", "auroc", "examined", "false_alarms", "figures"]


@dataclass(frozen=True)
class Alarms:
    """What `MultimodalVAE.consistency` says of N items.

    Attributes:
        sensors: those available.
        score: [M, N].
        alarm: rate of false alarms -> bool [M, N].
        named: rate -> [N], the place of the sensor that is named, -1 for none.
    """

    sensors: Sequence[str]
    score: NDArray[np.float64]
    alarm: Mapping[float, NDArray[np.bool_]]
    named: Mapping[float, NDArray[np.int64]]


@torch.inference_mode()
def examined(vae: MultimodalVAE, items: Items, seed: int) -> Alarms:
    """Every sensor of a calibrated model held against the others.

    Args:
        seed: of the draws of random fusions; keyed by the items' numbers.
    """
    scores, alarms, named = [], [], []
    for start in range(0, len(items.numbers), BATCH):
        rows = slice(start, start + BATCH)
        draws = Draws(None, *keyed(seed, items.numbers[rows], vae.params.latent))
        seen = {m: torch.from_numpy(items.seen[m][rows]) for m in vae.modalities}
        found = vae.consistency(seen, draws)
        assert found.score is not None  # of a calibrated model
        scores.append(found.score.cpu().numpy())
        alarms.append({rate: found.alarms(rate).cpu().numpy() for rate in RATES})
        named.append({rate: found.suspect(rate).cpu().numpy() for rate in RATES})
    return Alarms(
        found.sensors,
        np.concatenate(scores, 1),
        {rate: np.concatenate([one[rate] for one in alarms], 1) for rate in RATES},
        {rate: np.concatenate([one[rate] for one in named]) for rate in RATES},
    )


def auroc(
    faulty: NDArray[np.float64],
    clean: NDArray[np.float64],
    weights: NDArray[np.int64],
    clean_weights: NDArray[np.int64],
) -> Values:
    """How likely a faulty item scores above a clean one, ties counted half: [W].

    Args:
        faulty, clean: [N], [K], scores.
        weights, clean_weights: [W, N], [W, K], how often each counts; nan where none does.
    """
    order = clean.argsort()
    below = np.concatenate(
        [np.zeros((len(clean_weights), 1)), clean_weights[:, order].cumsum(1)], 1
    )
    less, most = (np.searchsorted(clean[order], faulty, side) for side in ("left", "right"))
    wins = (weights * (below[:, less] + below[:, most]) / 2).sum(1)
    pairs = weights.sum(1) * clean_weights.sum(1)
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def figures(
    sensor: str,
    faulty: Alarms,
    clean: Alarms,
    changed: NDArray[np.bool_],
    copies: NDArray[np.int64],
) -> dict[str, Values]:
    """Figures [1 + R] of telling that one sensor is faulty, and that it is this one.

    `auroc` is of its score beside its own on clean scenes, `found-RATE` how often it is an alarm,
    `named-RATE` how often this sensor is named and `misled-RATE` how often another.

    Args:
        changed: bool [N], scenes in which the fault changed the picture at all; of others nobody
            can tell.
        copies: [1 + R, N], of the scenes.
    """
    m = list(faulty.sensors).index(sensor)
    places = changed.nonzero()[0]

    def share(of: NDArray[np.bool_]) -> Values:
        return average_of(of[places], places, copies)

    found = {"auroc": auroc(faulty.score[m], clean.score[m], copies * changed, copies)}
    for rate, alarm in faulty.alarm.items():
        named = faulty.named[rate]
        found[f"found-{rate}"] = share(alarm[m])
        found[f"named-{rate}"] = share(named == m)
        found[f"misled-{rate}"] = share((named >= 0) & (named != m))
    return found


def false_alarms(clean: Alarms, copies: NDArray[np.int64]) -> dict[str, Values]:
    """`named-RATE`: the share [1 + R] of clean scenes of which a sensor is named."""
    return {f"named-{rate}": average(named >= 0, copies) for rate, named in clean.named.items()}

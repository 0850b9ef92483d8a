"""Which sensor lies: how well each agrees with the others, thresholds, what to leave out.

Each sensor is held against the joint posterior of the others (leave one out). What is unusual is
judged against clean items, set by set: with fewer sensors to agree with, each agrees less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from models import inputs, likelihoods
from models.mixture import Draws, Mixture
from models.params import RATES
from models.plan import subsets

if TYPE_CHECKING:
    from models.vae import MultimodalVAE

__all__ = [
    "Calibration",
    "Consistency",
    "Generated",
    "applies",
    "calibrated",
    "examined",
    "quantile",
    "rejecting",
]

MOST = 4096  # clean items that thresholds are taken from, the first
BATCH = 256  # of them at once
# Of so many sensors all sets are calibrated; of more, the full one and those of one less.
EVERY_SET = 6


class Generated(dict[str, Tensor]):
    """Modality -> what is generated of it.

    Attributes:
        rejected: sensor -> bool [B] of those available: which items left it out; empty where
            `reject` was none.
    """

    def __init__(self, values: Mapping[str, Tensor], rejected: Mapping[str, Tensor]) -> None:
        super().__init__(values)
        self.rejected = dict(rejected)


@dataclass(frozen=True)
class Consistency:
    """How well each sensor agrees with the others, item by item; more is worse.

    Attributes:
        sensors: those available.
        innovation: [M, B], sum_d (mean_i - m)^2 / (var_i + v) of expert i and the others' joint
            posterior N(m, v): chi-squared with L degrees of freedom where both are right. Of a
            mixture of components c it is -2 log sum_c w_c exp(-innovation_c / 2).
        cross: [M, B], -log p(x_i | m) in nats, without the likelihood's weight.
        alone: [M, M, B], -log p(x_i | the posterior's mean given sensor j alone).
        closest: [M, B], the least of `cross` and of `alone` from each other sensor. A faulty one
            among the others spoils `cross`, and not what a sound one says.
        score: [M, B], what is decided by; None where the model is not calibrated.
        limits: rate of false alarms -> [M, B], above which a score is an alarm; None as `score`.
    """

    sensors: tuple[str, ...]
    innovation: Tensor
    cross: Tensor
    alone: Tensor
    closest: Tensor
    score: Tensor | None = None
    limits: Mapping[float, Tensor] | None = None

    @property
    def own(self) -> Tensor:
        """How badly each sensor's input is made again from itself: [M, B], of `alone`."""
        return self.alone.diagonal().T

    def conflict(self, rate: float = RATES[0]) -> Tensor:
        """Whether any sensor's score is an alarm: bool [B]."""
        return self.alarms(rate).any(0)

    def named(self, rate: float = RATES[0]) -> list[str | None]:
        """The faulty sensor of each item, as `suspect` has it; None if there is none."""
        return [None if i < 0 else self.sensors[i] for i in self.suspect(rate).tolist()]

    def suspect(self, rate: float = RATES[0]) -> Tensor:
        """The place in `sensors` of the worst alarm of each item: int64 [B], -1 if there is none.

        Two sensors contradict each other alike, so that of two neither is.
        """
        alarms = self.alarms(rate) & (len(self.sensors) > 2)
        return _worst(self.score, alarms)  # type: ignore[arg-type]

    def alarms(self, rate: float = RATES[0]) -> Tensor:
        """Which sensors' scores are above their limits: bool [M, B]."""
        if self.score is None or self.limits is None:
            raise ValueError(UNCALIBRATED)
        return self.score > _of(self.limits, rate)


UNCALIBRATED = (
    "calibration: this model has no thresholds, as no older file has; `model.calibrate(clean)` "
    "takes them from clean items"
)


def _of(limits: Mapping[float, Tensor], rate: float) -> Tensor:
    if rate not in limits:
        raise ValueError(f"rate: {rate} is not one of {', '.join(map(str, limits))}")
    return limits[rate]


def _worst(score: Tensor, alarms: Tensor) -> Tensor:
    """Of the alarms [M, B] that of the highest score: [B], -1 where there is none."""
    worst = score.masked_fill(~alarms, -torch.inf).argmax(0)
    return torch.where(alarms.any(0), worst, -1)


def applies(model: MultimodalVAE) -> bool:
    """Whether a model has sensors that can contradict one another, and an expert of each."""
    return len(model.modalities) > 1 and not model.fusion_traits.subset_experts


class _Items:
    """Items that are encoded and decoded once, whatever sets of their sensors are asked about."""

    def __init__(self, model: MultimodalVAE, available: Mapping[str, Tensor], draws: Draws) -> None:
        if model.fusion_traits.subset_experts:
            raise ValueError(
                f"consistency: fusion {model.cell.fusion!r} has no expert of each single sensor"
            )
        self.model, self.draws = model, draws
        self.x = inputs.checked(
            available, model.params.modalities, model.shapes, next(model.parameters())
        )
        self.mean, self.var = model.encode(self.x)  # [M, B, L]
        names = model.modalities
        self.one = torch.eye(len(names), dtype=torch.bool, device=self.mean.device)[..., None]
        there = torch.tensor([[n in self.x] for n in names], device=self.mean.device)
        self.given = there.expand(-1, self.mean.shape[1])  # [M, B]
        self.alone = self._alone()

    def _fits(self, name: str, z: Tensor) -> Tensor:
        """log p(x|z) of one modality, without its weight, of z [S, B, L]: [S, B]."""
        output = self.model.decode(name, z.flatten(0, 1)).unflatten(0, z.shape[:2])
        return likelihoods.log_prob(self.model.params.modalities[name], self.x[name], output)

    def _alone(self) -> Tensor:
        """-log p(x_i | sensor j alone): [M, M, B]; of what is not available 0."""
        sets = torch.where(self.given[:, None], self.one, self.given)  # no set is empty
        posterior = self.model.fused(self.mean, self.var, sets, self.draws)
        # Of a mixture one component is alive.
        alive = posterior.log_weight.argmax(0)[None, ..., None].expand(1, *self.mean.shape)
        z = posterior.mean.gather(0, alive)[0]
        blank = self.mean.new_zeros(self.mean.shape[:2])
        return torch.stack(
            [-self._fits(n, z) if n in self.x else blank for n in self.model.modalities]
        )

    def against(self, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`innovation`, `cross` and `closest` [M, B] among the sensors given.

        Of a sensor that is not given, no matter what.

        Args:
            given: bool [M, B], two sensors or more of each item.
        """
        sets = torch.where(given[:, None], given & ~self.one, given)  # [M, M, B]
        posterior = self.model.fused(self.mean, self.var, sets, self.draws)  # [C, M, B, L]
        gap = (self.mean - posterior.mean).square() / (self.var + posterior.var)
        innovation = -2 * (posterior.log_weight - gap.sum(-1) / 2).logsumexp(0)
        cross = torch.stack([-self._cross(i, posterior) for i in range(len(sets))])
        others = given & ~self.one  # [i, j, B]
        closest = torch.where(others, self.alone, torch.inf).amin(1).minimum(cross)
        return innovation, cross, closest

    def _cross(self, i: int, posterior: Mixture) -> Tensor:
        """log p(x_i | the others' posterior) [B], that of term i; of a mixture the density."""
        name = self.model.modalities[i]
        if name not in self.x:
            return self.mean.new_zeros(self.mean.shape[1])
        weight = posterior.log_weight[:, i]
        alive = weight.isfinite().any(1)
        return (self._fits(name, posterior.mean[alive, i]) + weight[alive]).logsumexp(0)


@dataclass(frozen=True)
class Calibration:
    """How clean items score, set by set: with fewer sensors to agree with, each agrees less.

    The score of sensor i is the larger of two: how badly it is made again from itself (it shows
    what no sensor sees), and the sum of how badly the others explain it, by `closest`, and how
    badly it explains any of the others (it shows something else than they do). All of them are
    0 at clean items' median and 1 where 5 % of them lie above.

    Attributes:
        items: how many there were.
        pairs: [2, M, M], of `alone` the median, and how far above it 5 % of the items lie.
        sets: bool [S, M], the sets of sensors.
        closest: [2, S, M], the same of `closest`.
        limits: rate of false alarms -> [S, M], above which no more than that share of items score.
    """

    items: int
    pairs: Tensor
    sets: Tensor
    closest: Tensor
    limits: Mapping[float, Tensor]

    def judged(
        self, alone: Tensor, closest: Tensor, given: Tensor
    ) -> tuple[Tensor, dict[float, Tensor]]:
        """The scores [M, B] of items, and the limits [M, B].

        Minus infinity for a sensor that is not given, infinite limits in a set that is not known.

        Args:
            alone: [M, M, B].
            closest: [M, B], among the sensors given.
            given: bool [M, B], the sensors of each item.
        """
        same = (self.sets.to(given.device)[..., None] == given).all(1)  # [S, B]
        row, known = same.int().argmax(0), same.any(0)
        unlike = _standard(closest, self.closest.to(given.device)[:, row].movedim(1, 2))
        score = _score(_standard(alone, self.pairs.to(given.device)[..., None]), unlike, given)
        limits = {
            rate: torch.where(known, limit.to(given.device)[row].T, torch.inf)
            for rate, limit in self.limits.items()
        }
        return score, limits

    def to_json(self) -> dict[str, Any]:
        """As a model's file has it: rows are sets, columns sensors."""
        return {
            "items": self.items,
            "rates": list(self.limits),
            "sets": self.sets.tolist(),
            "pairs": self.pairs.tolist(),
            "closest": self.closest.tolist(),
            "limits": [limit.tolist() for limit in self.limits.values()],
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Calibration:
        """What `to_json` gave."""
        pairs, closest = (torch.tensor(kept[k], dtype=torch.float64) for k in ("pairs", "closest"))
        limits = (torch.tensor(limit, dtype=torch.float64) for limit in kept["limits"])
        of_rate = dict(zip(kept["rates"], limits, strict=True))
        return cls(kept["items"], pairs, torch.tensor(kept["sets"]), closest, of_rate)


def _score(alone: Tensor, closest: Tensor, given: Tensor) -> Tensor:
    """The scores [M, B] of `alone` [M, M, B] and `closest` [M, B] as clean items have them."""
    one = torch.eye(len(given), dtype=torch.bool, device=given.device)[..., None]
    explains = torch.where(given[:, None] & ~one, alone, torch.inf).amin(0)  # any other, by j
    return (closest + explains).maximum(alone.diagonal().T).masked_fill(~given, -torch.inf)


def _standard(values: Tensor, clean: Tensor) -> Tensor:
    """The values by the median and spread [2, ...] of clean items."""
    return (values.double() - clean[0]) / clean[1]


def _measured(values: Tensor) -> Tensor:
    """The median of `values` [..., N], and how far above it 5 % of them lie: [2, ...]."""
    centre = quantile(values, 0.5)
    return torch.stack([centre, (quantile(values, 0.95) - centre).clamp(min=1e-6)])


def quantile(values: Tensor, share: float) -> Tensor:
    """The least of the values [..., N] that at least this share of them does not exceed: [...]."""
    count = values.shape[-1]
    rank = math.ceil(share * count - 1e-9)  # 0.99 * 100 is a little above 99
    return values.sort(-1).values[..., max(rank, 1) - 1]


def calibrated(model: MultimodalVAE, clean: Mapping[str, Tensor], seed: int) -> Calibration:
    """The thresholds of clean items: see `MultimodalVAE.calibrate`."""
    names, draws = model.modalities, Draws(torch.Generator(model.device).manual_seed(seed))
    if absent := sorted(set(names) - set(clean)):
        raise ValueError(f"clean: {absent} is missing; a calibration needs every modality")
    if len(names) < 2:
        raise ValueError(f"clean: the model has one sensor, {names[0]}, and no other to agree with")
    sets = _sets(len(names))
    pairs: list[Tensor] = []
    closest: list[list[Tensor]] = [[] for _ in sets]
    for start in range(0, min(MOST, len(clean[names[0]])), BATCH):
        end = min(start + BATCH, MOST)
        items = _Items(model, {n: x[start:end] for n, x in clean.items()}, draws)
        pairs.append(items.alone.double().cpu())
        for one, kept in zip(sets, closest, strict=True):
            among = one.to(items.given.device)[:, None] & items.given
            kept.append(items.against(among)[2].double().cpu())
    alone, each = torch.cat(pairs, -1), [torch.cat(kept, -1) for kept in closest]  # S of [M, N]
    of_pairs, of_sets = _measured(alone), [_measured(one) for one in each]
    of_alone = _standard(alone, of_pairs[..., None])
    scores = [
        _score(of_alone, _standard(one, of[..., None]), among[:, None].expand_as(one))
        for one, of, among in zip(each, of_sets, sets, strict=True)
    ]
    limits = {rate: quantile(torch.stack(scores), 1 - rate) for rate in RATES}
    # A sensor that is not in a set has no limit there, and JSON no infinity.
    limits = {rate: torch.where(sets, limit, 0.0) for rate, limit in limits.items()}
    return Calibration(alone.shape[-1], of_pairs, sets, torch.stack(of_sets, 1), limits)


def _sets(count: int) -> Tensor:
    """The sets that are calibrated: bool [S, M]."""
    least = 2 if count <= EVERY_SET else count - 1
    return torch.tensor([members for members in subsets(count) if sum(members) >= least])


def examined(model: MultimodalVAE, available: Mapping[str, Tensor], draws: Draws) -> Consistency:
    """`MultimodalVAE.consistency`."""
    items = _Items(model, available, draws)
    sensors = tuple(items.x)
    if len(sensors) < 2:
        raise ValueError(f"available: {sensors[0]} alone has no other sensor to agree with")
    there = items.given[:, 0]
    innovation, cross, closest = items.against(items.given)
    seen = innovation[there], cross[there], items.alone[there][:, there], closest[there]
    if model.calibration is None:
        return Consistency(sensors, *seen)
    score, limits = model.calibration.judged(items.alone, closest, items.given)
    return Consistency(sensors, *seen, score[there], {r: of[there] for r, of in limits.items()})


def rejecting(
    model: MultimodalVAE, available: Mapping[str, Tensor], rate: float, draws: Draws
) -> tuple[Mixture, dict[str, Tensor]]:
    """The joint posterior without the sensors that are flagged, and sensor -> which items, [B].

    One sensor of an item goes at a time, that of the worst alarm, as long as three are left; then
    the others are judged anew, without it.
    """
    if model.calibration is None:
        raise ValueError(UNCALIBRATED)
    items = _Items(model, available, draws)
    given = items.given
    for _ in range(len(items.x) - 2):
        score, limits = model.calibration.judged(items.alone, items.against(given)[2], given)
        worst = _worst(score, score > _of(limits, rate))
        given = given & (torch.arange(len(given), device=given.device)[:, None] != worst)
    posterior = model.fused(items.mean, items.var, given[None], draws)
    return posterior, {
        name: ~kept for name, kept in zip(model.modalities, given, strict=True) if name in items.x
    }

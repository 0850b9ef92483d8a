"""What an objective decides: terms, the experts they see, their targets and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

__all__ = ["Layout", "Plan", "constant", "subsets"]


def subsets(modalities: int) -> list[tuple[bool, ...]]:
    """The 2^M - 1 non-empty subsets, smallest first, the full set last."""
    every = list(product((True, False), repeat=modalities))[:-1]
    return sorted(every, key=sum)


@lru_cache(maxsize=64)
def constant(rows: tuple[tuple[bool, ...], ...], device: torch.device) -> Tensor:
    """These rows as a bool tensor, copied to the device once: a copy a step would wait for it."""
    with torch.inference_mode(False):  # whoever asks first, training may use it later
        return torch.tensor(rows, device=device)


@dataclass(frozen=True)
class Layout:
    """The sizes an objective plans for.

    Attributes:
        covers: bool [E, M]: the modalities that each expert reads.
        batch, latent: B and L.
        like: a tensor of the posterior's dtype and device.
        own: the objective's own parameters, if it has any.
        beta: the cell's weight of the KL to the prior, for an objective with KL terms of its own.
    """

    covers: Tensor
    batch: int
    latent: int
    like: Tensor
    own: Mapping[str, Tensor] = field(default_factory=dict)
    beta: float = 1.0

    @property
    def modalities(self) -> int:
        """The number M of modalities."""
        return self.covers.shape[1]

    def every_subset(self) -> Tensor:
        """The non-empty subsets: bool [2^M - 1, M]."""
        return constant(tuple(subsets(self.modalities)), self.like.device)

    def full(self) -> Tensor:
        """The full set: bool [1, M]."""
        return torch.ones(1, self.modalities, dtype=torch.bool, device=self.like.device)

    def sees(self, given: Tensor) -> Tensor:
        """Experts whose inputs all lie in `given` [T, M] or [T, M, B]: bool [E, T, B|1]."""
        given = given if given.ndim == 3 else given[..., None]
        covers = self.covers[:, None, :, None]
        return (given | ~covers).all(2)


@dataclass(frozen=True)
class Plan:
    """Terms of the bound to maximise (T terms, E experts, M modalities, B batch, L latent).

    Attributes:
        present: bool [E, T, B|1]: the experts that a term sees.
        keep: bool [E, T, B, L] or None; where False an expert reverts to the prior.
        target: [M, T, B|1] or None (all 1): weights of what a term reconstructs.
        beta: weight of the KL to the prior.
        cross: {expert: weight} of the KLs from the joint posterior to single experts.
        links: {(t, u): weight} of the KLs from term t's posterior to term u's, to the prior where u
            is None; a weight is a number or [B]. They count in term t.
        heads: indices [M, D, B|1] of the D terms that each modality is decoded from, or None (all);
            of other terms it is not reconstructed.
        static: the same experts are present in every step, so that the components of a mixture that
            are absent are looked up once, and not decoded.
        weight: [T] or None (all 1): each term's share; its fit and KL are reported without it.
        entropy: nats that a nat of the weights' entropy is worth.
    """

    present: Tensor
    keep: Tensor | None = None
    target: Tensor | None = None
    beta: float = 1.0
    cross: dict[int, float] = field(default_factory=dict)
    links: dict[tuple[int, int | None], float | Tensor] = field(default_factory=dict)
    heads: Tensor | None = None
    static: bool = False
    weight: Tensor | None = None
    entropy: float = 0.0

    def weighted(self, value: Tensor) -> Tensor:
        """Terms [T, B] -> w_t (value_t - entropy log w_t), whose sum has entropy * H(w)."""
        if self.weight is None:
            return value
        weight = self.weight[:, None]
        return weight * (value - self.entropy * weight.log())

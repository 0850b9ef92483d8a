"""Joint posteriors: experts, weighted mixtures of diagonal Gaussians, and random draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

__all__ = ["Draws", "Experts", "Mixture", "gaussian", "gaussian_kl", "gaussian_log_prob"]


def gaussian_log_prob(z: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """log N(z; mean, diag(var)), summed over the last axis."""
    return -0.5 * ((z - mean).square() / var + var.log() + math.log(2 * math.pi)).sum(-1)


def gaussian_kl(mean: Tensor, var: Tensor, mean2: Tensor, var2: Tensor) -> Tensor:
    """KL(N(mean, var) || N(mean2, var2)), summed over the last axis."""
    ratio = var / var2
    return 0.5 * (ratio + (mean - mean2).square() / var2 - 1 - ratio.log()).sum(-1)


@dataclass(frozen=True)
class Draws:
    """Where a call's random numbers come from: a generator, or tensors the caller keyed.

    Attributes:
        generator: on the device of the model; training uses this.
        uniforms: [B, L] in [0, 1): decides random fusions and a mixture's component (column 0).
        normals: [B, L]: the noise of one posterior sample.
    """

    generator: torch.Generator | None = None
    uniforms: Tensor | None = None
    normals: Tensor | None = None

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) of the given shape (last axes [B, L])."""
        if self.uniforms is not None:
            # In float32 a number just below 1 may have become 1.
            return self.uniforms.to(like).clamp(max=1 - 2**-24).expand(shape)
        return torch.rand(shape, generator=self._generator(), device=like.device, dtype=like.dtype)

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers of the given shape (last axes [B, L])."""
        if self.normals is not None:
            return self.normals.to(like).expand(shape)
        return torch.randn(shape, generator=self._generator(), device=like.device, dtype=like.dtype)

    def _generator(self) -> torch.Generator:
        if self.generator is None:
            raise ValueError(
                "this posterior is random: give a generator, or uniforms and normals [B, L]"
            )
        return self.generator


@dataclass(frozen=True)
class Experts:
    """Unimodal posteriors in E experts and T terms, and which of them a term sees.

    Attributes:
        mean, var: [E, T|1, B, L].
        present: bool [E, T, B|1, 1]; what an absent expert holds is never read.
        own: the fusion's own parameters, if it has any.
    """

    mean: Tensor
    var: Tensor
    present: Tensor
    own: Mapping[str, Tensor] = field(default_factory=dict)

    def total(self, values: Tensor) -> Tensor:
        """Sum of `values` [E, T|1, B, L] over the experts present: [T, B, L]."""
        return torch.where(self.present, values, 0.0).sum(0)

    def reverted(self, keep: Tensor) -> Experts:
        """Elements where keep [E, T, B, L] is 0 become the prior expert's (eqs. 13, 14)."""
        return replace(
            self, mean=torch.where(keep, self.mean, 0.0), var=torch.where(keep, self.var, 1.0)
        )

    def chosen(self, choice: Tensor) -> Mixture:
        """The Gaussian made of expert choice [T, B, L] (an index) in each element."""
        shape = (self.mean.shape[0], *choice.shape)
        pick = choice.unsqueeze(0)
        return gaussian(
            self.mean.expand(shape).gather(0, pick)[0], self.var.expand(shape).gather(0, pick)[0]
        )


@dataclass(frozen=True)
class Mixture:
    """A weighted mixture of C diagonal Gaussians for each of T terms.

    Attributes:
        mean, var: [C, T, B, L].
        log_weight: [C, T, B|1], -inf where a component is absent.
    """

    mean: Tensor
    var: Tensor
    log_weight: Tensor

    @property
    def weight(self) -> Tensor:
        """Component weights [C, T, B|1]; they sum to 1 over C."""
        return self.log_weight.exp()

    def component(
        self, index: int | None, draws: Draws, or_drawn: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance [B, L] of component `index` of the first term.

        Args:
            index: by default drawn for each item by its weight.
            draws: what it is drawn with.
            or_drawn: items in which component `index` is absent draw theirs.

        Raises:
            ValueError: there is no such component, or it is absent.
        """
        mean, var, weight = self.mean[:, 0], self.var[:, 0], self.weight[:, 0]  # [C, B|1]
        alive = weight > 0
        if index is not None:
            if not 0 <= index < len(mean):
                raise ValueError(f"component: {index} is not in 0 .. {len(mean) - 1}")
            if alive[index].all():
                return mean[index], var[index]
            if not or_drawn:
                raise ValueError(f"component: {index} needs modalities that are not available")
        living = alive.any(1).nonzero().flatten()
        if len(living) == 1:
            return mean[living[0]], var[living[0]]
        drawn = draws.uniform(tuple(mean.shape[1:]), mean)[:, 0]
        order = torch.arange(len(mean), device=mean.device)[:, None]
        # Rounding must not reach an absent component.
        last = torch.where(alive, order, 0).amax(0)
        chosen = (drawn >= weight.cumsum(0)).sum(0).minimum(last)
        if index is not None:
            chosen = torch.where(alive[index], index, chosen)
        items = torch.arange(len(chosen), device=chosen.device)
        return mean[chosen, items], var[chosen, items]

    def detached(self) -> Mixture:
        """The same mixture, through which no gradient flows."""
        return Mixture(self.mean.detach(), self.var.detach(), self.log_weight)

    def sample(self, samples: int, draws: Draws) -> Tensor:
        """K reparametrised draws of every component (stratified): [K, C, T, B, L]."""
        noise = draws.normal((samples, *self.mean.shape), self.mean)
        return self.mean + self.var.sqrt() * noise

    def component_log_prob(self, z: Tensor) -> Tensor:
        """log q_c(z) of the component that z [K, C, T, B, L] was drawn from: [K, C, T, B]."""
        return gaussian_log_prob(z, self.mean, self.var)

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z) of the whole mixture at z [..., T, B, L]: [..., T, B]."""
        if self.mean.shape[0] == 1:
            return gaussian_log_prob(z, self.mean[0], self.var[0])
        each = [
            gaussian_log_prob(z, mean, var) + log_weight
            for mean, var, log_weight in zip(self.mean, self.var, self.log_weight, strict=True)
        ]
        return torch.stack(each).logsumexp(0)

    def kl_bound(self, other: Mixture) -> Tensor:
        """An upper bound of KL(q || other) [T, B]; the KL itself where both are one Gaussian.

        sum_c w_c KL(q_c || other), as the KL is convex, where for an `other` of components d with
        weights v_d: KL(q_c || other) <= -log sum_d v_d exp(-KL(q_c || other_d)) (Hershey and Olsen
        2007, eq. 20, for one component on the left).
        """
        each = [
            gaussian_kl(self.mean, self.var, mean, var)
            for mean, var in zip(other.mean, other.var, strict=True)
        ]
        if len(each) == 1:
            return (self.weight * each[0]).sum(0)
        near = torch.stack([w - kl for w, kl in zip(other.log_weight, each, strict=True)])
        return -(self.weight * near.logsumexp(0)).sum(0)

    def term(self, index: int) -> Mixture:
        """The posterior of one term, as a mixture with T = 1."""
        one = slice(index, index + 1)
        return Mixture(self.mean[:, one], self.var[:, one], self.log_weight[:, one])


def gaussian(mean: Tensor, var: Tensor) -> Mixture:
    """The mixture of one Gaussian with mean, var [T, B, L]."""
    return Mixture(mean[None], var[None], mean.new_zeros(1, mean.shape[0], 1))

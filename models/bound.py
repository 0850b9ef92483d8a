"""The bound of one batch, from its posteriors and what was drawn from them and decoded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from models.mixture import Draws, Mixture, gaussian, gaussian_log_prob
from models.params import Cell
from models.plan import Plan

if TYPE_CHECKING:
    from models.vae import MultimodalVAE

__all__ = ["Bound", "elbo", "evidence", "importance_weighted"]

TOGETHER = 512  # latents that `evidence` decodes at once, for each item


@dataclass(frozen=True)
class Bound:
    """The bound of one batch and what it is made of.

    Attributes:
        value: [T, B] nats: what training maximises, summed over the terms.
        reconstruction: [M, T] mean over the batch of the expected weighted log p(x_m|z).
        kl: [T] mean KL to the prior at K = 1 (sampled log q - log p for K > 1).
        encoded: [E] sum of each expert's means and variances: tells which encoder went wrong.
    """

    value: Tensor
    reconstruction: Tensor
    kl: Tensor
    encoded: Tensor


def elbo(
    cell: Cell,
    plan: Plan,
    posterior: Mixture,
    experts: tuple[Tensor, Tensor],
    z: Tensor,
    log_p: Tensor,
    kl_weight: float | Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """K = 1: sum_c w_c sum_m log p(x_m|z_c) - KL terms; the KL analytic where there is one.

    Args:
        cell, plan, posterior: which KL terms there are, of what, and how they are estimated.
        experts: mean and variance [E, B, L] of single experts.
        z: [C, T, B, L], one draw of every component.
        log_p: [M, C, T, B], the weighted log p(x_m|z).
        kl_weight: factor on all KL terms.

    Returns:
        The value [T, B], the fit [M, T, B] and the KL to the prior [T, B].
    """
    weight = posterior.weight
    fit = (weight * log_p).sum(1)  # [M, T, B]
    zero = torch.zeros_like(z[0])
    prior = gaussian(zero, zero + 1)
    kl = _kl(cell, z, posterior, prior)
    penalty: Tensor = plan.beta * cell.beta * kl
    for expert, factor in plan.cross.items():
        single = gaussian(experts[0][None, expert], experts[1][None, expert])
        penalty = penalty + factor * _kl(cell, z, posterior, single)
    for (term, other), share in plan.links.items():
        to = (prior if other is None else posterior).term(other or 0)
        one: Tensor = share * _kl(cell, z[:, term, None], posterior.term(term), to)
        penalty = penalty + F.pad(one, (0, 0, term, len(kl) - 1 - term))
    return fit.sum(0) - kl_weight * penalty, fit, kl


def _kl(cell: Cell, z: Tensor, posterior: Mixture, other: Mixture) -> Tensor:
    """KL(q || other) [T, B]: analytic, or log q - log other at the drawn points."""
    one = len(posterior.mean) == 1
    if cell.gradient == "standard" and (one or cell.kl == "bound"):
        return posterior.kl_bound(other)
    q = posterior.detached() if cell.gradient == "stl" else posterior
    log_q = q.log_prob(z) if cell.kl == "sampled" else q.component_log_prob(z)
    return (posterior.weight * (log_q - other.log_prob(z))).sum(0)


def importance_weighted(
    cell: Cell, posterior: Mixture, z: Tensor, log_p: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """K > 1: sum_c w_c log 1/K sum_k p(x, z_ck) / q(z_ck), the strata outside the log.

    Args:
        cell: the gradient's estimator.
        posterior: q.
        z: [K, C, T, B, L], K draws of every component.
        log_p: [M, K, C, T, B], the weighted log p(x_m|z).

    Returns:
        The value [T, B], the fit [M, T, B] and log q - log p(z) [T, B].
    """
    score = cell.gradient == "standard"
    q = posterior if score else posterior.detached()
    zero = torch.zeros_like(z[0, 0, 0])
    kl = q.log_prob(z) - gaussian_log_prob(z, zero, zero + 1)
    log_w = log_p.sum(0) - kl  # [K, C, T, B]
    share = log_w.detach().softmax(0)
    if cell.gradient == "dreg":
        if z.requires_grad:
            z.register_hook(lambda grad: grad * share.unsqueeze(-1))
        each = (share * (log_w - log_w.detach())).sum(0)
        each = each + log_w.detach().logsumexp(0) - math.log(len(log_w))
    else:
        each = log_w.logsumexp(0) - math.log(len(log_w))
    weight = posterior.weight
    value = (weight * each).sum(0)
    fit = (weight * (share * log_p).sum(1)).sum(1)
    return value, fit, (weight * (share * kl).sum(0)).sum(0)


def evidence(
    model: MultimodalVAE, x: Mapping[str, Tensor], samples: int, generator: torch.Generator
) -> Tensor:
    """`MultimodalVAE.log_likelihood` of prepared data: [B] nats."""
    draws = Draws(generator)
    posterior = model.posterior(x, draws=draws)
    together = max(1, TOGETHER // (len(posterior.mean) * posterior.mean.shape[2]))
    weights = [
        _log_weights(model, x, posterior, min(together, samples - done), draws)
        for done in range(0, samples, together)
    ]
    return torch.cat(weights).logsumexp(0) - math.log(samples)


def _log_weights(
    model: MultimodalVAE, x: Mapping[str, Tensor], posterior: Mixture, samples: int, draws: Draws
) -> Tensor:
    """log sum_c w_c p(x, z_c) / q(z_c) for K draws of each component: [K, B]."""
    z = posterior.sample(samples, draws)  # [K, C, 1, B, L]
    log_p = model.log_likelihoods(x, z.flatten(0, 2)).sum(0).unflatten(0, z.shape[:2])
    prior = gaussian_log_prob(z, torch.zeros_like(z), torch.ones_like(z))
    log_w = log_p + (prior - posterior.log_prob(z) + posterior.log_weight)[:, :, 0]
    return log_w.logsumexp(1)

"""Decoding from a subset of the modalities, with draws that no batching changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.likelihoods import expected
from models.mixture import Draws
from models.vae import MultimodalVAE

__all__ = [
    "Decoded",
    "Items",
    "as_data",
    "best_component",
    "components",
    "decode",
    "keyed",
    "name_of",
    "named",
    "sample",
]

BATCH = 256  # items decoded at once; no score depends on it

Decoded = dict[str, NDArray[Any]]
"""Modality -> what is decoded of it, as `as_data` gives it."""


@dataclass(frozen=True)
class Items:
    """What is scored, such as scenes: their numbers, what was seen of them, what is true of them.

    Attributes:
        numbers: int64 [N], in the data set; they key the draws.
        seen: modality -> [N, ...] as models take it.
        truths: modality -> what the judge holds against that modality, N of them.
    """

    numbers: NDArray[np.int64]
    seen: Mapping[str, NDArray[Any]]
    truths: Mapping[str, Any]


def as_data(decoded: torch.Tensor) -> NDArray[Any]:
    """Images [B, C, H, W] in [0, 1] as uint8 [B, H, W, C]; anything else as float32."""
    decoded = decoded.float()
    if decoded.ndim == 4:
        decoded = (decoded.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return decoded.cpu().numpy()


def keyed(seed: int, numbers: NDArray[np.int64], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniform and normal draws [B, size] that depend on the seed and the item's number alone."""
    uniforms, normals = np.empty((2, len(numbers), size), np.float32)
    for row, number in enumerate(numbers):
        generator = np.random.default_rng([seed, int(number)])
        uniforms[row] = generator.random(size, dtype=np.float32)
        normals[row] = generator.standard_normal(size, dtype=np.float32)
    return torch.from_numpy(uniforms), torch.from_numpy(normals)


@torch.inference_mode()
def decode(
    vae: MultimodalVAE,
    items: Items,
    given: Sequence[str],
    *,
    seed: int,
    point: Literal["mean", "sample"] = "mean",
    component: int | None = None,
    missing: Literal["absent", "prior"] = "absent",
    reject: Literal["none", "auto"] = "none",
) -> Decoded:
    """What the VAE generates for every modality from those in `given`.

    Args:
        seed: of the draws of random fusions, mixtures and samples; keyed by the items' numbers.
        point: of the posterior, which is decoded.
        component: of a mixture, decoded for all items; None draws one an item.
        missing: a missing modality has no expert (absent), or the prior for an expert.
        reject: whether each item leaves out the sensors that the model flags.
    """
    parts: list[Decoded] = []
    for start in range(0, len(items.numbers), BATCH):
        rows = slice(start, start + BATCH)
        uniforms, normals = keyed(seed, items.numbers[rows], vae.params.latent)
        decoded = vae.generate(
            {m: torch.from_numpy(items.seen[m][rows]) for m in given},
            point=point,
            component=component,
            missing=missing,
            reject=reject,
            uniforms=uniforms,
            normals=normals,
        )
        parts.append({m: as_data(x) for m, x in decoded.items()})
    return {m: np.concatenate([part[m] for part in parts]) for m in parts[0]}


@torch.inference_mode()
def sample(vae: MultimodalVAE, modalities: Sequence[str], count: int, seed: int) -> Decoded:
    """These modalities of `count` samples of the prior, keyed by their number."""
    parts: list[Decoded] = []
    for start in range(0, count, BATCH):
        numbers = np.arange(start, min(start + BATCH, count))
        z = keyed(seed, numbers, vae.params.latent)[1].to(vae.device)
        parts.append(
            {m: as_data(expected(vae.params.modalities[m], vae.decode(m, z))) for m in modalities}
        )
    return {m: np.concatenate([part[m] for part in parts]) for m in modalities}


def components(vae: MultimodalVAE, items: Items, given: Sequence[str]) -> list[int]:
    """The posterior's components that are alive given these modalities, seen on one item."""
    one = {m: torch.from_numpy(items.seen[m][:1]) for m in given}
    draws = Draws(uniforms=torch.zeros(1, vae.params.latent))
    with torch.inference_mode():
        weight = vae.posterior(one, draws=draws).log_weight[:, 0, 0]
    return [int(c) for c in weight.isfinite().nonzero().flatten()]


def name_of(vae: MultimodalVAE, items: Items, component: int | None) -> str | int | None:
    """The modalities without which a component is not alive, as in image or image+text.

    Its place alone does not tell: mopoe has a component for each subset, and the first modality's
    is not the first of them. Of one that lives whatever is missing, the place is all there is.
    """
    if component is None:
        return None
    needed = [
        m
        for m in vae.modalities
        if len(vae.modalities) > 1
        and component not in components(vae, items, [o for o in vae.modalities if o != m])
    ]
    return "+".join(needed) or component


def named(vae: MultimodalVAE, items: Items) -> dict[str | int | None, int]:
    """The component that each name of `name_of` is."""
    return {
        name_of(vae, items, component): component
        for component in components(vae, items, vae.modalities)
    }


def best_component(live: Sequence[int], quality: Callable[[int], float]) -> int | None:
    """The component of the best quality; None if there is but one, which needs no choice.

    The paper scores moe by its best modality; which one that is, is chosen on held-out items.
    """
    return max(live, key=quality) if len(live) > 1 else None

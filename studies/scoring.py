"""Decoding from a subset of the modalities, with draws that no batching changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from models.mixture import Draws, Mixture
from models.vae import MultimodalVAE

__all__ = ["Decoded", "best_component", "components", "decode", "name_of", "sample"]

BATCH = 500  # items decoded at once; no score depends on it
Decoded = dict[str, np.ndarray]


@torch.inference_mode()
def decode(
    vae: MultimodalVAE,
    seen: Mapping[str, np.ndarray],
    *,
    seed: int,
    point: Literal["mean", "sample"],
    component: int | None = None,
    missing: str = "absent",
    rows: NDArray[np.int64] | None = None,
) -> Decoded:
    """Every modality, decoded from one point of the posterior given `seen` [N, ...].

    Draws are rows of two tables keyed by the seed: a pair has its own row of each in any batch,
    and among any other pairs.

    Args:
        rows: which pairs of their split these are [N]; the first ones if left out.
    """
    count, latent = len(next(iter(seen.values()))), vae.params.latent
    rows = np.arange(count) if rows is None else rows
    size = (int(rows.max(initial=-1)) + 1, latent)
    # Streams of their own, so that a longer table of one does not move the other.
    streams = [np.random.default_rng([seed, latent, stream]) for stream in (0, 1)]
    uniforms = torch.from_numpy(streams[0].random(size, np.float32)[rows])
    normals = torch.from_numpy(streams[1].standard_normal(size, np.float32)[rows])
    parts: list[dict[str, torch.Tensor]] = []
    for start in range(0, count, BATCH):
        few = slice(start, start + BATCH)
        parts.append(
            vae.generate(
                {name: torch.from_numpy(x[few]) for name, x in seen.items()},
                point=point,
                component=component,
                missing=missing,
                uniforms=uniforms[few],
                normals=normals[few],
            )
        )
    return {m: torch.cat([part[m] for part in parts]).cpu().numpy() for m in parts[0]}


@torch.inference_mode()
def sample(vae: MultimodalVAE, count: int, seed: int) -> Decoded:
    """Every modality, decoded from `count` draws of the prior."""
    generator = torch.Generator(vae.device).manual_seed(seed)
    parts = [vae.sample(min(BATCH, count - start), generator) for start in range(0, count, BATCH)]
    return {m: torch.cat([part[m] for part in parts]).cpu().numpy() for m in parts[0]}


def components(vae: MultimodalVAE, seen: Mapping[str, np.ndarray]) -> int:
    """How many components the posterior of all modalities has: 1 unless it is a mixture."""
    return len(_posterior(vae, seen).mean)


def name_of(
    vae: MultimodalVAE, seen: Mapping[str, np.ndarray], component: int | None
) -> str | int | None:
    """The modalities without which a component is not alive, as in image or image+text.

    Its place alone does not tell: mopoe has a component for each subset, and the first modality's
    is not the first of them. Of one that lives whatever is missing, the place is all there is.
    """
    if component is None:
        return None

    def lives_without(modality: str) -> bool:
        others = {m: x for m, x in seen.items() if m != modality}
        return bool(_posterior(vae, others).log_weight[component].isfinite().all())

    return "+".join(m for m in vae.modalities if not lives_without(m)) or component


def best_component(
    vae: MultimodalVAE,
    seen: Mapping[str, np.ndarray],
    score: Callable[[Decoded], Sequence[float]],
    **options: int | str | NDArray[np.int64],
) -> int | None:
    """The mixture's component of the best mean score; None if the posterior is no mixture.

    The paper scores moe by its best modality; which one that is, is chosen on training pairs.
    """
    count = components(vae, seen)
    if count == 1:
        return None

    def quality(component: int) -> float:
        return float(np.mean(score(decode(vae, seen, component=component, **options))))  # type: ignore[arg-type]

    return max(range(count), key=quality)


@torch.inference_mode()
def _posterior(vae: MultimodalVAE, seen: Mapping[str, np.ndarray]) -> Mixture:
    """The posterior of the first item; its components are those of any other."""
    one = {m: torch.from_numpy(x[:1]) for m, x in seen.items()}
    return vae.posterior(one, draws=Draws(uniforms=torch.zeros(1, vae.params.latent)))

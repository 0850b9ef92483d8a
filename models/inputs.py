"""A batch as the networks want it, from what is stored or what a user gives."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from models.params import ModalityParams

__all__ = ["checked", "encodable", "prepared"]


def prepared(name: str, x: Tensor, params: ModalityParams, weight: Tensor) -> Tensor:
    """A stored batch on the model's device; no value is checked.

    uint8 [B, H, W, C] -> float [B, C, H, W] in [0, 1] (channels last in memory); other uint8 ->
    float in [0, 1]; categories -> int64; floating-point tensors -> float.

    Args:
        name: the modality.
        x: the batch.
        params: its likelihood and classes.
        weight: one of the model's, whose device it is and whose type, but at least float32.

    Raises:
        ValueError: names the modality whose type fits neither.
    """
    x = x.to(weight.device)
    wide = torch.promote_types(weight.dtype, torch.float32)
    if params.classes:
        if x.is_floating_point() or x.is_complex():
            raise ValueError(f"{name}: dtype {x.dtype}, expected integers (categories)")
        return x.long()
    if x.dtype == torch.uint8:
        return (x.movedim(-1, 1) if x.ndim == 4 else x).to(wide) / 255
    if not x.is_floating_point():
        raise ValueError(f"{name}: dtype {x.dtype}, expected uint8 or floating point")
    return x.to(wide)


def encodable(x: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """What an encoder reads of a prepared batch: categories as one-hot vectors, channels first."""
    if not classes:
        return x.to(dtype)
    hot = F.one_hot(x, classes).to(dtype)
    return hot.movedim(-1, 1) if hot.ndim == 4 else hot


def checked(
    available: Mapping[str, Tensor],
    modalities: Mapping[str, ModalityParams],
    shapes: Mapping[str, tuple[int, ...]],
    weight: Tensor,
) -> dict[str, Tensor]:
    """The modalities given, checked and prepared, in the order of `shapes`.

    Args:
        available: modality -> batch, as in `prepared`.
        modalities, shapes: of every modality; a shape is (H, W, C), (T, D) or (D,).
        weight: as in `prepared`.

    Raises:
        TypeError: names the modality that is not a tensor.
        ValueError: names the modality that is unknown or has a wrong shape, dtype or range.
    """
    if not available:
        raise ValueError("available: no modality is given; at least one is needed")
    unknown = sorted(set(available) - set(shapes))
    if unknown:
        raise ValueError(f"available: {unknown} is not among {list(shapes)}")
    x = {}
    for name, shape in shapes.items():
        if name in available:
            if not isinstance(given := available[name], Tensor):
                raise TypeError(f"{name}: {type(given).__name__}, expected a torch.Tensor")
            x[name] = prepared(name, given, modalities[name], weight)
            _check(name, x[name], modalities[name], shape, weight.dtype)
    sizes = {name: len(values) for name, values in x.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"available: the modalities differ in batch size: {sizes}")
    return x


def _check(
    name: str, x: Tensor, params: ModalityParams, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Refuse a prepared batch that is not of items of `shape`, or whose values do not fit."""
    image, classes = len(shape) == 3, params.classes
    if classes:
        shape = shape[:-1]
    elif image:
        shape = (shape[2], *shape[:2])
    if not x.ndim or tuple(x.shape[1:]) != shape or not len(x):
        raise ValueError(f"{name}: shape {list(x.shape)}, expected [B, {str(shape)[1:-1]}]")
    low, high = x.min().item(), x.max().item()
    bounded = image or params.likelihood == "bernoulli" or classes
    top, largest = (classes - 1 if classes else 1), torch.finfo(dtype).max
    least, most = (0.0, top) if bounded else (-largest, largest)
    if not least <= low <= high <= most:  # nor NaN
        limits = f"[0, {top}]" if bounded else f"finite numbers of {dtype}"
        raise ValueError(f"{name}: values in [{low:g}, {high:g}], expected {limits}")

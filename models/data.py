"""Arrays as they are stored: checked, and as tensors on the device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from models.params import ModalityParams, VAEParams

__all__ = ["check_alike", "check_mirror", "item_shapes", "resident"]


def resident(
    data: Mapping[str, np.ndarray], params: VAEParams, device: str, where: str = "data"
) -> dict[str, Tensor]:
    """The modalities that `params` names, as stored, on the device.

    Raises:
        TypeError: names the modality that is no array.
        ValueError: names the modality that is missing, or whose rows, shape or values do not fit.
    """
    missing = sorted(set(params.modalities) - set(data))
    if missing:
        raise ValueError(f"modalities: {missing} is not in the {where}, which has {sorted(data)}")
    for name, modality in params.modalities.items():
        _check_form(f"{name} of {where}", data[name], modality)
        _check_values(f"{name} of {where}", data[name], modality)
    counts = {name: len(data[name]) for name in params.modalities}
    if len(set(counts.values())) > 1:
        raise ValueError(f"modalities: row i of each is of the same thing; they have {counts} rows")
    return {name: torch.from_numpy(_plain(data[name])).to(device) for name in params.modalities}


def _check_form(name: str, x: np.ndarray, modality: ModalityParams) -> None:
    """Refuse an array whose type or number of axes no network here takes."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name}: {type(x).__name__}, expected a NumPy array")
    if modality.classes:
        fits = x.dtype.kind in "biu" and x.ndim in (1, 2, 3)
        expected = "integers [N], [N, T] or [N, H, W]"
    else:
        real = x.dtype.kind == "f" and x.dtype.itemsize <= 8  # torch knows no longer ones
        fits = x.ndim in (2, 4) if x.dtype == np.uint8 else real and x.ndim in (2, 3)
        expected = "uint8 [N, H, W, C] (C = 1 for grey), uint8 or float [N, D], or float [N, T, D]"
    if not fits or 0 in x.shape[1:]:
        raise ValueError(f"{name}: {x.dtype} {list(x.shape)}, expected {expected}")


def _check_values(name: str, x: np.ndarray, modality: ModalityParams) -> None:
    """Refuse categories out of range, what is no probability, and what is not finite."""
    if not len(x) or (x.dtype == np.uint8 and not modality.classes):
        return
    low, high = float(x.min()), float(x.max())
    if modality.classes or modality.likelihood == "bernoulli":
        least, most = 0.0, max(modality.classes - 1.0, 1.0)
        expected = f"[0, {most:g}]"
    else:
        most = float(np.finfo(np.float32).max)
        least, expected = -most, "finite numbers of float32"
    if not least <= low <= high <= most:  # nor NaN
        raise ValueError(
            f"{name}: values in [{low:g}, {high:g}], {modality.likelihood} needs {expected}"
        )


def _plain(x: np.ndarray) -> np.ndarray:
    """The array as torch takes it: contiguous, of this machine's byte order, and its own.

    Of the unsigned integers torch indexes those of 8 bits alone; a read-only array makes it warn.
    """
    dtype = np.dtype(np.int64) if x.dtype.kind == "u" and x.dtype.itemsize > 1 else x.dtype
    plain = np.ascontiguousarray(x, dtype.newbyteorder("="))
    return plain if plain.flags.writeable else plain.copy()


def check_alike(held_out: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> None:
    """Refuse validation data of another shape than those trained on."""
    for name, x in held_out.items():
        if x.shape[1:] != seen[name].shape[1:]:
            raise ValueError(
                f"{name} of validation: {list(x.shape)}, expected "
                f"[N, {str(list(seen[name].shape[1:]))[1:]} as in the data"
            )


def check_mirror(params: VAEParams, seen: Mapping[str, Tensor]) -> None:
    """Refuse `training.mirror` with data of which there is no mirror image."""
    for name, x in seen.items():
        if params.training.mirror and (x.ndim != 4 or params.modalities[name].classes):
            raise ValueError(f"training.mirror: {name} is no picture [H, W, C]; use false")


def item_shapes(params: VAEParams, data: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of one item; categories are stored as integers, their last axis is the classes."""
    classes = {name: (m.classes,) if m.classes else () for name, m in params.modalities.items()}
    return {name: (*x.shape[1:], *classes[name]) for name, x in data.items()}

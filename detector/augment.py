"""Random changes of training batches, drawn on the CPU so that a seed means the same anywhere.

A batch is pictures float [B, C, H, W] in 0..1 with boxes [B, M, 4] as fractions of the side and
classes [B, M], -1 where there is no box.
"""

__all__ = ["blur", "colour", "contrast", "place", "resize"]

import math

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.params import Augmentation

VISIBLE = 0.3  # a box of which less than this fraction stays in the picture is dropped
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def resize(pictures: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Bring pictures uint8 [B, H, W, C] to size x size as ultralytics does, by OpenCV, bilinearly.

    It is what `place` does without a change, rounded to bytes.
    """
    if pictures.shape[1:3] == (size, size):
        return pictures
    resized = [cv2.resize(picture, (size, size)) for picture in pictures]
    return np.stack(resized).reshape(len(pictures), size, size, -1)


def place(
    pictures: Tensor, boxes: Tensor, classes: Tensor, size: int, p: Augmentation, g: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror, zoom and shift into size x size; boxes follow, those hardly in sight are dropped."""
    n, device = len(pictures), pictures.device
    zoom = 1 + p.scale * _uniform(n, g)
    mirror = torch.where(torch.rand(n, generator=g) < p.flip, -1.0, 1.0)
    shift = 2 * p.translate * torch.stack([_uniform(n, g), _uniform(n, g)], 1)
    theta = torch.zeros(n, 2, 3)  # from the new picture's coordinates (-1..1) to the old one's
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = mirror / zoom, 1 / zoom, shift
    grid = F.affine_grid(theta.to(device), [n, pictures.shape[1], size, size], align_corners=False)
    moved = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    zoom, mirror, shift = (v.to(device) for v in (zoom, mirror, shift))
    scale = torch.stack([mirror * zoom, zoom], 1)[:, None]
    corners = (boxes.reshape(n, -1, 2) * 2 - 1 - shift[:, None]) * scale
    first, second = ((corners + 1) / 2).reshape(n, -1, 2, 2).unbind(2)
    whole = torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)
    seen = whole.clamp(0, 1)
    keep = _area(seen) > VISIBLE * _area(whole)
    return moved, seen, torch.where(keep, classes, -1)


def colour(pictures: Tensor, p: Augmentation, g: torch.Generator) -> Tensor:
    """Turn the hue and change the saturation of pictures [B, 3, H, W], some to grey."""
    n = len(pictures)
    angle = 2 * math.pi * p.hue * _uniform(n, g)
    strength = 1 + p.saturation * _uniform(n, g)
    strength = torch.where(torch.rand(n, generator=g) < p.greyscale, 0.0, strength)
    turn = torch.zeros(n, 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = strength * angle.cos()
    turn[:, 1, 2] = -strength * angle.sin()
    turn[:, 2, 1] = strength * angle.sin()
    matrix = (torch.linalg.inv(_YIQ) @ turn @ _YIQ).to(pictures.device)
    return torch.einsum("bij,bjhw->bihw", matrix, pictures).clamp(0, 1)


def contrast(pictures: Tensor, p: Augmentation, g: torch.Generator) -> Tensor:
    """Change brightness and contrast; contrast more often down than up, as in a blurry picture."""
    n, device = len(pictures), pictures.device
    bright = (1 + p.brightness * _uniform(n, g)).view(-1, 1, 1, 1).to(device)
    spread = 1 + p.contrast * (1.5 * torch.rand(n, generator=g) - 1)
    mean = pictures.mean((1, 2, 3), keepdim=True)
    spread = spread.view(-1, 1, 1, 1).to(device)
    return (((pictures - mean) * spread + mean) * bright).clamp(0, 1)


def blur(pictures: Tensor, p: Augmentation, g: torch.Generator) -> Tensor:
    """Blur half of the pictures by a Gaussian of random width."""
    n, channels = pictures.shape[:2]
    sigma = p.blur * torch.rand(n, generator=g) * (torch.rand(n, generator=g) < 0.5)
    radius = math.ceil(3 * p.blur)
    steps = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (steps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(pictures).repeat_interleave(channels, 0)
    flat = F.pad(pictures.reshape(1, n * channels, *pictures.shape[2:]), [radius] * 4, "replicate")
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=n * channels)
    return flat.view_as(pictures)


def _uniform(n: int, g: torch.Generator) -> Tensor:
    return 2 * torch.rand(n, generator=g) - 1


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])

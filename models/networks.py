"""Encoders and decoders: images (residual, cnn, mixer), vectors and sequences."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.params import NetworkParams

__all__ = ["Expert", "Trunk", "decoder", "fast_bfloat16", "full", "trunk"]


def full(x: Tensor) -> Tensor:
    """What left a network of 16 bits, in float32; anything else unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def fast_bfloat16(device: torch.device) -> bool:
    """Whether `device` is fast in bfloat16; a CPU without AVX512 is 12 times slower in it."""
    if device.type != "cpu":
        return True
    mkldnn = torch.backends.mkldnn.is_available()
    return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), the last convolution starting near 0; shape is kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.second.weight, std=1e-2 / channels**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu_(self.first(F.relu(x))))


class Centre(nn.Module):
    """Data in [0, 1] -> [-2, 2]: inputs around 0 make the first steps count."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) * 4


class Picture(nn.Module):
    """[B, C * H * W] -> [B, C, H, W] with the channels last in memory, as convolutions like it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)


class Canvas(nn.Module):
    """Adds a learned image to the output, so that what never changes is learned at once.

    The output is in the data's unit, from 0 to 1. Logits reach further: `scale` stretches them, or
    an optimiser whose steps have one size for all weights would take a thousand to paint it black.
    """

    def __init__(self, shape: tuple[int, ...], scale: float | None) -> None:
        super().__init__()
        height, width, channels = shape
        self.scale = 1.0 if scale is None else scale
        start = 0.5 if scale is None else 0.0  # as a probability, one half
        self.bias = nn.Parameter(torch.full((channels, height, width), start))

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.bias * self.scale, full(x), alpha=0.25 * self.scale)


class MixerBlock(nn.Module):
    """Tokens [B, T, D]: an MLP across the tokens, then one across the channels; shape is kept."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.across = nn.Sequential(
            nn.LayerNorm(channels), _Transpose(), *_mlp(tokens), _Transpose()
        )
        self.within = nn.Sequential(nn.LayerNorm(channels), *_mlp(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.across(x)
        return x + self.within(x)


class Trunk(nn.Sequential):
    """An encoder up to its flat features [B, features]."""

    def __init__(self, features: int, layers: Iterable[nn.Module]) -> None:
        super().__init__(*layers)
        self.features = features


class Expert(nn.Module):
    """The posterior of z given one modality, or a set of them: mean and variance [B, L]."""

    def __init__(self, trunks: dict[str, Trunk], latent: int) -> None:
        super().__init__()
        self.trunks = nn.ModuleDict(trunks)
        self.head = nn.Linear(sum(t.features for t in trunks.values()), 2 * latent)
        nn.init.normal_(self.head.weight, std=0.5 * self.head.in_features**-0.5)
        nn.init.zeros_(self.head.bias)
        # Start narrow: with the prior's variance the first decodings would be noise.
        nn.init.constant_(self.head.bias[latent:], -3.0)

    def forward(self, x: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        features = [trunk(x[name]) for name, trunk in self.trunks.items()]
        flat = features[0] if len(features) == 1 else torch.cat(features, -1)
        mean, log_var = full(self.head(flat)).chunk(2, -1)
        return mean, log_var.clamp(-14, 6).exp()


def trunk(shape: tuple[int, ...], params: NetworkParams) -> Trunk:
    """The encoder of data of `shape`: (H, W, C) images, (T, D) sequences or (D,) vectors."""
    if len(shape) == 1:
        return _vector_trunk(shape[0])
    if len(shape) == 2:
        return _sequence_trunk(*shape)
    _check_sides(shape, params)
    return IMAGES[params.kind][0](shape, params)


def decoder(
    shape: tuple[int, ...], latent: int, params: NetworkParams, logits: bool = False
) -> nn.Module:
    """The decoder [N, L] -> [N, C, H, W], [N, T, D] or [N, D] for data of `shape`.

    With `logits` it answers those of a bernoulli instead of values of the data.
    """
    if len(shape) == 1:
        return _vector_decoder(shape[0], latent)
    if len(shape) == 2:
        return _sequence_decoder(*shape, latent)
    return IMAGES[params.kind][1](shape, latent, params, params.logit_scale if logits else None)


def _check_sides(shape: tuple[int, ...], params: NetworkParams) -> None:
    step = 16 if params.kind == "cnn" else 8
    if shape[0] % step or shape[1] % step:
        raise ValueError(
            f"network.kind: {params.kind!r} needs image sides that are multiples of {step}; "
            f"these are {shape[0]} x {shape[1]}"
        )


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [ResidualBlock(channels) for _ in range(count)]


def _residual_trunk(shape: tuple[int, ...], params: NetworkParams) -> Trunk:
    """Patches of 4 pixels -> width at H/4 -> twice that at H/8 -> flat.

    It is light: at equal time a model whose blocks are all in the decoder learned more.
    """
    height, width, channels = shape
    wide = 2 * params.width
    layers = [
        Centre(),
        nn.Conv2d(channels, params.width, 6, stride=4, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(params.width, wide, 4, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
    ]
    return Trunk(wide * (height // 8) * (width // 8), layers)


def _residual_decoder(
    shape: tuple[int, ...], latent: int, params: NetworkParams, scale: float | None
) -> nn.Module:
    """Residual blocks at H/4; grows by pixel shuffles, not by transposed convolutions."""
    height, width, channels = shape
    wide = 2 * params.width
    return nn.Sequential(
        nn.Linear(latent, wide * (height // 8) * (width // 8)),
        Picture((wide, height // 8, width // 8)),
        nn.ReLU(inplace=True),
        nn.Conv2d(wide, 4 * params.width, 1),
        nn.PixelShuffle(2),
        *_blocks(params.width, params.blocks),
        nn.ReLU(inplace=True),
        nn.Conv2d(params.width, 16 * channels, 3, padding=1),
        nn.PixelShuffle(4),
        Canvas(shape, scale),
    )


def _cnn_trunk(shape: tuple[int, ...], params: NetworkParams) -> Trunk:
    """Four convolutions of kernel 4 and stride 2, the channels doubling."""
    height, width, channels = shape
    layers: list[nn.Module] = []
    for layer in range(4):
        out = params.width * 2**layer
        layers += [nn.Conv2d(channels, out, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
        channels = out
    return Trunk(channels * (height // 16) * (width // 16), [*layers, nn.Flatten()])


def _cnn_decoder(
    shape: tuple[int, ...], latent: int, params: NetworkParams, _scale: float | None
) -> nn.Module:
    """Mirror of the cnn trunk, with transposed convolutions."""
    height, width, channels = shape
    sizes = [params.width * 2**layer for layer in (3, 2, 1, 0)] + [channels]
    layers: list[nn.Module] = [
        nn.Linear(latent, sizes[0] * (height // 16) * (width // 16)),
        Picture((sizes[0], height // 16, width // 16)),
    ]
    for inner, outer in pairwise(sizes):
        layers += [nn.ReLU(inplace=True), nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1)]
    return nn.Sequential(*layers)


def _mixer_trunk(shape: tuple[int, ...], params: NetworkParams) -> Trunk:
    """Patches of 8 pixels become tokens; one block mixes them; flat."""
    height, width, channels = shape
    tokens, wide = (height // 8) * (width // 8), 2 * params.width
    patches = nn.Conv2d(channels, wide, 8, stride=8)
    layers = [Centre(), patches, nn.Flatten(2), _Transpose(), MixerBlock(tokens, wide)]
    narrow = [nn.Linear(wide, params.neck)] if params.neck else []
    return Trunk((params.neck or wide) * tokens, [*layers, *narrow, nn.Flatten()])


def _mixer_decoder(
    shape: tuple[int, ...], latent: int, params: NetworkParams, scale: float | None
) -> nn.Module:
    """Tokens of 8 pixels a side, mixed by MLPs alone (MLP-Mixer, Tolstikhin et al. 2021)."""
    height, width, channels = shape
    rows, columns, wide = height // 8, width // 8, 2 * params.width
    neck = params.neck or wide
    return nn.Sequential(
        nn.Linear(latent, rows * columns * neck),
        nn.Unflatten(1, (rows * columns, neck)),
        *([nn.Linear(neck, wide)] if params.neck else []),
        *(MixerBlock(rows * columns, wide) for _ in range(params.blocks)),
        nn.LayerNorm(wide),
        nn.Linear(wide, 64 * channels),
        _Transpose(),
        nn.Unflatten(2, (rows, columns)),
        nn.PixelShuffle(8),
        Canvas(shape, scale),
    )


def _mlp(size: int) -> list[nn.Module]:
    return [nn.Linear(size, 2 * size), nn.ReLU(inplace=True), nn.Linear(2 * size, size)]


def _vector_trunk(size: int, hidden: int = 400) -> Trunk:
    return Trunk(hidden, [nn.Linear(size, hidden), nn.ReLU(inplace=True)])


def _vector_decoder(size: int, latent: int, hidden: int = 400) -> nn.Module:
    return nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, size))


class _Transpose(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def _sequence_trunk(steps: int, size: int, hidden: int = 128) -> Trunk:
    layers = [
        _Transpose(),
        nn.Conv1d(size, hidden, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
    ]
    return Trunk(hidden * steps, layers)


def _sequence_decoder(steps: int, size: int, latent: int, hidden: int = 128) -> nn.Module:
    return nn.Sequential(
        nn.Linear(latent, hidden * steps),
        nn.ReLU(inplace=True),
        nn.Unflatten(1, (hidden, steps)),
        nn.Conv1d(hidden, size, 3, padding=1),
        _Transpose(),
    )


# kind -> (encoder, decoder) of images
IMAGES = {
    "residual": (_residual_trunk, _residual_decoder),
    "cnn": (_cnn_trunk, _cnn_decoder),
    "mixer": (_mixer_trunk, _mixer_decoder),
}

"""Boxes follow the picture, and no change does more than it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from detector import augment
from detector.params import Augmentation

NONE = Augmentation(flip=0, scale=0, translate=0)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _block(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """White blocks on black with their boxes."""
    pictures = torch.zeros(n, 1, 64, 64)
    pictures[:, :, 20:44, 8:28] = 1
    box = torch.tensor([8.0, 20.0, 28.0, 44.0]) / 64
    return pictures, box.expand(n, 1, 4), torch.zeros(n, 1, dtype=torch.long)


@pytest.mark.parametrize("size", [64, 96, 128])
def test_boxes_follow_the_picture(size: int) -> None:
    p = Augmentation(flip=0.5, scale=0.3, translate=0.1)
    pictures, boxes, classes = augment.place(*_block(64), size, p, _generator())
    for picture, box, kept in zip(pictures, boxes, classes, strict=True):
        y, x = torch.nonzero(picture[0] > 0.5, as_tuple=True)
        seen = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
        assert kept.item() == 0
        assert (box[0] * size - seen).abs().max() <= 1.01
    centres = boxes[:, 0, 0] + boxes[:, 0, 2]
    assert (centres > 1).any()
    assert (centres < 1).any()


@pytest.mark.parametrize("size", [64, 96])
def test_without_change_training_sees_what_detection_sees(size: int) -> None:
    seen = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    pictures = torch.from_numpy(seen).movedim(-1, 1) / 255
    boxes, classes = torch.rand(4, 2, 4).sort(-1).values, torch.zeros(4, 2, dtype=torch.long)
    placed, same, _ = augment.place(pictures, boxes, classes, size, NONE, _generator())
    detected = torch.from_numpy(augment.resize(seen, size)).movedim(-1, 1) / 255
    # OpenCV interpolates bytes in fixed point.
    torch.testing.assert_close(placed, detected, atol=1e-4 if size == 64 else 1.5 / 255, rtol=0)
    torch.testing.assert_close(same, boxes)


def test_a_picture_is_mirrored_zoomed_and_shifted_as_far_as_asked() -> None:
    def placed(**changes: float) -> Tensor:
        return augment.place(*_block(400), 64, NONE.model_copy(update=changes), _generator())[1]

    boxes = placed(flip=0.25)  # its middle, at 18 of 64 pixels, comes to 46
    middle = 64 * (boxes[:, 0, 0] + boxes[:, 0, 2]) / 2
    assert sorted({round(x) for x in middle.tolist()}) == [18, 46]
    assert (middle > 32).float().mean().item() == pytest.approx(0.25, abs=0.06)
    zoom = placed(scale=0.2)[:, 0, 2:] - placed(scale=0.2)[:, 0, :2]
    zoom = 64 * zoom / torch.tensor([20.0, 24.0])
    assert (zoom.min().item(), zoom.max().item()) == pytest.approx((0.8, 1.2), abs=0.01)
    shift = 64 * placed(translate=0.1)[:, 0, :2] - torch.tensor([8.0, 20.0])
    assert (shift.min(0).values + 6.4).abs().max() < 0.1
    assert (shift.max(0).values - 6.4).abs().max() < 0.1


def test_boxes_out_of_sight_are_dropped() -> None:
    pictures, _, classes = _block(200)
    edge = torch.tensor([0.0, 0.4, 0.06, 0.6]).expand(200, 1, 4)
    _, boxes, kept = augment.place(
        pictures, edge, classes, 64, Augmentation(scale=0, translate=0.2), _generator()
    )
    left = ((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))[:, 0] / (0.06 * 0.2)
    assert 0.1 < (kept == -1).float().mean() < 0.9
    assert left[kept[:, 0] == 0].min() > 0.3
    assert 0.2 < left[kept[:, 0] == -1].max() <= 0.3 + 1e-5


def test_colour_keeps_grey_and_brightness() -> None:
    pictures = torch.rand(8, 3, 8, 8, generator=_generator()) * 0.2 + 0.4
    grey = pictures[:, :1].expand(-1, 3, -1, -1)
    p = Augmentation(hue=0.5, saturation=0.5)
    torch.testing.assert_close(augment.colour(grey, p, _generator()), grey, atol=2e-3, rtol=0)
    turned = augment.colour(pictures, p, _generator())
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    luma = (pictures * weights).sum(1)
    torch.testing.assert_close((turned * weights).sum(1), luma, atol=2e-3, rtol=0)
    assert (turned - pictures).abs().mean() > 0.01


def _chroma(pictures: Tensor) -> Tensor:
    """Of pictures of one colour, in YIQ: its hue and saturation as a complex number [B]."""
    red, green, blue = pictures[:, :, 0, 0].unbind(1)
    return torch.complex(
        0.5959 * red - 0.2746 * green - 0.3213 * blue, 0.2115 * red - 0.5227 * green + 0.3112 * blue
    )


def test_colour_turns_and_fades_as_far_as_asked() -> None:
    pictures = torch.tensor([0.5, 0.45, 0.4]).view(1, 3, 1, 1).repeat(400, 1, 2, 2)
    p = Augmentation(hue=0.25, saturation=0.5)
    change = _chroma(augment.colour(pictures, p, _generator())) / _chroma(pictures)
    turn, strength = change.angle().rad2deg(), change.abs()
    assert (turn.min().item(), turn.max().item()) == pytest.approx((-90, 90), abs=3)
    assert (strength.min().item(), strength.max().item()) == pytest.approx((0.5, 1.5), abs=0.02)


@pytest.mark.parametrize(
    ("key", "least", "most"), [("brightness", 0.8, 1.2), ("contrast", 0.8, 1.1)]
)
def test_brightness_and_contrast_change_as_far_as_asked(
    key: str, least: float, most: float
) -> None:
    pictures = 0.4 + 0.2 * torch.rand(400, 1, 8, 8, generator=_generator())
    p = Augmentation.model_validate({key: 0.2})
    changed = augment.contrast(pictures, p, _generator())
    ratio = changed.std((1, 2, 3)) / pictures.std((1, 2, 3))
    assert (ratio.min().item(), ratio.max().item()) == pytest.approx((least, most), abs=0.01)
    means = (changed.mean((1, 2, 3)) / pictures.mean((1, 2, 3))).std().item()
    assert (means > 0.1) == (key == "brightness")


def test_greyscale_leaves_no_colour() -> None:
    pictures = torch.rand(8, 3, 8, 8, generator=_generator())
    grey = augment.colour(pictures, Augmentation(greyscale=1.0), _generator())
    assert (grey.amax(1) - grey.amin(1)).max() < 3e-3


def test_blur_smooths_half_of_the_pictures_and_keeps_their_mean() -> None:
    pictures = torch.zeros(200, 2, 33, 33)
    pictures[:, :, 16, 16] = 1
    blurred = augment.blur(pictures, Augmentation(blur=2.0), _generator())
    torch.testing.assert_close(blurred.sum((2, 3)), torch.ones(200, 2), atol=1e-4, rtol=0)
    sharp = blurred[:, 0, 16, 16] > 0.999
    assert 0.3 < sharp.float().mean() < 0.7
    offset = torch.arange(33) - 16.0
    variance = (blurred[:, 0].sum(1) * offset**2).sum(1)
    assert variance.max() == pytest.approx(4.0, rel=0.15)


@pytest.mark.parametrize("key", ["brightness", "contrast"])
def test_contrast_stays_within_bounds(key: str) -> None:
    pictures = torch.rand(64, 1, 16, 16, generator=_generator())
    p = Augmentation.model_validate({key: 0.5})
    changed = augment.contrast(pictures, p, _generator())
    assert changed.min() >= 0
    assert changed.max() <= 1
    ratio = changed.std((1, 2, 3)) / pictures.std((1, 2, 3))
    assert ratio.min() > 0.45
    assert ratio.min() < 0.75
    assert np.isfinite(ratio).all()

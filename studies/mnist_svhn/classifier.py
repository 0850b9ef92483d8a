"""The digit classifiers that judge what is generated: one per modality, trained once, frozen."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from base.progress import Progress
from studies.mnist_svhn.params import ClassifierParams

__all__ = ["DigitClassifier", "classify", "fit"]

SIDES = {1: 28, 3: 32}  # MNIST's and SVHN's; smaller pictures are enlarged to them


class DigitClassifier(nn.Module):
    """The field's classifier: conv5 10, pool, conv5 20, dropout, pool, 50, 10 (iffsid/mmvae).

    Args:
        channels: 1 (digits) or 3 (street numbers).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.side = SIDES[channels]
        flat = 20 * ((self.side - 4) // 2 - 4) ** 2 // 4
        self.first = nn.Conv2d(channels, 10, 5)
        self.second = nn.Conv2d(10, 20, 5)
        self.hidden = nn.Linear(flat, 50)
        self.last = nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, 10] of pictures [B, C, h, w] in [0, 1]."""
        if x.shape[-1] != self.side:
            x = F.interpolate(x, (self.side, self.side), mode="bilinear", align_corners=False)
        x = F.max_pool2d(self.first(x), 2).relu()
        x = F.dropout2d(self.second(x), training=self.training)
        x = F.max_pool2d(x, 2).relu().flatten(1)
        return self.last(F.dropout(self.hidden(x).relu(), training=self.training))


def as_input(pictures: NDArray[np.uint8]) -> Tensor:
    """uint8 [B, h, w] or [B, h, w, 3] -> float [B, C, h, w] in [0, 1]."""
    x = torch.from_numpy(pictures).float() / 255
    return x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)


def fit(
    pictures: NDArray[np.uint8], labels: NDArray[np.uint8], params: ClassifierParams, device: str
) -> DigitClassifier:
    """A classifier trained on uint8 pictures [N, h, w] or [N, h, w, 3]; the seed decides all."""
    with torch.random.fork_rng():
        torch.manual_seed(params.seed)
        model = DigitClassifier(1 if pictures.ndim == 3 else 3).to(device).train()
        optimiser = torch.optim.Adam(model.parameters(), lr=params.learning_rate)
        targets = torch.from_numpy(labels).long()
        draws = np.random.default_rng(params.seed)
        bar = Progress(params.epochs, "classifier, passes")
        for epoch in range(params.epochs):
            order = draws.permutation(len(pictures))
            for start in range(0, len(order), params.batch):
                rows = order[start : start + params.batch]
                logits = model(as_input(pictures[rows]).to(device))
                optimiser.zero_grad(set_to_none=True)
                F.cross_entropy(logits, targets[rows].to(device)).backward()
                optimiser.step()
            bar.reach(epoch + 1)
        bar.close()
    return model.eval()


@torch.inference_mode()
def classify(model: DigitClassifier, pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Classes [N] of uint8 pictures [N, h, w] or [N, h, w, 3]."""
    device = next(model.parameters()).device
    parts = [
        model(as_input(pictures[start : start + 1000]).to(device)).argmax(-1).cpu().numpy()
        for start in range(0, len(pictures), 1000)
    ]
    return np.concatenate(parts)

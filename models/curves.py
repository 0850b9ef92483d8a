"""A training's numbers: the rows of its curves, and what tells that it goes wrong."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.bound import Bound
from models.mixture import Draws
from models.vae import MultimodalVAE

__all__ = ["DivergedError", "Row", "check", "check_weights", "curves_of", "next_row", "numbers_of"]

Row = dict[str, float]


class DivergedError(RuntimeError):
    """A training whose loss became NaN, infinite or ever larger."""


def numbers_of(bound: Bound) -> Tensor:
    """[E + (2 + M) T]: the encoders' sums; per term the bound, the KL, the reconstructions."""
    parts = [bound.value.mean(-1)[None], bound.kl[None], bound.reconstruction]
    return torch.cat([bound.encoded, torch.cat(parts).flatten()]).detach()


def _unpacked(numbers: Tensor, model: MultimodalVAE) -> tuple[Tensor, Tensor]:
    """The encoders' sums [..., E], and [..., 2 + M, T]: bound, KL, reconstructions."""
    count = len(model.experts)
    return numbers[..., :count], numbers[..., count:].unflatten(-1, (2 + len(model.modalities), -1))


def check(numbers: Tensor, first: int, model: MultimodalVAE, history: list[Row]) -> None:
    """Stop at the first step whose numbers are not finite, or where the loss ran away.

    It ran away if the mean of these steps is above the first row by more than the loss has fallen
    since, and the first row's size.
    """
    bad = (~numbers.isfinite()).any(-1).nonzero()
    if len(bad):
        step = int(bad[0])
        raise DivergedError(
            f"step {first + step}: {_culprit(numbers[step], model)} is not finite; "
            "the last good checkpoint is kept"
        )
    mean = curves_of(numbers.mean(0), model, "")  # a single step may be an unlucky draw
    rows = history or [curves_of(numbers[0], model, "")]
    start = rows[0]["loss"]
    fallen = start - min(row["loss"] for row in rows)
    # Where likelihoods and KL cancel, a loss that starts near 0 may well double: its parts may not.
    size = max(abs(start), sum(abs(rows[0][key]) for key in mean if key != "loss"))
    limit = start + fallen + size
    if mean["loss"] > limit:
        loss = -_unpacked(numbers, model)[1][:, 0].sum(-1)
        step = int((loss > limit).int().argmax())
        now = curves_of(numbers[step], model, "")
        # A KL harms by rising, a log-likelihood by falling.
        harm = {
            key: (value - rows[-1][key]) * (1 if key.startswith("kl_") else -1)
            for key, value in now.items()
            if key != "loss"
        }
        what, term = max(harm, key=lambda key: harm[key]).rsplit("_", 1)
        raise DivergedError(
            f"step {first + step}: the loss diverges ({now['loss']:.4g}), worst in "
            f"{'the KL' if what == 'kl' else what} of term {term}; "
            "the last good checkpoint is kept"
        )


def check_weights(step: int, model: MultimodalVAE) -> None:
    """Stop before weights that a finite loss made infinite are saved as good."""
    bad = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
    if bad:
        raise DivergedError(
            f"step {step}: the weights of {_owner(bad, model)} are not finite after it; "
            "the last good checkpoint is kept"
        )


def _owner(bad: list[str], model: MultimodalVAE) -> str:
    """Whose parameters these are: one decoder's (whatever it spoiled), one encoder's, or the first.

    A decoder's gradient reaches every encoder; all terms share the weights.
    """
    decoders = {name.split(".")[1] for name in bad if name.startswith("decoders.")}
    encoders = {int(name.split(".")[1]) for name in bad if name.startswith("experts.")}
    if len(decoders) == 1:
        return f"the decoder of {decoders.pop()}"
    if not decoders and len(encoders) == 1:
        return f"the encoder of {' and '.join(model.expert_inputs()[encoders.pop()])}"
    return bad[0]


def _culprit(numbers: Tensor, model: MultimodalVAE) -> str:
    """What went wrong first: an encoder, else a modality's likelihood, else the KL."""
    encoded, table = _unpacked(numbers, model)
    for inputs, value in zip(model.expert_inputs(), encoded, strict=True):
        if not value.isfinite():
            return f"the encoder of {' and '.join(inputs)} (every term)"
    for name, row in (*zip(model.modalities, table[2:], strict=True), ("the KL", table[1])):
        for term in (~row.isfinite()).nonzero().flatten().tolist():
            return f"{name} of term {term}"
    return f"the bound of term {int((~table[0].isfinite()).nonzero()[0])}"


def next_row(
    step: int, numbers: Tensor, model: MultimodalVAE, held_out: Mapping[str, Tensor], seed: int
) -> Row:
    """One row of the curves: means since the last row, and the validation loss."""
    row = {"step": float(step), **curves_of(numbers, model, "")}
    if len(next(iter(held_out.values()))):
        noise = torch.Generator(model.device).manual_seed(seed)
        x = {name: model.prepared(name, values[:256]) for name, values in held_out.items()}
        with torch.no_grad():
            row |= curves_of(numbers_of(model.bound(x, Draws(noise))).cpu(), model, "validation_")
    return row


def curves_of(numbers: Tensor, model: MultimodalVAE, prefix: str) -> Row:
    _, table = _unpacked(numbers, model)
    row = {f"{prefix}loss": -table[0].sum().item()}
    for term in range(table.shape[1]):
        row[f"{prefix}kl_{term}"] = table[1, term].item()
        for name, value in zip(model.modalities, table[2:, term], strict=True):
            row[f"{prefix}{name}_{term}"] = value.item()
    return row

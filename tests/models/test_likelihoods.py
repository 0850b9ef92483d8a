"""Likelihoods against torch.distributions."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import distributions as dist

from models.likelihoods import expected, log_prob
from models.params import ModalityParams

OUTPUT = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).double()
X = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize(
    ("likelihood", "want"),
    [
        ("normal", dist.Normal(OUTPUT, 0.3).log_prob(X)),
        ("laplace", dist.Laplace(OUTPUT, 0.3).log_prob(X)),
        ("bernoulli", dist.Bernoulli(logits=OUTPUT, validate_args=False).log_prob(X)),
    ],
)
def test_log_prob(likelihood: str, want: torch.Tensor) -> None:
    params = ModalityParams.model_validate({"likelihood": likelihood, "scale": 0.3, "weight": 5.0})
    torch.testing.assert_close(log_prob(params, X, OUTPUT), want.sum((-1, -2)))


def test_categorical() -> None:
    params = ModalityParams(likelihood="categorical", classes=5)
    x = torch.randint(0, 5, (3, 4), generator=torch.Generator().manual_seed(0))
    want = dist.Categorical(logits=OUTPUT).log_prob(x).sum(-1)
    torch.testing.assert_close(log_prob(params, x, OUTPUT), want)
    one_per_item = log_prob(params, x[:, 0], OUTPUT[:, :, 0])
    torch.testing.assert_close(
        one_per_item, dist.Categorical(logits=OUTPUT[:, :, 0]).log_prob(x[:, 0])
    )


def test_expected() -> None:
    assert expected(ModalityParams(), OUTPUT) is OUTPUT
    bernoulli = expected(ModalityParams(likelihood="bernoulli"), OUTPUT)
    torch.testing.assert_close(bernoulli, OUTPUT.sigmoid())
    classes = expected(ModalityParams(likelihood="categorical", classes=5), OUTPUT)
    torch.testing.assert_close(classes, dist.Categorical(logits=OUTPUT).probs)


@pytest.mark.parametrize("wrong", [{"likelihood": "categorical"}, {"classes": 3}])
def test_classes_go_with_categorical(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="classes: "):
        ModalityParams.model_validate(wrong)

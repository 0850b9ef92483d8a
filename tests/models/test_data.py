"""Arrays that fit train the same model in whatever form; others are refused."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.params import ModalityParams
from tests.models.test_training import DATA, PARAMS, RANDOM, assert_same_weights, run

MIXED = PARAMS.model_copy(
    update={
        "modalities": {
            "image": ModalityParams(),
            "features": ModalityParams(),
            "shares": ModalityParams(likelihood="bernoulli"),
            "text": ModalityParams(likelihood="categorical", classes=7),
        }
    }
)
MIXED_DATA: dict[str, Any] = {
    **DATA,
    "shares": RANDOM.random((20, 4)),
    "text": RANDOM.integers(0, 7, (20, 6)),
}
PICTURES = MIXED_DATA["image"].astype(np.float32) / 255
UNFIT: dict[str, tuple[str, Any, str]] = {
    "rows": ("features", np.zeros((19, 5), np.float32), "'image': 20, 'features': 19"),
    "no channels": ("image", MIXED_DATA["image"][..., 0], "uint8 [20, 8, 8], expected uint8 [N, H"),
    "float, channels last": ("image", PICTURES, "float32 [20, 8, 8, 3], expected uint8 [N, H, W"),
    "float, channels first": (
        "image",
        PICTURES.transpose(0, 3, 1, 2),
        "float32 [20, 3, 8, 8], exp",
    ),
    "int64 pictures": ("image", MIXED_DATA["image"].astype(np.int64), "int64 [20, 8, 8, 3], exp"),
    "16 bits": ("image", MIXED_DATA["image"].astype(np.uint16), "uint16 [20, 8, 8, 3], expected"),
    "bool pictures": ("image", MIXED_DATA["image"] > 9, "bool [20, 8, 8, 3], expected uint8"),
    "no pixels": ("image", np.zeros((20, 0, 8, 3), np.uint8), "uint8 [20, 0, 8, 3], expected"),
    "video": ("image", np.zeros((20, 2, 8, 8, 3), np.uint8), "uint8 [20, 2, 8, 8, 3], expected"),
    "numbers": ("features", np.zeros(20, np.float32), "float32 [20], expected uint8 [N, H, W, C]"),
    "integers": ("features", np.zeros((20, 5), np.int32), "int32 [20, 5], expected"),
    "complex": ("features", np.zeros((20, 5), complex), "complex128 [20, 5], expected"),
    "objects": ("features", np.zeros((20, 5), object), "object [20, 5], expected"),
    "words": ("features", np.full((20, 5), "a"), "<U1 [20, 5], expected"),
    "NaN": ("features", np.full((20, 5), np.nan), "values in [nan, nan], normal needs finite"),
    "infinite": ("features", np.full((20, 5), np.inf), "values in [inf, inf], normal needs finite"),
    "beyond float32": ("features", np.full((20, 5), 1e39), "values in [1e+39, 1e+39], normal"),
    "no probability": ("shares", np.full((20, 4), 255.0), "values in [255, 255], bernoulli needs"),
    "NaN for one": ("shares", np.full((20, 4), np.nan), "values in [nan, nan], bernoulli needs"),
    "float categories": (
        "text",
        np.zeros((20, 6)),
        "float64 [20, 6], expected integers [N], [N, T",
    ),
    "one-hot pictures": ("text", np.zeros((20, 8, 8, 7), int), "int64 [20, 8, 8, 7], expected int"),
    "a category more": ("text", np.full((20, 6), 7), "values in [7, 7], categorical needs [0, 6]"),
    "a negative one": (
        "text",
        np.full((20, 6), -1),
        "values in [-1, -1], categorical needs [0, 6]",
    ),
    "a list": ("features", [[0.0] * 5] * 20, "list, expected a NumPy array"),
    "a tensor": ("features", torch.zeros(20, 5), "Tensor, expected a NumPy array"),
}


@pytest.mark.parametrize("where", ["data", "validation"])
@pytest.mark.parametrize("case", UNFIT)
def test_data_that_do_not_fit_are_refused_before_any_step(
    tmp_path: Path, case: str, where: str
) -> None:
    name, array, said = UNFIT[case]
    given = {"data": MIXED_DATA, "validation": MIXED_DATA, where: {**MIXED_DATA, name: array}}
    with pytest.raises((ValueError, TypeError), match=re.escape(said)) as refused:
        run(tmp_path, params=MIXED, **given)
    text = str(refused.value)
    assert case == "rows" or text.startswith(f"{name} of {where}: ")
    assert "\n" not in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "array", "said"),
    [
        ("image", np.zeros((20, 16, 16, 3), np.uint8), "[20, 16, 16, 3], expected [N, 8, 8, 3]"),
        ("image", np.zeros((20, 8, 8, 1), np.uint8), "[20, 8, 8, 1], expected [N, 8, 8, 3] as in"),
        ("features", np.zeros((20, 6), np.float32), "[20, 6], expected [N, 5] as in the data"),
        (
            "features",
            np.zeros((20, 5, 1), np.float32),
            "[20, 5, 1], expected [N, 5] as in the data",
        ),
        ("text", np.zeros((20, 5), int), "[20, 5], expected [N, 6] as in the data"),
    ],
)
def test_validation_of_another_shape_is_refused(
    tmp_path: Path, name: str, array: np.ndarray, said: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name} of validation: {said}")):
        run(tmp_path, params=MIXED, data=MIXED_DATA, validation={**MIXED_DATA, name: array})
    assert not list(tmp_path.iterdir())


def test_modalities_that_are_missing_are_named(tmp_path: Path) -> None:
    some = {"features": DATA["features"]}
    for where in ("data", "validation"):
        with pytest.raises(ValueError, match=rf"modalities: \['image'\] is not in the {where}, "):
            run(tmp_path, **{where: some})
    with pytest.raises(ValueError, match="data: no rows to train on"):
        run(tmp_path, data={key: x[:0] for key, x in DATA.items()})


@pytest.mark.slow
def test_the_same_numbers_in_another_form_train_the_same_model(tmp_path: Path) -> None:
    """Read-only, memory-mapped, strided, of another byte order; unsigned categories."""
    for name, x in MIXED_DATA.items():
        np.save(tmp_path / f"{name}.npy", x)
    strided = {name: np.repeat(x, 2, axis=0)[::2] for name, x in MIXED_DATA.items()}
    forms: dict[str, dict[str, Any]] = {
        "plain": MIXED_DATA,
        "mapped": {n: np.load(tmp_path / f"{n}.npy", mmap_mode="r") for n in MIXED_DATA},
        "strided": strided,
        "swapped": {n: x.astype(x.dtype.newbyteorder(">")) for n, x in MIXED_DATA.items()},
        "unsigned": {**MIXED_DATA, "text": MIXED_DATA["text"].astype(np.uint16)},
        "short": {**MIXED_DATA, "text": MIXED_DATA["text"].astype(np.int8)},
    }
    assert not strided["image"].flags.c_contiguous
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, data in forms.items():
            run(tmp_path / name, params=MIXED, data=data, validation=data)
            assert_same_weights(*(tmp_path / n / "model.safetensors" for n in ("plain", name)))


@pytest.mark.parametrize("rows", [1, 2])
def test_fewer_rows_than_a_batch_train_too(tmp_path: Path, rows: int) -> None:
    few = {name: x[:rows] for name, x in DATA.items()}
    history = run(tmp_path, data=few, validation=few)["history"]
    assert np.isfinite([row["validation_loss"] for row in history]).all()


def test_validation_without_rows_has_no_loss(tmp_path: Path) -> None:
    result = run(tmp_path, validation={name: x[:0] for name, x in DATA.items()})
    assert np.isnan(result["validation_loss"])
    assert np.isfinite(result["loss"])

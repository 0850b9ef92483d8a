"""safetensors files with a config: any damage is told, older files are read."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from base.weights import read, sealed

WEIGHTS = {"b": np.arange(4, dtype=np.float32), "a": np.ones((2, 2))}
CONFIG = {"size": 3, "names": ["x"]}


def content() -> bytes:
    return sealed(partial(safetensors.numpy.save, WEIGHTS), "config", CONFIG)


def test_config_and_weights_come_back(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(content())
    config, found = read(tmp_path / "m", "config")
    assert config == CONFIG
    for key, value in safetensors.numpy.load(found).items():
        np.testing.assert_array_equal(value, WEIGHTS[key])


def test_a_flipped_bit_of_any_weight_is_told(tmp_path: Path) -> None:
    whole = content()
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(start, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (tmp_path / "m").write_bytes(damaged)
        with pytest.raises(ValueError, match="m: damaged, its weights"):
            read(tmp_path / "m", "config")


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.99])
def test_a_file_cut_short_is_told(share: float, tmp_path: Path) -> None:
    whole = content()
    (tmp_path / "m").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="m: damaged, it is no safetensors file"):
        read(tmp_path / "m", "config")


def test_an_older_file_has_no_digest_and_is_read(tmp_path: Path) -> None:
    metadata = {"config": json.dumps(CONFIG)}
    (tmp_path / "m").write_bytes(safetensors.numpy.save(WEIGHTS, metadata))
    assert read(tmp_path / "m", "config")[0] == CONFIG


def test_a_file_of_another_kind_is_told(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(safetensors.numpy.save(WEIGHTS))
    with pytest.raises(ValueError, match="m: has no 'config' in its metadata"):
        read(tmp_path / "m", "config")

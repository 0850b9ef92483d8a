"""A model as one safetensors file: its weights, and beside them what rebuilds it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors.torch

from base.files import write_bytes
from base.weights import read, sealed
from models.consistency import Calibration
from models.params import Cell, VAEParams

if TYPE_CHECKING:
    from models.vae import MultimodalVAE

__all__ = ["load", "save"]

CONFIG = "config"  # its key in a model's file


def _config(model: MultimodalVAE) -> dict[str, object]:
    """What, with the weights, rebuilds a model; its calibration, if it has one."""
    kept = {"calibration": model.calibration.to_json()} if model.calibration else {}
    return {
        "params": model.params.model_dump(mode="json"),
        "cell": model.cell.model_dump(mode="json"),
        "shapes": {name: list(shape) for name, shape in model.shapes.items()},
        **kept,
    }


def save(model: MultimodalVAE, path: Path) -> None:
    """`MultimodalVAE.save`."""
    weights = {key: value.contiguous().cpu() for key, value in model.state_dict().items()}
    write_bytes(
        Path(path), sealed(partial(safetensors.torch.save, weights), CONFIG, _config(model))
    )


def load(kind: type[MultimodalVAE], path: Path) -> MultimodalVAE:
    """The model that `save` wrote, on the CPU.

    Raises:
        OSError, ValueError: names the file, which cannot be read, is damaged or no model.
    """
    config, content = read(path, CONFIG)
    shapes = {name: tuple(shape) for name, shape in config["shapes"].items()}
    config["params"]["network"].setdefault("logit_scale", 1.0)  # older files do not name it
    model = kind(VAEParams.model_validate(config["params"]), Cell.saved(config["cell"]), shapes)
    model.load_state_dict(safetensors.torch.load(content))
    if kept := config.get("calibration"):  # older files have none
        model.calibration = Calibration.from_json(kept)
    return model

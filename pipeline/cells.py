"""The cells of a grid: their names and seeds in params.yaml, and the code that each stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, TypeAdapter, field_validator
from ruamel.yaml import YAML

from base import code
from base.files import remove, write_bytes
from base.params import Section
from detector import kinds
from detector.params import DetectorParams
from models.params import Cell, ModalityParams, VAEParams, check_cell
from pipeline.running.stage import shown

__all__ = ["GridParams", "LookedUp", "check_cells", "checked", "fused", "write_checked"]

# Of a cell: it becomes arguments and files, whose names a seed and suffixes end, up to 255 letters.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


class GridParams(Section):
    """Which cells (fusion x objective) are trained, with which seeds.

    And how the unimodal VAEs are, which synergy is measured against.
    """

    cells: dict[str, Cell] = Field(min_length=1, description="name: {fusion, objective, options}")
    unimodal: Cell = Field(description="of the VAEs of one modality: samples K and other options")
    seeds: list[int] = Field(min_length=1, description="one training per cell and seed; 0 or more")

    @field_validator("seeds")
    @classmethod
    def _seeds_are_distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**63:
            raise ValueError("must be distinct whole numbers, 0 to 2^63 - 1")
        return seeds

    @field_validator("cells")
    @classmethod
    def _names_make_file_names(cls, cells: dict[str, Cell]) -> dict[str, Cell]:
        taken = {"unimodal": None}
        for name in cells:
            if not NAME.fullmatch(name) or name.lower() in taken:
                raise ValueError(
                    f"{shown(name)} is not a cell name: 1 to 100 letters a to z, digits, - and _, "
                    f"no - first, and not {', '.join(taken)}, in capitals or not"
                )
            taken[name.lower()] = None  # some file systems do not tell Poe from poe
        return cells


class LookedUp(NamedTuple):
    """What stages find by a name in params: cells, the modalities that each cell of the grid
    fuses, sensor -> its detector, the sensors."""

    cells: Mapping[str, Cell]
    modalities: Mapping[str, Mapping[str, ModalityParams]] = {}
    detectors: Mapping[str, DetectorParams] = {}
    sensors: Sequence[str] = ()


def code_of(cell: Cell) -> bytes:
    """The digest of the code that a cell's fusion and objective are."""
    fusion, objective = f"models.fusions.{cell.fusion}", f"models.objectives.{cell.objective}"
    return f"{code.digest(fusion, objective)}\n".encode()


def checked(
    definition: Path,
    cells: Mapping[str, Cell],
    modalities: Mapping[str, Mapping[str, ModalityParams]] | None = None,
    detectors: Mapping[str, DetectorParams] | None = None,
    sensors: Sequence[str] = (),
) -> dict[str, bytes]:
    """What stages of a dvc.yaml wait for: digests of code, of each stage, cell and detector.

    With a detector's stand its settings: a sensor without any in params.yaml is no key for DVC.
    With a cell's stand the modalities that it fuses, so that no other makes it stale.

    Args:
        definition: the dvc.yaml, whose commands name the modules that decide what stages make.
        cells: the cells of its grid.
        modalities: cell -> what it fuses.
        detectors: sensor -> its detector, of which these settings decide the rest.
        sensors: of the scenes; one digest for all, as they are rendered together.

    Returns:
        File below the folder of what is checked -> its content.
    """
    stages = YAML(typ="safe").load(definition.read_text(encoding="utf-8"))["stages"]
    seeing = [f"scenegen.sensors.{name}" for name in sensors]
    commands = {name: body["cmd"].split() for name, body in stages.items()}
    return {
        **{
            f"code/{name}": f"{code.digest(words[2], study=code.study_of(words))}\n".encode()
            for name, words in commands.items()
        },
        **{
            f"cells/{name}": code_of(cell) + _as_text((modalities or {}).get(name, {}))
            for name, cell in cells.items()
        },
        **{
            f"detectors/{sensor}": f"{code.digest(kinds.module(found.network))}\n".encode()
            + _as_text(found.model_dump())
            for sensor, found in (detectors or {}).items()
        },
        **({"sensors": f"{code.digest(*seeing)}\n".encode()} if seeing else {}),
    }


def _as_text(params: Mapping[str, Any]) -> bytes:
    """Params that stand with a digest; nothing where there are none."""
    values = TypeAdapter(dict[str, Any]).dump_python(dict(params), mode="json")
    return f"{json.dumps(values, indent=1)}\n".encode() if values else b""


def write_checked(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write what is `checked` into a folder; a file stays as it is while its content does.

    All else in the folder goes, whatever it is; folders stay.
    """
    wanted = {folder / name: content for name, content in contents.items()}
    for path in [folder, *folder.rglob("*")]:
        if not (path.is_file() if path in wanted else path.is_dir()):
            remove(path)
    for path, content in wanted.items():
        if not path.is_file() or path.read_bytes() != content:
            write_bytes(path, content)


def fused(vae: VAEParams, grid: GridParams) -> dict[str, dict[str, ModalityParams]]:
    """Cell -> the modalities that it fuses."""
    return {name: vae.of(cell).modalities for name, cell in grid.cells.items()}


def check_cells(vae: VAEParams, grid: GridParams) -> None:
    """Refuse cells that have a modality's name, contradict the `vae:` section or set what nothing
    of them reads.

    Raises:
        ValueError: names the key, its value and what is allowed.
    """
    plain = Cell()
    if (grid.unimodal.fusion, grid.unimodal.objective) != (plain.fusion, plain.objective):
        raise ValueError(
            f"grid.unimodal: with one modality there is only fusion {plain.fusion}, "
            f"objective {plain.objective}"
        )
    if grid.unimodal.sensors is not None:
        raise ValueError("grid.unimodal.sensors: leave it out; there is a VAE of each sensor alone")
    taken = {modality.lower() for modality in vae.modalities}
    for key, cell in (
        *((f"cells.{name}", cell) for name, cell in grid.cells.items()),
        ("unimodal", grid.unimodal),
    ):
        if key.removeprefix("cells.").lower() in taken:
            raise ValueError(f"grid.{key}: is the name of a modality; choose another")
        try:
            check_cell(vae, cell)
        except ValueError as error:
            raise ValueError(f"grid.{key}: {error}") from None
        if wrong := _unread(cell):
            raise ValueError(f"grid.{key}.{wrong}")


def _unread(cell: Cell) -> str | None:
    """What is wrong with a cell that sets an option which nothing of it reads; None if all are.

    Those of its entries a cell checks itself; a model's file holds every key of a cell.
    """
    from models import fusions  # torch, which the report does without

    if "kl" not in cell.model_fields_set:
        return None
    if fusions.traits(cell.fusion).mixture and cell.samples == 1:
        return None
    return (
        f"kl = {cell.kl!r}: is for a mixture ({fusions.having('mixture')}) with samples = 1; "
        "leave it out"
    )

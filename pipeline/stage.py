"""What every stage script needs: its section of params.yaml, where files lie, atomic writes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML, YAMLError

__all__ = [
    "CHECKPOINTS",
    "DATASET",
    "MODALITIES",
    "PARAMS",
    "device",
    "explain",
    "fail",
    "read_params",
    "section",
    "write_bytes",
    "write_json",
]

PARAMS = Path("params.yaml")
DATASET = Path("data/shapes3d")
CHECKPOINTS = Path(".cache/checkpoints")  # outside every output: DVC deletes outputs before a run
MODALITIES = ("image", "depth", "radar")

Section = TypeVar("Section", bound=BaseModel)


def fail(message: str) -> NoReturn:
    """Print one line to stderr and leave with exit code 2."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """The whole of params.yaml as plain data; one line and exit code 2 if it is not YAML."""
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        fail(f"{path}: no such file; run this from the project's root")
    except YAMLError as error:
        fail(f"{path}: not valid YAML: {' '.join(str(error).split())}")
    if not isinstance(raw, dict):
        fail(f"{path}: must be a mapping of sections, is {type(raw).__name__}")
    return raw


def explain(error: ValidationError, prefix: str = "") -> list[str]:
    """One line per mistake: the key, the value, what is allowed."""
    lines = []
    for item in error.errors():
        key = ".".join([prefix, *map(str, item["loc"])]).strip(".")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key"
        shown = "" if isinstance(item["input"], Mapping | BaseModel) else f" = {item['input']!r}"
        lines.append(f"{key}{shown}: {message}")
    return lines


def section(name: str, schema: type[Section], path: Path = PARAMS) -> Section:
    """Section `name` of params.yaml as its typed model; one line per mistake and exit code 2."""
    try:
        return schema.model_validate(read_params(path).get(name))
    except ValidationError as error:
        fail("\n".join(f"{path}: {line}" for line in explain(error, name)))


def device() -> str | None:
    """The device asked for in the environment (DEVICE=cpu, cuda:1); None picks a GPU if any."""
    return os.environ.get("DEVICE") or None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all, with a final newline (it is kept in git)."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())

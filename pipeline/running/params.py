"""A params.yaml, or another file of settings, as typed models; a mistake is one line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import Node

__all__ = ["PARAMS", "Runs", "cut", "fail", "read_params", "section", "shown", "valid", "whole"]

PARAMS = Path("params.yaml")
MISTAKES = 20  # in a params.yaml that are told, a line each

Section = TypeVar("Section", bound=BaseModel)


def fail(message: str) -> NoReturn:
    """Print one line to stderr and leave with exit code 2."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def cut(text: str, most: int = 60) -> str:
    """A text as a message quotes it: on one line, of at most so many characters."""
    line = " ".join(text[: 10 * most].split())
    return line if len(line) <= most and len(text) <= 10 * most else f"{line[: most - 3]}..."


def shown(value: object) -> str:
    """A value as a message quotes it."""
    try:
        return cut(repr(value))
    except ValueError:  # Python writes out no integer of more than 4,300 digits
        return "an integer of thousands of digits"


class _Composer(Composer):
    """Reads no alias: nested ones let a few lines stand for more values than memory holds."""

    def compose_node(self, parent: Node | None, index: Any) -> Node:
        if self.parser.check_event(AliasEvent):
            event = self.parser.peek_event()
            problem = f"*{event.anchor} is an alias, which is not read; write the value itself"
            raise ComposerError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)


class _Constructor(SafeConstructor):
    """Names the line of a value that is not what it looks like, such as a date of month 13."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, TypeError, AttributeError):
            problem = f"{shown(node.value)} cannot be read as {str(node.tag).rsplit(':', 1)[-1]}"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark) from None


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """The whole of a params.yaml as plain data; one line and exit code 2 if it is not YAML."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Constructor = _Composer, _Constructor
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        fail(f"{path}: no such file; run this from the project's root")
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        fail(f"{path}: {_wrong(error)}")
    if not isinstance(raw, dict):
        fail(f"{path}: must be a mapping of sections, is {type(raw).__name__}")
    return raw


def _wrong(error: Exception) -> str:
    """Where a text is not YAML, and why."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object.count(b"\n", 0, error.start) + 1
        return f"line {line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save it as UTF-8"
    if isinstance(error, RecursionError):
        return "nested too deeply; sections hold values, lists and sections, a few levels deep"
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return f"line {mark.line + 1}, column {mark.column + 1}: {cut(error.problem, 160)}"
    return f"not YAML: {cut(str(error), 160)}"


def _explain(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> list[str]:
    """One line per mistake against `schema`: the key, the value, what is allowed."""
    lines = []
    mistakes = error.errors()
    for item in mistakes[:MISTAKES]:
        key = cut(".".join([prefix, *map(str, item["loc"])]).strip("."), 120)
        message = cut(item["msg"].removeprefix("Value error, "), 500)
        if item["type"] == "extra_forbidden":
            message = f"unknown key; there are {', '.join(_keys(schema, item['loc'][:-1]))}"
        value = (
            "" if isinstance(item["input"], Mapping | BaseModel) else f" = {shown(item['input'])}"
        )
        lines.append(f"{key}{value}: {message}".removeprefix(": "))
    more = len(mistakes) - MISTAKES
    return [*lines, *([f"{more} more mistakes"] if more > 0 else [])]


def _keys(schema: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys of the mapping at `location`, a path of keys from `schema` on."""
    for key in location:
        inside = get_args(schema)  # of dict[str, Model], its values' type; no section is optional
        schema = inside[-1] if inside else schema.model_fields[key].annotation
    return [field.alias or name for name, field in schema.model_fields.items()]


def section(name: str, schema: type[Section], path: Path = PARAMS) -> Section:
    """Section `name`, such as vae or grid.cells.poe-ecg, of params.yaml as its typed model.

    One line per mistake and exit code 2.
    """
    found: Any = read_params(path)
    for key in name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return valid(schema, found, path, name)


def whole(schema: type[Section], path: Path = PARAMS) -> Section:
    """All of params.yaml as its typed model; one line per mistake and exit code 2."""
    return valid(schema, read_params(path), path)


def valid(schema: type[Section], raw: Any, path: Path, prefix: str = "") -> Section:
    """What a file holds, or its part under `prefix`, as its typed model; one line per mistake and
    exit code 2."""
    try:
        return schema.model_validate(raw)
    except ValidationError as error:
        fail("\n".join(f"{path}: {line}" for line in _explain(error, schema, prefix)))


class Runs(BaseModel):
    """What of a grid names its runs."""

    model_config = ConfigDict(strict=True)

    cells: dict[str, dict[str, Any]] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)

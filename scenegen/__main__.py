"""Command line: `python -m scenegen render|preview|show|card|export|verify`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scenegen.params import SceneParams
from scenegen.scene import SceneSpec, sample_scene

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scenegen", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    params = argparse.ArgumentParser(add_help=False)
    params.add_argument(
        "--params", type=Path, help="JSON file of SceneParams (default: those of the code)"
    )
    params.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one param, such as objects.scale=[0.5,0.7]; may be repeated",
    )
    finished = argparse.ArgumentParser(add_help=False)
    finished.add_argument("folder", type=Path, help="a finished dataset")

    render = commands.add_parser("render", parents=[params], help="render a dataset folder")
    render.add_argument("folder", type=Path, help="where to; an unfinished dataset goes on")
    render.add_argument("--workers", type=int, help="processes (default: one a core)")
    render.add_argument(
        "--scheduler", metavar="tcp://HOST:PORT", help="of Dask, to render on its cluster"
    )
    sheet = commands.add_parser("preview", parents=[params], help="contact sheet of scenes")
    sheet.add_argument("--scene", type=int, default=0, help="first scene (default: %(default)s)")
    sheet.add_argument("--scenes", type=int, default=12, help="how many (default: %(default)s)")
    sheet.add_argument("--spec", type=Path, help="render this JSON of `show` instead")
    sheet.add_argument(
        "--out", type=Path, default=Path("preview.png"), help="PNG file (default: %(default)s)"
    )
    show = commands.add_parser("show", parents=[params], help="print what is in a scene, as JSON")
    show.add_argument("--scene", type=int, default=0, help="which (default: %(default)s)")
    card = commands.add_parser(
        "card", parents=[finished], help="describe a dataset: Markdown with plots"
    )
    card.add_argument("out", type=Path, help="folder for README.md and its plots")
    export = commands.add_parser("export", help="copy a dataset into another tool's format")
    export.add_argument("format", choices=["coco", "yolo", "hf", "webdataset"], help="which")
    export.add_argument("folder", type=Path, help="a finished dataset")
    export.add_argument("out", type=Path, help="folder to write")
    export.add_argument(
        "--modality",
        default="image",
        help="whose boxes: image, depth or radar (default: %(default)s)",
    )
    commands.add_parser("verify", parents=[finished], help="compare a dataset with its hashes")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 on success, 2 after one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        _COMMANDS[options.command](options)
    except ValidationError as error:
        for one in error.errors():
            key = ".".join(str(part) for part in one["loc"])
            message = one["msg"].removeprefix("Value error, ")
            print(f"{key}: {message} (given: {one['input']!r:.60})", file=sys.stderr)
        return 2
    except (ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _params(options: argparse.Namespace) -> SceneParams:
    data: dict[str, Any] = (
        json.loads(options.params.read_text(encoding="utf-8")) if options.params else {}
    )
    for change in options.set:
        key, _, text = change.partition("=")
        section = data
        *outer, last = key.split(".")
        for name in outer:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise ValueError(f"--set {change}: {name} is no section")
        try:
            section[last] = json.loads(text)
        except json.JSONDecodeError:
            section[last] = text
    return SceneParams.model_validate(data)


def _render(options: argparse.Namespace) -> None:
    from scenegen.executors import dask_executor
    from scenegen.generate import render_dataset

    params = _params(options)
    executor, disconnect = None, None
    if options.scheduler:
        executor, disconnect = dask_executor(options.scheduler)
    try:
        done = render_dataset(params, options.folder, workers=options.workers, executor=executor)
    finally:
        if disconnect:
            disconnect()
    print(f"{options.folder}: {done.count} scenes, sha256 {done.sha256}")


def _preview(options: argparse.Namespace) -> None:
    from scenegen.preview import preview

    scenes: list[int | SceneSpec] = list(range(options.scene, options.scene + options.scenes))
    if options.spec:
        scenes = [_spec(options.spec)]
    if not scenes:
        raise ValueError(f"--scenes {options.scenes}: must be 1 or more")
    preview(_params(options), scenes, options.out)
    print(options.out)


def _spec(path: Path) -> SceneSpec:
    try:
        return SceneSpec.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:  # also of what is no JSON, or no text
        raise ValueError(f"{path}: {error}") from None


def _show(options: argparse.Namespace) -> None:
    print(json.dumps(sample_scene(_params(options), options.scene).to_dict(), indent=2))


def _verify(options: argparse.Namespace) -> None:
    from scenegen.dataset import open_dataset

    dataset = open_dataset(options.folder)
    print(f"{options.folder}: {len(dataset)} scenes are intact")


def _card(options: argparse.Namespace) -> None:
    from scenegen.card import write_card
    from scenegen.dataset import open_dataset

    print(write_card(open_dataset(options.folder), options.out))


def _export(options: argparse.Namespace) -> None:
    from scenegen.dataset import open_dataset
    from scenegen.exports import EXPORTS

    EXPORTS[options.format](open_dataset(options.folder), options.out, options.modality)
    print(options.out)


_COMMANDS = {
    "render": _render,
    "preview": _preview,
    "show": _show,
    "card": _card,
    "export": _export,
    "verify": _verify,
}

if __name__ == "__main__":
    sys.exit(main())

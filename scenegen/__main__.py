"""Command line: `python -m scenegen render|preview|show|card|export|verify`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from base.files import explained
from base.process import listen
from scenegen.params import SceneParams
from scenegen.scene import SceneSpec, sample_scene

__all__ = ["main"]

MOST_PREVIEWED = 1000  # scenes on a contact sheet, which is one picture in memory


class _Parser(argparse.ArgumentParser):
    """One line for a mistake, as for every other; `--help` has the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists what is possible)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m scenegen", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    params = _Parser(add_help=False)
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
    finished = _Parser(add_help=False)
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
        help="sensor of the dataset whose boxes are written (default: %(default)s)",
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
            given = "" if isinstance(one["input"], dict) else f" (given: {one['input']!r:.60})"
            print(f"{key}: {message}{given}".removeprefix(": "), file=sys.stderr)
        return 2
    except (ValueError, RuntimeError, OSError) as error:
        text = explained(error) if isinstance(error, OSError) else str(error)
        print(" ".join(text.split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept", file=sys.stderr)
        return 130
    return 0


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: names the file that holds something else.
    """
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # also of what is no text
        raise ValueError(f"{path}: is no JSON file ({error})") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: holds {data!r:.40}, expected a JSON object")
    return data


def _params(options: argparse.Namespace) -> SceneParams:
    data = _object(options.params) if options.params else {}
    for change in options.set:
        key, equals, text = change.partition("=")
        if not (key and equals):
            raise ValueError(f"--set {change[:60]}: expected KEY=VALUE")
        section = data
        *outer, last = key.split(".")
        for name in outer:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise ValueError(f"--set {change[:60]}: {name} is no section")
        section[last] = _value(text)
    return SceneParams.model_validate(data)


def _value(text: str) -> Any:
    """What JSON makes of it; text that it makes nothing of stays text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _render(options: argparse.Namespace) -> None:
    from scenegen.executors import dask_executor
    from scenegen.generate import render_dataset

    params = _params(options)
    executor, disconnect = None, None
    if options.scheduler is not None:
        executor, disconnect = dask_executor(options.scheduler)
    try:
        done = render_dataset(params, options.folder, workers=options.workers, executor=executor)
    finally:
        if disconnect:
            disconnect()
    print(f"{options.folder}: {done.count} scenes, sha256 {done.sha256}")


def _preview(options: argparse.Namespace) -> None:
    from scenegen.preview import preview

    if not 1 <= options.scenes <= MOST_PREVIEWED:
        raise ValueError(f"--scenes {options.scenes}: must be 1 to {MOST_PREVIEWED}")
    first = _scene(options)
    scenes: list[int | SceneSpec] = list(range(first, first + options.scenes))
    if options.spec:
        scenes = [_spec(options.spec)]
    params = _params(options)
    _check_file(options.out)
    preview(params, scenes, options.out)
    print(options.out)


def _scene(options: argparse.Namespace) -> int:
    if not 0 <= options.scene < 2**62:  # records count in 64 bits
        raise ValueError(f"--scene {options.scene}: must be 0 to 2^62 - 1")
    return int(options.scene)


def _check_file(out: Path) -> None:
    """Refuse, before the work, to replace what is no plain file: a folder or a device."""
    if out.exists() and not out.is_file():
        raise ValueError(f"--out {out}: is no file; name a PNG file")


def _spec(path: Path) -> SceneSpec:
    data = _object(path)
    try:
        return SceneSpec.from_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _show(options: argparse.Namespace) -> None:
    print(json.dumps(sample_scene(_params(options), _scene(options)).to_dict(), indent=2))


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
    listen()  # SIGTERM, too, ends what runs as Ctrl-C does
    sys.exit(main())

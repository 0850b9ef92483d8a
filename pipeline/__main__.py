"""`python -m pipeline`: what a person does besides `dvc repro`."""

from __future__ import annotations

import argparse
import subprocess
import sys

from pipeline import params, presets

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    preset = commands.add_parser("preset", help="write a named set of values into params.yaml")
    preset.add_argument("name", choices=presets.names(), help="which one")
    commands.add_parser("check", help="validate params.yaml")
    commands.add_parser("preview", help="render a contact sheet with the present params")
    chosen = parser.parse_args(arguments)
    if chosen.command == "preset":
        presets.apply(chosen.name)
        print(f"params.yaml now holds preset {chosen.name}: see `dvc params diff`, run `dvc repro`")
    elif chosen.command == "check":
        params.load()
        print("params.yaml is valid")
    else:
        scenes = params.load().scenes.model_dump_json()
        subprocess.run(
            [sys.executable, "-m", "scenegen", "preview", "--params", scenes], check=True
        )


if __name__ == "__main__":
    main()

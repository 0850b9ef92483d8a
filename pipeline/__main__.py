"""`python -m pipeline`: what a person does besides `dvc repro`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline import params, presets
from pipeline.stage import write_bytes
from scenegen.preview import preview

__all__ = ["main", "with_table"]

BEGIN, END = "<!-- table3 -->", "<!-- /table3 -->"


def with_table(readme: str, table: str) -> str:
    """README.md with the table between its two marks."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table}{END}{after}"


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    preset = commands.add_parser("preset", help="write a named set of values into params.yaml")
    preset.add_argument("name", choices=presets.names(), help="which one")
    commands.add_parser("check", help="validate params.yaml")
    commands.add_parser("readme", help="copy the committed table into README.md")
    sheet = commands.add_parser("preview", help="render a contact sheet with the present params")
    sheet.add_argument("--scene", type=int, default=0, help="first scene shown (default 0)")
    sheet.add_argument("--scenes", type=int, default=8, help="how many scenes (default 8)")
    chosen = parser.parse_args(arguments)
    if chosen.command == "preset":
        presets.apply(chosen.name)
        print(f"params.yaml now holds preset {chosen.name}: see `dvc params diff`, run `dvc repro`")
    elif chosen.command == "check":
        params.load()
        print("params.yaml is valid")
    elif chosen.command == "readme":
        readme = Path("README.md")
        table = Path("results/table3.md").read_text()
        write_bytes(readme, with_table(readme.read_text(), table).encode())
    else:
        out = Path("data/preview.png")
        preview(params.load().scenes, list(range(chosen.scene, chosen.scene + chosen.scenes)), out)
        print(out)


if __name__ == "__main__":
    main()

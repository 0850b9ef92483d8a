"""`python -m studies`: write a preset into a study's params, or run a study in parallel."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import argparse
import sys

from base import lockfile
from base.process import listen
from pipeline import presets
from pipeline.running import grid, stage
from pipeline.study import OTHERS

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(prog="python -m studies", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    preset = commands.add_parser("preset", help="write a named set of values into a study's params")
    preset.add_argument("study", choices=OTHERS, help="which study")
    preset.add_argument("name", help="which preset: a file of the study's presets/")
    beside = commands.add_parser("train", help="bring a study up to date, several cells at once")
    beside.add_argument("study", choices=OTHERS, help="which study")
    beside.add_argument(
        "--jobs", type=int, default=2, help="trainings or scores at once (default: %(default)s)"
    )
    chosen = parser.parse_args(arguments)
    study = OTHERS[chosen.study]
    if chosen.command == "train":
        if chosen.jobs < 1:
            parser.error(f"--jobs {chosen.jobs}: must be 1 or more")
        try:
            listen()
            lockfile.mend()
            grid.train(chosen.jobs, definition=study.home / "dvc.yaml", params=study.params)
        except KeyboardInterrupt:
            told = "what is finished is kept, and the same command goes on"
            print(f"train: interrupted; {told}", file=sys.stderr)
            raise SystemExit(130) from None
        return
    kept = presets.apply(chosen.name, study.params, study.home / "presets")
    print(f"{study.params} now holds preset {chosen.name}; run `dvc repro {study.home}/dvc.yaml`")
    if kept:
        print(
            "Not part of the preset, so left as you have set them: "
            f"{stage.cut(', '.join(kept), 1000)}.\n"
            f"`git checkout {study.params}` undoes all edits since the last commit."
        )


if __name__ == "__main__":
    main()

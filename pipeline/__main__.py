"""What a person does with the pipeline. `dvc repro` runs all of it; these are its parts, and the
tools around it."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

try:
    from base import lockfile
    from base.files import explained
    from base.process import listen
    from models.params import VAEParams
    from pipeline import params, presets
    from pipeline.running import stage
    from pipeline.study import ROOT, STUDIES
    from scenegen.executors import available_cores
except ModuleNotFoundError as missing:
    print(f"{missing}: run `make .venv/ready`, then `source .venv/bin/activate`", file=sys.stderr)
    raise SystemExit(2) from None

__all__ = ["main", "with_table"]

BEGIN, END = "<!-- table3 -->", "<!-- /table3 -->"
STAGES = {  # subcommand: the stages of dvc.yaml that it brings up to date
    "render": ("render",),
    "score": ("score", "score_unimodal", "score_faults"),
    "report": ("summary", "report"),
}

Options = argparse.Namespace
Run = Callable[[Options], None]


def read_text(path: Path) -> str:
    """All of a text file."""
    return path.read_text(encoding="utf-8")


def with_table(readme: str, table: str) -> str:
    """README.md with the table between its two marks."""
    before, rest = readme.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table}{END}{after}"


# --- one function per subcommand ---------------------------------------------------------------


def preset(options: Options) -> None:
    """Write a named set of values into params.yaml."""
    stage.device()  # what `make NAME` runs next would refuse them
    stage.workers()
    study = STUDIES[options.study]
    kept = presets.apply(options.name, study)
    about = presets.about(options.name, study.presets)
    print(f"{study.params} now holds preset {options.name}: {about}")
    print(f"`dvc params diff` shows what is new, `{study.again}` runs it.")
    if kept:
        print(
            "Not part of the preset, so left as you have set them: "
            f"{stage.cut(', '.join(kept), 1000)}.\n"
            f"`git checkout {study.params}` undoes all edits since the last commit."
        )


def check(options: Options) -> None:
    """Validate params.yaml, DEVICE and WORKERS, and import the code of every cell."""
    from pipeline.stages.check import wanted

    wanted(ROOT)
    stage.device()
    stage.workers()
    if options.dvc:
        from pipeline.running import record

        record.need_dvc()
    print("params.yaml is valid")


def preview(options: Options) -> None:
    """Render a contact sheet of a few scenes with the present params."""
    from scenegen.preview import preview as render_sheet

    scenes = list(range(options.scene, options.scene + options.scenes))
    render_sheet(params.load().scenes, scenes, options.out)
    print(options.out)


def stages(options: Options) -> None:
    """Bring the stages of a subcommand up to date through DVC."""
    from pipeline.running import record

    record.need_dvc()
    environment = stage.environment()
    if "workers" in options:
        environment["WORKERS"] = str(options.workers)
        stage.workers(environment)
    if "scheduler" in options:
        environment["SCENEGEN_SCHEDULER"] = options.scheduler
    command = ["dvc", *record.WAITING, "repro", *STAGES[options.command]]
    print(f"$ {' '.join(command)}", flush=True)
    # In this process's place, so that Ctrl-C is DVC's and the stage's alone.
    os.execve(sys.executable, [sys.executable, "-m", *command], environment)


def train(options: Options) -> None:
    """Run all stale trainings and scores, several at once, then what is made of them."""
    from pipeline.running.train import train as run

    with contextlib.ExitStack() as stack:
        executor = None
        if "scheduler" in options:
            from scenegen.executors import RenderError, dask_executor

            try:
                executor, disconnect = dask_executor(options.scheduler)
            except RenderError as error:
                stage.fail(str(error))
            stack.callback(disconnect)
        run(STUDIES[options.study], _slots(options), executor)


def study(options: Options) -> None:
    """Train and score everything without DVC and Blender."""
    from pipeline.running import without_dvc

    minutes = vars(options).get("minutes")
    seconds = None if minutes is None else 60 * minutes
    without_dvc.train(STUDIES[options.study], _slots(options), seconds)


def adopt(options: Options) -> None:
    """Take over what a study did on another machine."""
    from pipeline.running import without_dvc

    study = STUDIES[options.study]
    record = vars(options).get("record", without_dvc.record_of(study))
    without_dvc.adopt(study, record)


def _slots(options: Options) -> int:
    """Stages at once: as asked for, else as many trainings as the cores hold."""
    if "jobs" not in options:
        threads = STUDIES[options.study].section("vae", VAEParams).training.threads
        return max(len(available_cores()) // threads, 1)
    return int(options.jobs)


def export(options: Options) -> None:
    """Copy the scenes into another tool's format."""
    from pipeline.scoring.scenes import rendered
    from scenegen.exports import EXPORTS

    try:
        EXPORTS[options.format](rendered(), options.out, options.modality)
    except (ValueError, OSError) as error:
        stage.fail(str(error))
    print(options.out)


def status(options: Options) -> None:
    """Show what is done, stale, running and left, and about how long the rest takes."""
    from pipeline.running.status import look, table

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `status | head` ends without a word
    study = STUDIES[options.study]
    print(table(study, look(study)))


def readme(options: Options) -> None:
    """Write the table of the run in `results/` into README.md."""
    from pipeline.reporting.short_table import short_table

    path = Path("README.md")
    table = short_table(Path("results"))
    text = stage.read(
        path, lambda file: with_table(read_text(file), table), "git checkout README.md"
    )
    stage.write_bytes(path, text.encode())


# --- the command line --------------------------------------------------------------------------


Add = Callable[[str, Run, str, str], argparse.ArgumentParser]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description=__doc__,
        epilog="`python -m pipeline COMMAND --help` has units, defaults and an example of each.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Run, what: str, example: str) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=f"example:  python -m pipeline {example}",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        one.set_defaults(run=run)
        return one

    _add_any_studys(add)
    _add_scenes(add)
    add("score", stages, "score every trained model (and train what is not)", "score")
    what = "write the tables, the pictures and results/report.html (and run what they still lack)"
    add("report", stages, what, "report")
    what = "validate params.yaml, DEVICE, WORKERS and the code of the cells"
    one = add("check", check, what, "check")
    one.add_argument("--dvc", action="store_true", help="also that DVC can work in this folder")
    add("readme", readme, "copy the committed table into README.md", "readme")
    return parser


def _add_any_studys(add: Add) -> None:
    """The commands that work on any study."""
    one = add("preset", preset, "write a named set of values into params.yaml", "preset smoke")
    told = "; ".join(f"{name}: {presets.about(name).rstrip('.')}" for name in presets.names())
    one.add_argument("name", help=f"{told}; another study has its own")
    _add_study(one)
    one = add("train", train, "do what `dvc repro` does, trainings and scores at once", "train")
    _add_study(one)
    _add_jobs(one)
    _add_scheduler(one)
    what = "train and score everything from the shards alone, without DVC and Blender"
    one = add("study", study, what, "study --jobs 8 --minutes 30")
    _add_study(one)
    _add_jobs(one)
    one.add_argument(
        "--minutes",
        type=_least(0, float),
        default=argparse.SUPPRESS,
        help="stop after so long, 0 or more, with what is finished; the next call goes on "
        "(default: never)",
    )
    one = add("adopt", adopt, "take over what a study did on another machine", "adopt")
    _add_study(one)
    one.add_argument(
        "--record", type=Path, default=argparse.SUPPRESS, help="default: study.json in its data"
    )
    what = "what is done, stale, running and left, and the time left"
    _add_study(add("status", status, what, "status"))


def _add_scenes(add: Add) -> None:
    """The commands about rendered scenes."""
    one = add("preview", preview, "render a contact sheet with the present params", "preview")
    one.add_argument(
        "--scene", type=_least(0), default=0, metavar="NUMBER", help="first scene shown, 0 or more"
    )
    one.add_argument("--scenes", type=_least(1), default=8, help="how many scenes, 1 or more")
    one.add_argument("--out", type=Path, default=Path("data/preview.png"), help="PNG file to write")
    one = add("render", stages, "render the scenes that are missing", "render --workers 8")
    one.add_argument(
        "--workers",
        type=_least(1),
        default=argparse.SUPPRESS,
        metavar="PROCESSES",
        help="at once, here or on the cluster, 1 or more (default: WORKERS, else one per core)",
    )
    _add_scheduler(one)
    one = add("export", export, "copy the scenes into another format", "export coco /tmp/coco")
    one.add_argument("format", choices=["coco", "yolo", "hf", "webdataset"], help="which one")
    one.add_argument("out", type=Path, help="folder to write into")
    one.add_argument(
        "--modality", default="image", help="sensor whose pictures and boxes (%(default)s)"
    )


def _least(least: int, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    """The type of an option that takes a number, `least` or more."""

    def number(text: str) -> float:
        if not (value := kind(text)) >= least:  # nor is NaN
            raise argparse.ArgumentTypeError(f"{text}: must be {least} or more")
        return value

    return number


def _add_study(one: argparse.ArgumentParser) -> None:
    one.add_argument("--study", choices=STUDIES, default=ROOT.name, help="which one")


def _add_jobs(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--jobs",
        type=_least(1),
        default=argparse.SUPPRESS,
        metavar="STAGES",
        help="at once, 1 or more (default: as many trainings as the cores hold)",
    )


def _add_scheduler(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        default=argparse.SUPPRESS,
        help="on the Dask cluster whose scheduler is there, over a file system that it shares "
        "(default: on this machine)",
    )


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and do what it asks."""
    options = _parser().parse_args(arguments)
    try:
        listen()
        lockfile.mend()
        options.run(options)
    except KeyboardInterrupt:
        told = "what is finished is kept, and the same command goes on"
        print(f"{options.command}: interrupted; {told}", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # whoever read this has gone; a shell says 141 then
        raise SystemExit(128 + signal.SIGPIPE) from None
    except OSError as error:
        stage.fail(f"{options.command}: {explained(error)}")


if __name__ == "__main__":
    main()

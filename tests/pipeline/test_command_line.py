"""`python -m pipeline`, and what the environment may ask for."""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from pipeline import params, presets
from pipeline.__main__ import _parser, main
from pipeline.run import Run
from pipeline.running import stage, status
from pipeline.stages import report, score, score_faults, summary
from pipeline.study import ROOT as SHAPES
from tests.conftest import OTHERS, ROOT, clone, run, shipped
from tests.pipeline.test_stages import change

PARSER = _parser()
COMMANDS: dict[str, argparse.ArgumentParser] = next(
    action.choices for action in PARSER._actions if isinstance(action.choices, dict)
)
UNITS = {  # what the number of an option counts, as its help calls it
    "--scene": "NUMBER",
    "--scenes": "SCENES",
    "--workers": "PROCESSES",
    "--jobs": "STAGES",
    "--minutes": "MINUTES",
}


def test_help_names_what_a_person_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    daily = {"preset", "preview", "render", "train", "study", "adopt", "score", "report", "export"}
    assert daily | {"status", "check"} <= COMMANDS.keys()
    assert [name for name in COMMANDS if f"\n    {name} " not in shown] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does_with_an_example_that_parses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    told, example = capsys.readouterr().out.split("example:")
    about = told.split("\n\n")[1]
    assert about.endswith(".")
    assert len(about.split()) >= 4
    words = example.split()
    assert words[:4] == ["python", "-m", "pipeline", command]
    PARSER.parse_args(words[3:])
    assert [action.dest for action in COMMANDS[command]._actions if not action.help] == []


def test_every_number_has_its_unit_its_range_and_its_default() -> None:
    numbers = {
        action.option_strings[0]: (action, one)
        for one in COMMANDS.values()
        for action in one._actions
        if action.type not in (None, Path)
    }
    assert numbers.keys() == UNITS.keys()
    for name, (action, one) in numbers.items():
        shown = " ".join(one.format_help().split())
        told = shown.split(f" {name} {UNITS[name]} ")[1].split(" --")[0]
        assert re.search(r"\b[01] or more\b", told), name
        assert re.search(r"\(default: \S.*\)", told), name
        if action.default is not argparse.SUPPRESS:
            assert f"(default: {action.default})" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("preview --scenes 0", "argument --scenes: 0: must be 1 or more"),
        ("preview --scene -1", "argument --scene: -1: must be 0 or more"),
        ("render --workers 0", "argument --workers: 0: must be 1 or more"),
        ("train --jobs 0", "argument --jobs: 0: must be 1 or more"),
        ("study --jobs two", "argument --jobs: invalid number value: 'two'"),
        ("study --minutes nan", "argument --minutes: nan: must be 0 or more"),
    ],
)
def test_a_number_out_of_its_range_is_refused(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {said}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WORKERS", "abc", "WORKERS=abc: must be a whole number of processes, 1 or more"),
        ("WORKERS", "0", "WORKERS=0: must be"),
        ("WORKERS", "-1", "WORKERS=-1: must be"),
    ],
)
def test_a_wrong_number_of_workers_is_one_line(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    environment = {variable: value, "PYTHONPATH": str(ROOT)}
    done = run(tmp_path, "python", "-m", "pipeline.stages.render", check=False, **environment)
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert said in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("gpu", "DEVICE=gpu: must be cpu, cuda, or cuda:N"),
        ("cuda:x", "DEVICE=cuda:x: must be"),
        (f"cuda:{torch.cuda.device_count()}", "torch finds"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    value: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEVICE", value)
    with pytest.raises(SystemExit) as stop:
        stage.device()
    line = capsys.readouterr().err
    assert stop.value.code == 2
    assert line.count("\n") == 1
    assert said in line


PIPELINE = ("a run is NAME-SEED, NAME one of ", "SEED one of [0]")
UNKNOWN = [
    ("pipeline.stages.train_vae nope-0", ("nope-0: not a run of params.yaml; ", *PIPELINE)),
    ("pipeline.stages.train_vae poe-none-7", ("poe-none-7: not a run of params.yaml; ", *PIPELINE)),
    (
        "pipeline.stages.train_vae poe-none-00",
        ("poe-none-00: not a run of params.yaml; ", *PIPELINE),
    ),
    ("pipeline.stages.score poe-none", ("poe-none: not a run of params.yaml; ", *PIPELINE)),
    ("pipeline.stages.score x", ("x: not a run of params.yaml; ", *PIPELINE)),
    (
        "pipeline.stages.score ../poe-none-0",
        ("../poe-none-0: not a run of params.yaml; ", *PIPELINE),
    ),
    ("pipeline.stages.score_faults -- -0", ("-0: not a run of params.yaml; ", *PIPELINE)),
    (
        "pipeline.stages.train_vae nope-0 --study cub",
        ("nope-0: not a run of studies/cub/params.yaml; ", "image, text"),
    ),
    (
        "pipeline.stages.score text-9 --study cub",
        ("text-9: not a run of studies/cub/params.yaml; ",),
    ),
    (
        "pipeline.stages.train_vae x --study mnist_svhn",
        ("x: not a run of studies/mnist_svhn/params.yaml; ",),
    ),
    (
        "pipeline.stages.score image-0 --study mnist_svhn",
        ("image-0: not a run of studies/mnist_svhn/params.yaml",),
    ),
]


@pytest.mark.parametrize(("words", "said"), UNKNOWN, ids=[words for words, _ in UNKNOWN])
def test_a_run_that_the_params_do_not_ask_for_is_one_line(
    words: str,
    said: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before a lock, a folder or a file is there; `--` is for names that begin with one."""
    for name in ("params.yaml", *(f"studies/{study}/params.yaml" for study in OTHERS)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(shipped(name))
    before = set(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words.split())
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(words.split()[0], run_name="__main__")
    line = capsys.readouterr().err
    assert stop.value.code == 2
    assert line.count("\n") == 1
    assert line.startswith(said[0])
    assert [part for part in said if part not in line] == []
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", ">&-", "| true", "| head -c 1"])
def test_closed_streams_and_readers_that_leave_are_no_error(tmp_path: Path, closed: str) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "models").symlink_to(ROOT / "models")
    command = f"set -o pipefail; '{sys.executable}' -m pipeline check {closed}"
    done = run(tmp_path, "bash", "-c", command, check=False, PYTHONPATH=str(ROOT))
    assert done.stderr == ""
    assert done.returncode in ((0, 141) if "|" in closed else (0,))


def test_what_is_printed_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("caf\xe9: 1\n", encoding="utf-8")
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    command = (sys.executable, "-m", "pipeline", "check")
    done = run(tmp_path, *command, check=False, PYTHONPATH=str(ROOT), **environment)
    assert done.returncode == 2
    assert "params.yaml: caf\xe9 = 1: unknown key; there are scenes, " in done.stderr


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / ".cache").touch()  # where a folder should be; root may write anywhere
    done = run(
        tmp_path, sys.executable, "-m", "pipeline.stages.render", check=False, PYTHONPATH=str(ROOT)
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert re.match(r"render: \.cache/runs\S*: Not a directory; ", done.stderr)


def test_a_device_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "cpu")
    assert stage.device() == "cpu"
    monkeypatch.delenv("DEVICE")
    assert stage.device() is None


@pytest.mark.slow
def test_training_refuses_a_missing_gpu_before_it_touches_anything(
    smoke: Path, tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    project = Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))
    before = (project / "data/models/poe-none-0.safetensors").read_bytes()
    command = ("python", "-m", "pipeline.stages.train_vae", "poe-none-0")
    done = run(project, *command, check=False, DEVICE="cuda")
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "DEVICE=cuda: torch finds 0 GPUs here; use DEVICE=cpu or leave it out"
    )
    assert (project / "data/models/poe-none-0.safetensors").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def fuse(", "models/fusions/broken.py: SyntaxError"),
        ("import no_such_package", "models/fusions/broken.py: ModuleNotFoundError"),
        ("def fused(): ...", "has no attribute 'fuse'"),
    ],
)
def test_check_refuses_code_that_cannot_be_imported(tmp_path: Path, code: str, said: str) -> None:
    """Which a training would find out after rendering."""
    project = clone(tmp_path / "project")
    (project / "models/fusions/broken.py").write_text(code)
    change(project, "grid.cells.broken-none", {"fusion": "broken", "objective": "none"})
    done = run(project, "python", "-m", "pipeline", "check", check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.strip().count("\n") == 0


@pytest.mark.slow
@pytest.mark.parametrize("target", ["repro", "smoke"])
def test_make_refuses_a_device_before_anything(tmp_path: Path, target: str) -> None:
    project = clone(tmp_path / "project")
    before = (project / "params.yaml").read_bytes()
    (project / ".venv").mkdir()
    (project / ".venv/ready").touch()  # this interpreter's environment is the one
    done = run(project, "make", target, check=False, DEVICE="gpu")
    assert done.returncode != 0
    assert "DEVICE=gpu: must be cpu" in done.stderr
    assert "stage" not in done.stdout
    assert not (project / "data/checked").exists()
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("python", ["no-such-python", "false", ""])
def test_make_refuses_another_python(tmp_path: Path, python: str) -> None:
    """In one line, besides make's own, and what is in .venv stays."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/kept").touch()
    done = run(tmp_path, "make", f"PYTHON={python}", ".venv/ready", check=False)
    assert done.returncode != 0
    assert f"PYTHON={python} is not Python 3.11" in done.stdout
    assert (tmp_path / ".venv/kept").exists()


def test_a_preset_names_the_hand_edits_that_it_leaves(
    smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))
    monkeypatch.chdir(project)
    assert presets.apply("default") == []
    change(project, "scenes.objects.gap", 0.25)
    main(["preset", "smoke"])
    assert "left as you have set them: scenes.objects.gap." in capsys.readouterr().out
    values = YAML(typ="safe").load((project / "params.yaml").read_text())
    assert values["scenes"]["objects"]["gap"] == 0.25
    assert values["scenes"]["count"] == 240


def test_export_writes_what_the_format_promises(smoke: Path, tmp_path: Path) -> None:
    run(smoke, "python", "-m", "pipeline", "export", "coco", str(tmp_path / "coco"))
    assert any((tmp_path / "coco").rglob("*.json"))


# --- status ------------------------------------------------------------------------------------


@pytest.fixture
def project(smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished smoke run, and the tests' working directory."""
    folder = Path(shutil.copytree(smoke, tmp_path / "project", symlinks=True))
    monkeypatch.chdir(folder)
    return folder


def states(project: Path) -> dict[str, str]:
    return {entry.name: entry.state for entry in status.look(SHAPES)}


SCORE = partial(score.main, SHAPES)
DAMAGED = [
    (SCORE, Run("poe-ecg", 0), "data/models/poe-ecg-0.safetensors", "dvc repro"),
    (SCORE, Run("poe-ecg", 0), "data/detectors/depth.safetensors", "dvc repro"),
    (SCORE, Run("poe-ecg", 0), "results/models/poe-ecg-0.json", "dvc repro"),
    (score_faults.main, Run("poe-ecg", 0), "results/scores/poe-ecg-0.json",
     "python -m pipeline.stages.score poe-ecg-0"),
    (partial(summary.main, SHAPES), None, "results/scores/poe-ecg-0.json", "dvc repro"),
    (partial(report.main, SHAPES), None, "results/scores/poe-ecg-0.json", "dvc repro"),
    (partial(report.main, SHAPES), None, "results/detectors/image.json", "dvc repro"),
    (partial(report.main, SHAPES), None, "data/bootstrap/image-0.npz", "dvc repro"),
    (partial(report.main, SHAPES), None, "data/faults/poe-ecg-0.npz", "dvc repro"),
    (partial(report.main, SHAPES), None, "data/samples/poe-ecg-0.npz", "dvc repro"),
    (main, ["readme"], "results/faults.json", "dvc repro"),
]  # fmt: skip


@pytest.mark.parametrize("share", [None, 0, 1 / 2])
def test_a_file_of_which_half_or_all_is_missing_is_one_line(
    project: Path, share: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    for work, argument, name, again in DAMAGED:
        whole = (project / name).read_bytes()
        (project / name).unlink()  # linked to DVC's cache
        if share is not None:
            (project / name).write_bytes(whole[: int(share * len(whole))])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            work(*([] if argument is None else [argument]))  # type: ignore[operator]
        line = capsys.readouterr().err
        assert (stop.value.code, line.count("\n")) == (2, 1), line
        why = "no such file" if share is None else r"cannot be read \(.*\)"
        made = rf"`{again}` makes (it( anew)?|what params.yaml asks for)"
        assert re.fullmatch(rf"{name}: {why}; {made}\n", line), line
        (project / name).write_bytes(whole)


def test_a_summary_without_curves_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((project / "results/metrics").iterdir())
    shutil.rmtree(project / "data/curves/poe-ecg-0")
    with pytest.raises(SystemExit) as stop:
        summary.main(SHAPES)
    told = "data/curves/poe-ecg-0: has no validation loss; `dvc repro` makes it\n"
    assert (stop.value.code, capsys.readouterr().err) == (2, told)
    assert sorted((project / "results/metrics").iterdir()) == before


def test_a_report_of_other_faults_than_were_scored_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(project, "score.faults.severities", [0.55])
    with pytest.raises(SystemExit) as stop:
        report.main(SHAPES)
    cell = next(iter(params.load().grid.cells))
    told = f"data/faults/{cell}-0.npz: has no depth/blackout/0.55/depth; `dvc repro`\n"
    assert (stop.value.code, capsys.readouterr().err) == (2, told)


def test_json_has_null_for_a_figure_that_is_none(tmp_path: Path) -> None:
    content = {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": (float("-inf"), True)}}
    stage.write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": {"d": [None, True]}}
    assert not re.search("NaN|Infinity", text)


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_one_line() -> None:
    done = run(
        ROOT, "python", "-m", "pipeline", "train", "--scheduler", "tcp://127.0.0.1:9", check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("no Dask scheduler answers at tcp://127.0.0.1:9: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["report", "train"])
def test_a_command_needs_no_active_environment(project: Path, command: str) -> None:
    """`.venv/bin/python -m pipeline ...` does: it finds DVC, and DVC's stages the same Python."""
    change(project, "report.examples", 3)
    done = run(project, sys.executable, "-m", "pipeline", command, PATH=os.defpath)
    assert "> python -m pipeline.stages.report" in done.stdout
    assert set(states(project).values()) == {"done"}


def test_status_of_a_finished_run_is_done(project: Path) -> None:
    assert set(states(project).values()) == {"done"}
    assert "Everything is up to date." in status.table(SHAPES, status.look(SHAPES))


def test_status_tells_stale_from_waiting_from_new(project: Path) -> None:
    change(project, "vae.latent", 16)
    change(project, "grid.cells.bce-none", {"fusion": "bce", "objective": "none"})
    found = {entry.name: entry for entry in status.look(SHAPES)}
    assert found["render"].state == found["train_detector@image"].state == "done"
    assert found["train_vae@poe-ecg-0"].state == "stale"
    assert found["train_vae@poe-ecg-0"].note == "vae.latent"
    assert found["train_vae@bce-none-0"].state == "left"
    assert found["train_vae@bce-none-0"].note == "never run"
    assert found["score@poe-ecg-0"].note == "waits for train_vae@poe-ecg-0"


def test_an_edited_fusion_makes_its_own_cells_stale(project: Path) -> None:
    file = project / "models/fusions/moe.py"
    file.write_text(file.read_text().replace("1.0)", "2.0)"))
    shown = run(project, "python", "-m", "pipeline", "status").stdout
    assert re.search(r"^stale +train_vae@moe-none-0 .*fusion or objective", shown, re.MULTILINE)
    assert "train_vae@poe-none-0" not in shown  # a line for each stage that is not done


def test_time_left_is_the_last_run_scaled_by_the_steps(project: Path) -> None:
    took = json.loads((project / "results/times/poe-ecg-0.json").read_text())["train_seconds"]
    change(project, "vae.training.steps", 80)
    entry = next(e for e in status.look(SHAPES) if e.name == "train_vae@poe-ecg-0")
    assert entry.seconds == pytest.approx(2 * took)


def test_time_left_is_by_the_params_of_the_run_that_took_it(project: Path) -> None:
    """Not by dvc.lock's, which git may have brought back since."""
    change(project, "scenes.seed", 1)
    params = stage.read_params()
    params["scenes"]["count"] //= 10
    stage.write_json(stage.RUNS / "render.json", {"seconds": 7.0, "params": params})
    entry = next(e for e in status.look(SHAPES) if e.name == "render")
    assert entry.seconds == pytest.approx(70.0)
    stage.write_json(stage.RUNS / "render.json", {"seconds": 7.0})  # as it was once written
    assert next(e for e in status.look(SHAPES) if e.name == "render").seconds is None


def test_a_new_cell_takes_as_long_as_the_others_do(project: Path) -> None:
    change(project, "grid.cells.bce-ecg", {"fusion": "bce", "objective": "ecg"})
    times = {e.name: e.seconds for e in status.look(SHAPES) if e.group == "train_vae"}
    new = times.pop("train_vae@bce-ecg-0")
    took = [
        json.loads((project / f"results/times/{name.split('@')[1]}.json").read_text())
        for name in times
    ]
    assert new == pytest.approx(sum(one["train_seconds"] for one in took) / len(took))


def test_a_clone_without_data_is_told_to_pull(project: Path) -> None:
    shutil.rmtree(project / "data/detectors")
    shown = status.table(SHAPES, status.look(SHAPES))
    assert "data/detectors/image.safetensors deleted" in shown
    assert "dvc pull" in shown

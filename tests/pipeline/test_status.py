"""A look at hundreds of stages reads what they share once."""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.running import stage, status
from pipeline.study import ROOT as SHAPES
from tests.conftest import clone, run
from tests.pipeline.test_stages import change

_watched: list[Counter[Path]] = []


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if _watched and event == "open" and isinstance(arguments[0], str | os.PathLike):
        _watched[-1][Path(arguments[0]).absolute()] += 1


@pytest.fixture(scope="module", autouse=True)
def _hook() -> Iterator[None]:
    sys.addaudithook(_count)  # for good: Python has no way to remove one
    yield
    _watched.clear()


def opened() -> tuple[Counter[Path], list[status.Entry]]:
    """How often each file is opened by one look, DVC's own share included."""
    _watched.append(Counter())
    found = status.look(SHAPES)
    return _watched.pop(), found


def committed(smoke: Path, to: Path) -> Path:
    """A clone in which the smoke run was committed: params, lock and results, and no data."""
    project = clone(to)
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(smoke / name, project / name)
    shutil.rmtree(project / "results")
    in_git = shutil.ignore_patterns("report.html", ".gitignore")  # all but what DVC keeps
    shutil.copytree(smoke / "results", project / "results", ignore=in_git)
    return project


def test_no_file_is_read_once_a_stage(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone has the records of a run and none of its data: all times are needed."""
    project = committed(smoke, tmp_path / "project")
    monkeypatch.chdir(project)
    status.look(SHAPES)  # DVC remembers the digests of files that it has seen
    few, some = opened()
    change(project, "grid.seeds", [0, 1, 2])
    status.look(SHAPES)
    many, all_ = opened()
    assert len(all_) > 2 * len(some)
    assert {e.seconds is None for e in all_ if e.group == "train_vae"} == {False}

    trained = [e.name.split("@")[1] for e in some if e.group in ("train_vae", "train_unimodal")]
    records = [project / f"results/models/{name}.json" for name in trained]
    assert len(records) > 3
    for file in (project / "params.yaml", *records):
        assert 1 <= few[file] == many[file] <= 4, file
    growth = {file: (n, few[file]) for file, n in many.items() if n > few[file] + 3}
    assert not {f: n for f, n in growth.items() if f.is_relative_to(project)}


@pytest.mark.slow
def test_a_fresh_clone_has_all_of_it_left_and_an_estimate_for_trainings(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = committed(smoke, tmp_path / "project")
    monkeypatch.chdir(project)
    found = status.look(SHAPES)
    assert {e.state for e in found} == {"left"}
    timed = {e.group for e in found if e.seconds is not None}
    assert timed == {"train_detector", "train_unimodal", "train_vae"}
    shown = status.table(SHAPES, found)
    assert " + ? one after another" in shown
    assert "`dvc pull dvc.yaml` fetches them" in shown
    assert "if that fails: docs/guide/share.md" in shown


@pytest.mark.slow
def test_a_look_waits_while_dvc_writes_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = clone(tmp_path / "project")
    monkeypatch.chdir(project)
    whole = Path("dvc.lock").read_bytes()
    expected = status.look(SHAPES)
    Path("dvc.lock").write_bytes(whole[: len(whole) // 2])
    threading.Timer(1.0, Path("dvc.lock").write_bytes, (whole,)).start()
    assert status.look(SHAPES) == expected


@pytest.mark.slow
def test_a_lock_that_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "LOOKS", 2)
    monkeypatch.chdir(clone(tmp_path / "project"))
    Path("dvc.lock").write_text(f"<<<<<<< mine\n{Path('dvc.lock').read_text()}")
    with pytest.raises(SystemExit) as stop:
        status.look(SHAPES)
    assert stop.value.code == 2
    assert re.fullmatch(r"status: .*dvc\.lock.*\n", capsys.readouterr().err)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"seconds": 5', '{"seconds": "5"}'])
def test_a_damaged_note_of_a_run_is_named_and_deleted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    content: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("a: 1\n")
    for name in ("one.json", "one.part.json"):
        (stage.RUNS / name).parent.mkdir(parents=True, exist_ok=True)
        (stage.RUNS / name).write_text(content)
    assert stage.read_run(stage.RUNS / "one.json") is None
    with stage.running("one", lambda: ""):
        pass
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told] == [
        ".cache/runs/one.json",
        ".cache/runs/one.part.json",
    ]
    assert stage.read_run(stage.RUNS / "one.json")
    assert sorted(os.listdir(stage.RUNS)) == ["one.json", "one.lock"]


@pytest.mark.slow
def test_damaged_results_and_notes_leave_times_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone(tmp_path / "project"))
    stage.RUNS.mkdir(parents=True)
    for folder in ("models", "times"):
        for file in Path("results", folder).glob("*.json"):
            file.write_text("{")
            (stage.RUNS / f"train_vae@{file.stem}.json").write_text("[]")
    assert {e.seconds for e in status.look(SHAPES) if e.group == "train_vae"} == {None}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as an archive has it: in no git."""
    folder = clone(tmp_path_factory.mktemp("archive") / "project")
    shutil.rmtree(folder / ".git")
    return folder


def test_an_archive_has_a_status(archive: Path) -> None:
    shown = run(archive, "python", "-m", "pipeline", "status")
    assert "About " in shown.stdout
    assert shown.stderr == ""


NEEDING = ("train", "adopt", "report", "check --dvc")


@pytest.mark.parametrize("command", NEEDING)
def test_what_needs_git_says_so_in_a_line(archive: Path, command: str) -> None:
    done = run(archive, "python", "-m", "pipeline", *command.split(), check=False)
    assert done.returncode == 2
    assert re.fullmatch(r".* is not a git repository; DVC needs one: `git init`, .*\n", done.stderr)


@pytest.mark.parametrize("command", [*NEEDING, "status"])
def test_what_needs_dvcs_folder_says_so_in_a_line(
    archive: Path, tmp_path: Path, command: str
) -> None:
    folder = Path(shutil.copytree(archive, tmp_path / "project"))
    shutil.rmtree(folder / ".dvc")
    done = run(folder, "python", "-m", "pipeline", *command.split(), check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"no DVC project is here: .*\n", done.stderr)


@pytest.mark.parametrize("command", ["check", "preset smoke"])
def test_what_needs_neither_works_without(archive: Path, tmp_path: Path, command: str) -> None:
    folder = Path(shutil.copytree(archive, tmp_path / "project"))
    shutil.rmtree(folder / ".dvc")
    run(folder, "python", "-m", "pipeline", *command.split())

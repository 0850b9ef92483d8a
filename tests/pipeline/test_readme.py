"""The README shows the committed run, and its commands do what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.__main__ import _parser, with_table
from pipeline.reporting.short_table import short_table
from scenegen.params import SENSORS as MODALITIES
from tests.conftest import ROOT, run, shipped
from tests.pipeline.test_team import clone, committed, outputs, ran

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.split(" #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*/*.md"))]
TYPED = {
    typed
    for page in PAGES
    for typed in re.findall(r"`((?:make|python -m pipeline)\b[^`.]*)`", page.read_text())
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed results, whatever a run has made of them here."""
    folder = tmp_path_factory.mktemp("shipped")
    command = "git archive HEAD results/*.json results/scores | tar -x -C"
    run(ROOT, "bash", "-euo", "pipefail", "-c", f"{command} {folder}")
    return folder / "results"


def test_the_table_is_the_committed_one(results: Path) -> None:
    readme, table = shipped("README.md"), short_table(results)
    assert with_table(readme, table) == readme
    assert "0.12 (0.34)" in with_table(readme, "| 0.12 (0.34) |\n")


def test_the_table_has_four_columns_of_means(results: Path) -> None:
    rows = [line.strip("| ").split(" | ") for line in short_table(results).splitlines()]
    (ecg,) = [row for row in rows if row[0] == "`poe-ecg`"]
    score = json.loads((results / "scores/poe-ecg-0.json").read_text())
    ways = (("depth+radar", "image"), ("image+radar", "depth"), ("image+depth", "radar"))
    cross = [score["subsets"][given][target]["map50"] for given, target in ways]
    assert len(ecg) == 5
    assert ecg[1] == f"{sum(cross) / 3:.2f}"


def test_what_it_answers_is_in_the_results(results: Path) -> None:
    rows = {row["cell"]: row for row in json.loads((results / "table3.json").read_text())["rows"]}
    faults = json.loads((results / "faults.json").read_text())["rows"]
    lost = [round(100 - row["kept"]) for row in faults]
    assert f"loses {min(lost)} to {max(lost)} % of its mAP" in README
    passes = {cell: row["encodes"] + row["decodes"] for cell, row in rows.items()}
    assert "half the training passes" in README
    assert 2 * passes["poe-split"] == passes["poe-ecg"]
    cross = {cell: sum(row[f"cross_{m}"] for m in MODALITIES) / 3 for cell, row in rows.items()}
    assert "within 0.01 mAP" in README
    assert abs(cross["poe-split"] - cross["poe-ecg"]) < 0.01


def test_it_is_read_in_two_minutes() -> None:
    assert len(README.split()) <= 700


def test_what_it_names_exists() -> None:
    targets = set(
        " ".join(re.findall(r"^([\w ]+):", (ROOT / "Makefile").read_text(), re.M)).split()
    )
    made = {typed.split()[1] for typed in TYPED | set(COMMANDS) if re.match(r"make \w", typed)}
    assert made - {"NAME"} <= targets
    for typed in (" ".join(typed.split()) for typed in TYPED):
        if typed.startswith("python -m pipeline ") and "--help" not in typed:
            _parser().parse_args(typed.split()[3:])


@pytest.fixture(scope="module")
def project(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone after its first run, its environment, and a repository of one's own to push to."""
    folder = committed(smoke, tmp_path_factory.mktemp("readme") / "mine")
    (folder / ".venv").mkdir()
    (folder / ".venv/ready").touch()  # this interpreter's environment is the one
    run(folder.parent, "git", "init", "-q", "--bare", "-b", "main", "ours")
    run(folder, "git", "remote", "set-url", "origin", str(folder.parent / "ours"))
    run(folder, "git", "checkout", "-q", "-B", "main")
    run(folder, "git", "config", "push.default", "current")
    return folder


@pytest.mark.parametrize("command", ["make", "make smoke"])
def test_a_second_run_finds_nothing_to_do(project: Path, command: str) -> None:
    before = run(project, "git", "status", "--porcelain").stdout
    assert ran(run(project, *command.split()).stdout) == set()
    assert run(project, "git", "status", "--porcelain").stdout == before


def test_a_preview_is_a_picture(project: Path) -> None:
    run(project, "make", "preview")
    assert (project / "data/preview.png").read_bytes()[:4] == b"\x89PNG"


def test_make_test_runs_the_tests(project: Path) -> None:
    assert "python -m pytest" in run(project, "make", "-n", "test").stdout


def test_help_and_status_answer(project: Path) -> None:
    assert "make smoke" in run(project, "make", "help").stdout
    assert "status" in run(project, "python", "-m", "pipeline", "--help").stdout
    assert "up to date" in run(project, "make", "status").stdout


def test_a_run_is_shared_by_its_commands(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "A")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")
    (block,) = [block for block in BLOCKS if "dvc push" in block]
    (folder,) = set(re.findall(r"/mnt/\S+", block))
    (repository,) = set(re.findall(r"git@\S+", block))
    text = block.replace(folder, str(tmp_path / "team"))
    text = text.replace(repository, str(project.parent / "ours"))
    run(project, "bash", "-euo", "pipefail", "-c", text)
    theirs = clone(project.parent / "ours", tmp_path / "theirs")
    run(theirs, "dvc", "pull", "dvc.yaml")
    assert outputs(theirs) == outputs(project)
    assert ran(run(theirs, "dvc", "repro").stdout) == set()


def test_every_block_is_run_here() -> None:
    shared = [line for line in COMMANDS if line.split()[0] in ("dvc", "git")]
    assert sorted([*shared, "make", "make test"]) == sorted(COMMANDS)

"""A look at hundreds of stages reads what they share once."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import status
from tests.conftest import clone, shipped
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
    found = status.look()
    return _watched.pop(), found


def test_no_file_is_read_once_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone has the records of the default run and none of its data: all times are needed."""
    project = clone(tmp_path / "project")
    monkeypatch.chdir(project)
    status.look()  # DVC remembers the digests of files that it has seen
    few, some = opened()
    change(project, "grid.seeds", [0, 1, 2])
    status.look()
    many, all_ = opened()
    assert len(all_) > 2 * len(some)
    assert {e.seconds is None for e in all_ if e.group == "train_vae"} == {False}

    records = sorted((project / "results/models").glob("*.json"))
    assert len(records) > 3
    for file in (project / "params.yaml", *records):
        assert 1 <= few[file] == many[file] <= 4, file
    growth = {file: (n, few[file]) for file, n in many.items() if n > few[file] + 3}
    assert not {f: n for f, n in growth.items() if f.is_relative_to(project)}


def test_a_fresh_clone_has_all_of_it_left_and_an_estimate_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone(tmp_path / "project"))
    found = status.look()
    assert {e.state for e in found} == {"left"}
    assert [e.name for e in found if e.seconds is None] == []
    shown = status.table(found)
    assert "?" not in shown
    assert "`dvc pull dvc.yaml` fetches them" in shown
    assert "if that fails: docs/tasks/share.md" in shown


@pytest.mark.parametrize(
    ("name", "key", "value", "times"),
    [
        ("score@poe-none-0", "score.scenes", 50, 1 / 10),
        ("score@poe-none-0", "score.subsets", "table", 9 / 24),
        ("score_faults@poe-none-0", "score.faults.scenes", 200, 2),
        ("score_faults@poe-none-0", "score.faults.kinds", ["noise"], 13 / 49),
        ("score_faults@poe-none-0", "score.faults.severities", [0.5], 19 / 49),
        ("render", "scenes.count", 1000, 1000 / 17729),
        ("report", "grid.cells", {"poe-none": {"fusion": "poe", "objective": "none"}}, 1 / 6),
    ],
)
def test_an_estimate_grows_with_the_work(name: str, key: str, value: object, times: float) -> None:
    params = YAML(typ="safe").load(shipped("params.yaml"))
    before = status._work(name, params)
    *parents, leaf = key.split(".")
    section = params
    for parent in parents:
        section = section[parent]
    section[leaf] = value
    assert status._work(name, params) == pytest.approx(times * before)

"""`make check` and `make test`: what each leaves out, and who runs them."""

from __future__ import annotations

import re
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT, SLOW, pytest_collection_modifyitems, run


def commands(target: str) -> list[str]:
    """What make would run, but for setting up the environment."""
    lines = run(ROOT, "make", "-n", target).stdout.splitlines()
    return [line for line in lines if re.match(r"(ruff|mypy|python -m pytest)\b", line)]


def test_check_is_lint_and_the_quick_tests_each_once() -> None:
    if not shutil.which("make"):
        pytest.skip("needs make")
    lint, (test,) = commands("lint"), commands("test")
    assert lint == ["ruff format --check .", "ruff check .", "mypy"]
    assert commands("check") == [*lint, f'{test} -m "not slow"']


def test_ci_runs_both_tiers() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines[-2:] == ["make check", "make test"]


def test_hooks_are_the_commands_of_lint_and_name_no_host() -> None:
    (repository,) = YAML(typ="safe").load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = repository["hooks"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in hooks} == {"system"}
    asked = [hook["entry"].removesuffix(" --force-exclude") for hook in hooks]
    assert asked == ["ruff format", "ruff check", "mypy"]


@pytest.mark.parametrize("fixture", sorted(SLOW))
def test_what_a_slow_fixture_serves_is_slow(fixture: str) -> None:
    """Directly or through another fixture: pytest lists both."""
    marks: list[Any] = []
    for asked in ([fixture], ["tmp_path"]):
        item: Any = SimpleNamespace(nodeid="t.py::t", fixturenames=asked, add_marker=marks.append)
        pytest_collection_modifyitems([item])
    assert [mark.name for mark in marks] == ["slow"]
    defined = [f for f in (ROOT / "tests").rglob("*.py") if f"\ndef {fixture}(" in f.read_text()]
    assert defined, "no such fixture"


def test_one_test_of_a_run_begins_it_and_the_others_wait() -> None:
    """So that a second process has enough to do in the meantime."""
    asked = {"a": [], "b": ["smoke"], "c": ["smoke"], "d": ["studies_smoke"], "e": []}
    items: list[Any] = [
        SimpleNamespace(nodeid=name, fixturenames=names, add_marker=lambda mark: None)
        for name, names in asked.items()
    ]
    pytest_collection_modifyitems(items)
    assert "".join(item.nodeid for item in items) == "baedc"

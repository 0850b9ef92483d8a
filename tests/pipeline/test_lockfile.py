"""What a kill leaves of dvc.lock is put back, and no finished stage runs again."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from base import lockfile
from tests.conftest import ROOT, run

STAGE = f"""import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from base import lockfile
lockfile.keep()
name = sys.argv[1]
Path(name).write_text(Path("of-" + name).read_text())
while Path("wait").exists():
    time.sleep(0.1)
lockfile.hand_over()
"""
NAMES = [f"one-{number:02d}" for number in range(15)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project of many stages that have run: its lock takes time to write, as the root's."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    folder.mkdir()
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    (folder / "params.yaml").write_text("a: 1\n")
    (folder / "stage.py").write_text(STAGE)
    more = [f"also-{number:02d}" for number in range(60)]
    for name in [*more, *NAMES, *(f"of-{name}" for name in NAMES)]:
        (folder / name).write_text("1")
    stages = {
        name: {
            "cmd": f"{sys.executable} stage.py {name}",
            "deps": ["stage.py", f"of-{name}", *more],
            "outs": [name],
        }
        for name in NAMES
    }
    (folder / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    run(folder, "dvc", "commit", "-f")
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))
    monkeypatch.chdir(folder)
    return folder


def dvc(*words: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", *words], start_new_session=True, text=True, **options
    )


def ran(folder: Path) -> set[str]:
    shown = run(folder, "dvc", "repro").stdout
    return set(re.findall(r"Running stage '(.+)':", shown))


def killed_as_it_writes(name: str, share: float) -> int:
    """Kill a real `dvc repro` of one stage when its lock has this share of its bytes or more; how
    many it has then."""
    lock = Path("dvc.lock")
    full = lock.stat().st_size
    repro = dvc("repro", name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun = False
    while not begun or lock.stat().st_size < share * full:
        assert repro.poll() is None, "it ended before it was killed"
        begun = begun or lock.stat().st_size < full
    os.killpg(repro.pid, signal.SIGKILL)
    repro.wait()
    return lock.stat().st_size


def test_dvc_killed_as_it_writes_its_lock_repeats_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At ten moments; what it was about to record is in its cache of runs."""
    full, sizes = Path("dvc.lock").stat().st_size, []
    for place, name in enumerate(random.Random(0).sample(NAMES, 10)):
        (project / f"of-{name}").write_text("2")
        sizes.append(killed_as_it_writes(name, place / 10))
        lockfile.mend()
        assert capsys.readouterr().err == "dvc.lock: cut off by a kill; put back, with 15 stages\n"
        assert ran(project) == set()
        assert (project / name).read_text() == "2"
    assert max(sizes) < full
    assert len(set(sizes)) > 5, sizes


def test_a_finished_stage_is_recorded_though_another_command_has_dvcs_lock(project: Path) -> None:
    """DVC itself waits for three seconds, then fails and forgets the stage."""
    name = NAMES[0]
    (project / f"of-{name}").write_text("3")
    (project / name).unlink()
    (project / "wait").touch()
    repro = dvc("repro", "--single-item", name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (project / name).exists():
        assert repro.poll() is None
        time.sleep(0.05)
    with open(".dvc/tmp/lock", "r+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        (project / "wait").unlink()
        time.sleep(8)
    shown = repro.communicate(timeout=120)[0]
    assert repro.returncode == 0, shown
    assert f"{name}: done; {lockfile.WAITS}\n" in shown
    assert "up to date" in run(project, "dvc", "status", name).stdout

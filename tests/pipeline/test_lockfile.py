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
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from base import lockfile
from pipeline.running import stage
from tests.conftest import ROOT, run, shipped

pytestmark = pytest.mark.slow

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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with this repository's own lock, of which there is a copy."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / "dvc.lock").write_text(shipped("dvc.lock"))
    lockfile.keep()
    return tmp_path


def test_a_cut_anywhere_is_put_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = here / "dvc.lock"
    whole = lock.read_bytes()
    ends = [one.end() for one in re.finditer(rb"\n", whole)]
    for cut in [
        *range(0, len(whole), 4999),
        *random.Random(0).sample(ends[:-1], 30),
        *ends[-20:-1],
    ]:
        lock.write_bytes(whole[:cut])
        assert lockfile.cut(lock), whole[:cut][-200:]
        lockfile.mend()
        assert lock.read_bytes() == whole
    assert "dvc.lock: cut off by a kill; put back, with " in capsys.readouterr().err
    lockfile.mend()
    assert capsys.readouterr().err == ""


def test_what_was_recorded_since_the_copy_is_kept(here: Path) -> None:
    """As far as it is there: entries come in order."""
    lock = here / "dvc.lock"
    before = lock.read_text()
    stages = re.split(r"(?m)^(?=  \S)", before)
    digest = re.compile(r"md5: [0-9a-f]{32}")
    new = [digest.sub("md5: " + "0" * 32, stage) for stage in stages]
    place = len(stages) // 2
    lock.write_text("".join(new)[: sum(map(len, new[:place])) + 100])
    lockfile.mend()
    assert lock.read_text() == "".join(new[:place] + stages[place:])


def test_without_a_copy_the_last_commit_has_the_rest(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = here / "dvc.lock"
    whole = lock.read_bytes()
    run(here, "git", "init", "-q")
    run(here, "git", "add", "dvc.lock")
    run(here, "git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "A run")
    shutil.rmtree(here / lockfile.COPIES)
    lock.write_bytes(b"")
    lockfile.mend()
    assert lock.read_bytes() == whole
    older = whole[: re.search(rb"(?m)^  render:", whole).start()]  # type: ignore[union-attr]
    lock.write_bytes(older)
    run(here, "git", "add", "dvc.lock")
    capsys.readouterr()
    lockfile.mend()  # a person took it from git
    assert (lock.read_bytes(), capsys.readouterr().err) == (older, "")


def test_without_anything_what_is_whole_of_it_stays(here: Path) -> None:
    lock = here / "dvc.lock"
    stages = re.split(r"(?m)^(?=  \S)", lock.read_text())
    shutil.rmtree(here / lockfile.COPIES)
    lock.write_text("".join(stages[:4]) + stages[4][:200])
    lockfile.mend()
    assert lock.read_text() == "".join(stages[:4])


def test_a_studys_lock_is_put_back_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = here / "studies/cub/dvc.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(shipped("studies/cub/dvc.lock"))
    lockfile.keep()
    whole = lock.read_bytes()
    lock.write_bytes(whole[:5000])
    lockfile.mend()
    assert lock.read_bytes() == whole
    assert capsys.readouterr().err.startswith("studies/cub/dvc.lock: cut off by a kill; put back")


def test_a_writing_dvc_is_waited_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = here / "dvc.lock"
    newer = lock.read_text().replace("render", "renders")
    with open(".dvc/tmp/lock", "a") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        lock.write_text(newer[:30_000])

        def finish() -> None:
            lock.write_text(newer)
            fcntl.flock(writer, fcntl.LOCK_UN)

        threading.Timer(0.5, finish).start()
        lockfile.mend()
    assert (lock.read_text(), capsys.readouterr().err) == (newer, "")


def test_a_lock_whose_lines_end_in_crlf_is_whole(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(here / lockfile.COPIES)
    text = shipped("dvc.lock").replace("\n", "\r\n").encode()
    (here / "dvc.lock").write_bytes(text)
    lockfile.mend()
    assert (here / "dvc.lock").read_bytes() == text
    assert capsys.readouterr().err == ""
    assert (here / lockfile.COPIES / "dvc.lock").read_text() == shipped("dvc.lock")


@pytest.mark.parametrize("place", [0, None])
def test_a_conflict_is_left_to_the_person_who_has_it(here: Path, place: int | None) -> None:
    lines = shipped("dvc.lock").splitlines(keepends=True)
    lines.insert(len(lines) if place is None else place, ">>>>>>> theirs\n")
    text = "".join(lines)
    (here / "dvc.lock").write_text(text)
    lockfile.mend()
    assert (here / "dvc.lock").read_text() == text
    assert (here / lockfile.COPIES / "dvc.lock").read_text() == shipped("dvc.lock")


@pytest.mark.parametrize("content", ["", '{"write": {"a'])
def test_a_cut_list_of_files_in_use_goes(
    here: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / ".dvc/tmp/rwlock").write_text(content)
    lockfile.mend()
    assert not (here / ".dvc/tmp/rwlock").exists()
    assert capsys.readouterr().err == ".dvc/tmp/rwlock: cut off by a kill; deleted\n"


def test_every_stage_keeps_a_copy_as_it_starts(here: Path) -> None:
    shutil.rmtree(here / lockfile.COPIES)
    (here / "params.yaml").write_text("a: 1\n")
    with stage.running("one", lambda: ""):
        assert (here / lockfile.COPIES / "dvc.lock").read_bytes() == Path("dvc.lock").read_bytes()

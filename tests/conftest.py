"""One real smoke run of the whole pipeline, shared by every test that needs its results."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pipeline import study

ROOT = Path(__file__).parent.parent
OTHERS = {name: one for name, one in study.STUDIES.items() if one != study.ROOT}  # the small ones
WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # of tests side by side; each has a core to itself
if WORKER:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples in every run, and no failure because a machine is busy.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

# What asks for one of these waits for a run of DVC, many renders or trained detectors.
SLOW = {
    "smoke",
    "studies_smoke",
    "thousand",
    "dataset",
    "tiny_hash",
    "detector",
    "installed",
    "archive",
}
SHARED = {"smoke", "studies_smoke"}  # runs of the pipeline, one for all processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests `make check` leaves to `make test`, and how they are shared out side by side.

    By fixture here, others by their mark. One test of the smoke run comes first and the others
    last, so that a second process has enough to do while the first runs the pipeline.
    """
    units: dict[str, list[pytest.Item]] = {}  # of tests that stay together
    needed: dict[str, set[str]] = {}
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if SLOW & fixtures:
            item.add_marker(pytest.mark.slow)
        unit = item.nodeid
        if own := _made_by_each_process(item):
            unit = f"{own.baseid}:{own.argname}"
            item.add_marker(pytest.mark.xdist_group(unit))
        units.setdefault(unit, []).append(item)
        needed.setdefault(unit, set()).update(fixtures & SHARED)
    of = {
        run: [unit for unit in units if needed[unit] and max(needed[unit]) == run] for run in SHARED
    }
    plain = [unit for unit in units if not needed[unit]]
    first, second = (of[run] for run in sorted(SHARED))
    order = [*first[:1], *plain, *second[:1], *first[1:], *second[1:]]
    items[:] = [item for unit in order for item in units[unit]]


def _made_by_each_process(item: pytest.Item) -> pytest.FixtureDef[object] | None:
    """The first of a test's fixtures that several tests of a process share, and no others."""
    found = getattr(item, "_fixtureinfo", None)
    for name, (*_, one) in found.name2fixturedefs.items() if found else ():
        ours = one.baseid.startswith("tests") and name not in SHARED
        if ours and one.scope in ("module", "session"):
            return one  # type: ignore[no-any-return]
    return None


def shipped(name: str) -> str:
    """A file as the repository ships it, not what a run or its user has made of it."""
    return subprocess.run(
        ["git", "show", f"HEAD:{name}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def clone(to: Path) -> Path:
    """A clone of this repository with the working tree's own changes laid over it."""
    subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(to)], check=True)
    changed = (["diff", "--name-only", "HEAD"], ["ls-files", "-o", "--exclude-standard"])
    names = [
        name
        for command in changed
        for name in subprocess.run(
            ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    ]
    for name in names:
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
        else:
            (to / name).unlink(missing_ok=True)
    config = to / ".dvc/config"  # without the remote that its user shares with a team
    config.write_text(config.read_text().split("    remote =")[0].split("['remote")[0])
    return to


def run(
    folder: Path, *command: str, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a clone with this interpreter's environment first on the PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{command} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills once, for all tests that run side by side."""
    if not WORKER:
        folder = factory.mktemp(name)
        make(folder)
        return folder
    root = factory.getbasetemp().parent
    folder, made = root / name, root / f"{name}.made"
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker whose attempt failed
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `dvc repro` has run the smoke preset to the end, with a cache of its own.

    Tests that change it work on a copy of their own. SMOKE_RUN names a finished run to use instead
    of a new one, which takes minutes, while you write tests; `none` skips those that need one.
    """
    if finished := os.environ.get("SMOKE_RUN"):
        if finished == "none":
            pytest.skip("SMOKE_RUN=none")
        return Path(finished)

    def make(folder: Path) -> None:
        project = clone(folder / "project")
        (project / "params.yaml").write_text(shipped("params.yaml"))
        run(project, "python", "-m", "pipeline", "preset", "smoke")
        run(project, "dvc", "repro")

    return shared(tmp_path_factory, "smoke", make) / "project"

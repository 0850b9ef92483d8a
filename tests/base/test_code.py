"""One rule for what code decides a result: what counts, what does not, and that it is all there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from base import code
from tests.conftest import ROOT

FILES = {
    "base/files.py": "def write() -> None:\n    raise OSError('full')\n",
    "room/__init__.py": '"""A room."""\n',
    "room/make.py": "from base import files\nfrom room.parts import half\n\nWHOLE = 2 * half()\n",
    "room/parts.py": '"""Parts."""\n\n\ndef half() -> float:\n    """A half."""\n    return 0.5\n',
    "room/other.py": "UNUSED = 1\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(code, "ROOMS", ("base", "room"))
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def edit(project: Path, file: str, old: str, new: str) -> None:
    path = project / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


CHANGES = [
    pytest.param("room/parts.py", "0.5", "0.25", True, id="a constant"),
    pytest.param("room/parts.py", "return 0.5", "return 1 / 2", True, id="an expression"),
    pytest.param("room/parts.py", "-> float", "-> int", True, id="a type, which pydantic may read"),
    pytest.param("room/make.py", "2 *", "3 *", True, id="the maker itself"),
    pytest.param("room/__init__.py", '"""A room."""', "import math", True, id="a package's code"),
    pytest.param("room/parts.py", '"""A half."""', '"""One of two."""', False, id="a docstring"),
    pytest.param("room/parts.py", '"""Parts."""\n', "", False, id="no docstring"),
    pytest.param("room/parts.py", "return 0.5", "return 0.50  # half", False, id="a comment"),
    pytest.param("room/parts.py", "() ->", "(\n) ->", False, id="layout"),
    pytest.param("room/__init__.py", "A room", "The room", False, id="a package's docstring"),
    pytest.param("base/files.py", "full", "no room", False, id="a message of the ground floor"),
    pytest.param("room/other.py", "1", "2", False, id="a module that is not imported"),
]


@pytest.mark.parametrize(("file", "old", "new", "counts"), CHANGES)
def test_what_counts(project: Path, file: str, old: str, new: str, counts: bool) -> None:
    before = code.digest("room.make", root=project)
    edit(project, file, old, new)
    assert (code.digest("room.make", root=project) != before) == counts


@pytest.mark.parametrize(
    "line",
    [
        "from room import other",
        "import room.other",
        "import room.other as beside",
        "from room.other import UNUSED",
        "from .. import other",
        "from ..other import UNUSED",
        "from .. import (\n    parts,\n    other,\n)",
        "def later():\n    from room.other import UNUSED",
    ],
)
def test_an_import_in_any_form_is_followed(project: Path, line: str) -> None:
    (project / "room/deep").mkdir()
    (project / "room/deep/make.py").write_text(f"import room.make\n{line}\n")
    assert "room.other" in code.deciding("room.deep.make", root=project)
    assert "room.other" not in code.deciding("room.make", root=project)


@pytest.mark.parametrize(("study", "counts"), [("birds", True), ("digits", False)])
def test_what_a_stage_takes_of_a_study_by_name_is_that_studys(
    project: Path, monkeypatch: pytest.MonkeyPatch, study: str, counts: bool
) -> None:
    """A change in one study's loader makes that study stale alone."""
    monkeypatch.setattr(code, "ROOMS", ("base", "room", "studies"))
    for name in ("birds", "digits"):
        folder = project / "studies" / name
        folder.mkdir(parents=True)
        (folder / "loader.py").write_text("COUNT = 1\n")
    with open(project / "room/make.py", "a") as file:
        file.write("def make(study): return study.part('loader').COUNT\n")
    before = code.digest("room.make", root=project, study=study)
    edit(project, "studies/birds/loader.py", "1", "2")
    assert (code.digest("room.make", root=project, study=study) != before) == counts
    assert f"studies.{study}.loader" in code.deciding("room.make", root=project, study=study)


def test_a_command_names_its_study() -> None:
    assert code.study_of(["python", "-m", "pipeline.stages.train_vae", "${key}", "--study", "cub"])
    command = ["python", "-m", "pipeline.stages.train_vae", "${key}"]
    assert code.study_of(command) == "shapes3d"
    assert code.study_of([*command, "--study", "cub"]) == "cub"


def test_a_package_of_others_in_the_same_folder_is_not_read(project: Path) -> None:
    """As where the project is installed: torch is no code of ours."""
    (project / "numeric").mkdir()
    (project / "numeric/__init__.py").write_text("def broken(:\n")
    edit(project, "room/parts.py", '"""Parts."""\n', "import numeric\n")
    assert code.deciding("room.make", root=project) == ["room", "room.make", "room.parts"]


def test_every_package_of_this_project_is_ours() -> None:
    found = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert set(code.ROOMS) == found - {"tests"}


def test_a_file_that_is_not_python_is_named(project: Path) -> None:
    (project / "room/parts.py").write_text("def half(:\n")
    with pytest.raises(ValueError, match=r"room/parts\.py: SyntaxError"):
        code.digest("room.make", root=project)


@pytest.mark.slow
def test_no_module_that_a_maker_loads_is_missing() -> None:
    """What Python itself has imported of this project is what the rule finds, or is silent."""
    modules = ("scenegen.worker", "pipeline.stages.train_vae", "pipeline.stages.score")
    told = (
        f"import sys, {', '.join(modules)}\n"
        "rooms = ('scenegen', 'models', 'detector', 'pipeline')\n"
        "print(*[name for name in sys.modules if name.split('.')[0] in rooms])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True
    )
    silent = tuple(f"{room}." for room in code.SILENT)
    counted = {name for name in loaded.stdout.split() if not f"{name}.".startswith(silent)}
    assert counted <= set(code.deciding(*modules))


def test_every_release_of_python_gives_the_same_digest() -> None:
    """A study on another machine may run another release: fields that it adds do not count."""
    tree = code._plain(code._parsed(ROOT / "models/mixture.py"))
    assert "type_params" not in repr(tree)
    assert "None" not in {field for _, *fields in [tree] for field, *_ in fields}


def test_a_process_keeps_the_digest_of_what_it_has_loaded(project: Path) -> None:
    told = (
        "import sys\n"
        "from pathlib import Path\n"
        "from base import code\n"
        "code.ROOT, code.ROOMS = Path.cwd(), ('room',)\n"
        "code.digest.__kwdefaults__['root'] = Path.cwd()\n"
        "import room.make\n"
        "first = code.loaded('room.make')\n"
        "Path('room/parts.py').write_text('def half(): return 3.0')\n"
        "assert code.loaded('room.make') == first != code.digest('room.make')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{project}{os.pathsep}{ROOT}"}
    (project / "base/files.py").unlink()
    (project / "base").rmdir()
    edit(project, "room/make.py", "from base import files\n", "")
    subprocess.run([sys.executable, "-c", told], cwd=project, env=environment, check=True)

"""`python -m scenegen` with wrong arguments and damaged files: one line, code 2, nothing lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from scenegen.__main__ import main
from scenegen.dataset import open_dataset
from scenegen.generate import render_dataset
from tests.scenegen.conftest import tiny

SHARD = "shard-00001.npy"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eight") / "data"
    render_dataset(tiny(), folder, workers=1, progress=False)
    return folder


@pytest.fixture
def place(rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: `data` and, beside it, what is a user's own."""
    shutil.copytree(rendered, tmp_path / "data")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "README.md").write_text("# My project")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name, text in {"empty": "", "half": "{", "list": "[1]", "null": "null"}.items():
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> dict[str, bytes | None]:
    """All that lies in a folder, folders and links that lead nowhere as None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def refused(place: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that it ends with; nothing has changed."""
    before = files(place)
    try:
        code: object = main(command)
    except SystemExit as error:
        code = error.code
    told = capsys.readouterr()
    assert code == 2
    assert told.out == ""
    assert told.err.count("\n") == 1, told.err
    assert len(told.err) < 600
    assert files(place) == before
    return told.err


LONG = "n" * 300
WRONG = {
    "": "the following arguments are required: command",
    "draw": "invalid choice: 'draw'",
    "verify": "the following arguments are required: folder",
    "verify none": "none is not a dataset: it has no manifest.json",
    "verify full": "full is not a dataset: it has no manifest.json",
    "verify file": "file/manifest.json",
    "card none card": "none is not a dataset",
    "card data file": "file",
    "card data file/card": "file/card",
    "card data full": "full/README.md: is not of an earlier card; name another folder",
    "export tfds data new": "invalid choice: 'tfds'",
    "export coco none new": "none is not a dataset",
    "export coco data file": "file: is a file; name a new folder",
    "export yolo data file/new": "file/new: Not a directory; nothing is written",
    "export hf data full": "full: is not empty; remove it, or name a new folder",
    "export coco data data": "data: is not empty",
    f"export webdataset data {LONG}": "File name too long",
    "export coco data new --modality lidar": "modality 'lidar' is not in this dataset",
    "show --scene -1": "--scene -1: must be 0 to 2^62 - 1",
    f"show --scene {10**30}": "must be 0 to 2^62 - 1",
    "show --scene x": "argument --scene: invalid int value: 'x'",
    "show --params none.json": "none.json: No such file or directory",
    "show --params full": "full: Is a directory",
    "show --params empty.json": "empty.json: is no JSON file",
    "show --params half.json": "half.json: is no JSON file",
    "show --params bytes.json": "bytes.json: is no JSON file",
    "show --params deep.json": "deep.json: is no JSON file",
    "show --params list.json --set count=3": "list.json: holds [1], expected a JSON object",
    "show --params null.json": "null.json: holds None, expected a JSON object",
    "show --set count": "--set count: expected KEY=VALUE",
    "show --set =3": "--set =3: expected KEY=VALUE",
    "show --set count=0": "count: Input should be greater than or equal to 1 (given: 0)",
    "show --set count=NaN": "count: Input should be a valid integer (given: nan)",
    "show --set count.low=1": "count: Input should be a valid integer",
    "show --set count=3 --set count.low=1": "--set count.low=1: count is no section",
    "show --set objects=3": "objects: Input should be a valid dictionary",
    "show --set objects.scale=[1": "objects.scale: Input should be a valid tuple (given: '[1')",
    "show --set camera.distance=[NaN,NaN]": "camera.distance: must lie between",
    "show --set nothing=1": "nothing: unknown key; there are seed, count, shard_size, sensors",
    f"show --set seed={'9' * 5000}": "seed: Input should be a valid integer",
    f"show --set seed={'[' * 100_000}": "seed: Input should be a valid integer",
    "preview --scenes 0": "--scenes 0: must be 1 to 1000",
    f"preview --scenes {10**12}": "must be 1 to 1000",
    "preview --scene -1": "--scene -1: must be 0",
    "preview --out full": "--out full: is no file; name a PNG file",
    "preview --out /dev/null": "--out /dev/null: is no file; name a PNG file",
    "preview --scenes 1 --out file/sheet.png": "file/sheet.png: File exists",
    "preview --spec none.json": "none.json: No such file or directory",
    "preview --spec empty.json": "empty.json: is no JSON file",
    "preview --spec list.json": "list.json: holds [1], expected a JSON object",
    "preview --spec deep.json": "deep.json: is no JSON file",
    "render data --workers 0": "workers: 0 is not possible; at least 1",
    "render data --workers x": "argument --workers: invalid int value: 'x'",
    "render data --set count=0": "count: Input should be greater than or equal to 1",
    "render data --scheduler nonsense": "no Dask scheduler answers at nonsense",
    "render data --scheduler=": "no Dask scheduler answers at",
    "render file --workers 1": "file",
    "render file/data --workers 1": "file/data",
}


@pytest.mark.parametrize("command", WRONG, ids=lambda command: command[:50] or "nothing")
def test_a_wrong_command_is_one_line_and_changes_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert WRONG[command] in refused(place, command.split(), capsys)


def flipped(at: int) -> Callable[[Path], None]:
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[at] ^= 0xFF
        path.write_bytes(content)

    return flip


def other(make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """A sound file of another array."""
    return lambda path: np.save(path, make(np.load(path)), allow_pickle=True)


def replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()


def leading_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:1000]) and None,
    "half a header": lambda path: path.write_bytes(path.read_bytes()[:60]) and None,
    "empty": lambda path: path.write_bytes(b"") and None,
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)) and None,
    "a bit of the header": flipped(200),
    "a bit of the data": flipped(5000),
    "header of 2 GB": lambda path: path.write_bytes(b"\x93NUMPY\2\0\xff\xff\xff\x7f{}") and None,
    "another dtype": other(lambda records: np.zeros(2)),
    "one number": other(lambda records: np.array(3.0)),
    "objects": other(lambda records: np.array([{}, {}], object)),
    "two axes": other(lambda records: records[None]),
    "a scene less": other(lambda records: records[:1]),
    "missing": Path.unlink,
    "a folder": replaced,
    "a link to nowhere": leading_nowhere,
}
READERS = ["verify data", "card data card", *(f"export {f} data new" for f in ("coco", "hf"))]


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], damage: str, command: str
) -> None:
    DAMAGE[damage](place / "data" / SHARD)
    line = refused(place, command.split(), capsys)
    assert line.startswith(f"data/{SHARD} is ")
    assert "render anew" in line


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("damage", [d for d in DAMAGE if d != "a bit of the data"])
def test_a_shard_whose_hash_is_right_may_be_damaged_all_the_same(
    place: Path, capsys: pytest.CaptureFixture[str], damage: str, command: str
) -> None:
    """As when the tool that wrote the manifest had it so."""
    DAMAGE[damage](place / "data" / SHARD)
    manifest = json.loads((place / "data/manifest.json").read_text())
    for shard in manifest["shards"]:
        path = place / "data" / shard["file"]
        if path.is_file():
            shard["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    joined = "".join(shard["sha256"] for shard in manifest["shards"])
    manifest["sha256"] = hashlib.sha256(joined.encode()).hexdigest()
    (place / "data/manifest.json").write_text(json.dumps(manifest))
    line = refused(place, command.split(), capsys)
    assert line.startswith(f"data/{SHARD} ")
    assert "render anew" in line


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe{}", bytes(500), b"[]", b"null", b"NaN", b"[" * 100_000, b'{"a": 1}']
)
def test_a_damaged_manifest_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], content: bytes, command: str
) -> None:
    (place / "data/manifest.json").write_bytes(content)
    assert "data/manifest.json is not readable" in refused(place, command.split(), capsys)


@pytest.mark.parametrize("command", READERS)
def test_a_manifest_that_is_a_folder_or_cut_off_is_named(
    place: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    manifest = place / "data/manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:300])
    assert "data/manifest.json" in refused(place, command.split(), capsys)
    replaced(manifest)
    assert "data/manifest.json" in refused(place, command.split(), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, len(DAMAGE), 4))
def test_rendering_again_mends_damaged_shards(rendered: Path, tmp_path: Path, start: int) -> None:
    """Each of the four in its own way; but for a folder, which may be a user's own."""
    folder = tmp_path / "data"
    shutil.copytree(rendered, folder)
    for number, damage in enumerate([*DAMAGE][start : start + 4]):
        if damage != "a folder":
            DAMAGE[damage](folder / f"shard-{number:05d}.npy")
    render_dataset(tiny(), folder, workers=1, progress=False)
    assert files(folder) == files(rendered)


def test_rendering_leaves_what_is_not_its_own(
    rendered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(rendered, folder)
    for name in ("shard-list.txt", "shard-00000.tar", "notes.partial", "shard-00001.npy.txt"):
        (folder / name).write_text("mine")
    (folder / "shard-77777.npy").mkdir()
    (folder / ".coco.partial").mkdir()
    own = files(folder)
    for stale in ("shard-00099.npy", ".shard-00000.npy.partial", ".manifest.json.partial"):
        (folder / stale).write_bytes(b"of an earlier run")
    render_dataset(tiny(), folder, workers=1, progress=False)
    assert files(folder) == own
    replaced(folder / SHARD)
    (folder / SHARD / "mine").write_text("mine")
    settings = tmp_path / "params.json"
    settings.write_text(tiny().model_dump_json())
    assert main(["render", str(folder), "--workers", "1", "--params", str(settings)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"{folder / SHARD}: Is a directory")
    assert (folder / SHARD / "mine").read_text() == "mine"


# --- permissions -------------------------------------------------------------------------------


@pytest.fixture
def nobody(place: Path) -> Iterator[None]:
    """Without the right to pass over permissions, which root has."""
    root = os.geteuid() == 0
    for folder in [place, *place.parents][:3] if root else []:
        folder.chmod(folder.stat().st_mode | 0o055)
    if root:
        os.seteuid(65534)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("command", "closed", "named"),
    [
        *((command, f"data/{SHARD}", f"data/{SHARD}") for command in READERS),
        *((command, "data/manifest.json", "data/manifest.json") for command in READERS),
        *((command, "data", "data/manifest.json") for command in READERS),
        ("show --params list.json", "list.json", "list.json: Permission denied"),
        ("preview --spec list.json", "list.json", "list.json: Permission denied"),
        ("preview --scenes 1 --out full/sheet.png", "full", "full/sheet.png: Permission denied"),
        ("card data full/card", "full", "full/card"),
        ("export coco data full/new", "full", "full/new: Permission denied; nothing is written"),
        ("render full/new --workers 1", "full", "full/new: Permission denied"),
        ("render data --workers 1", "data", "data"),
    ],
)
def test_what_may_not_be_read_or_written_is_named(
    place: Path,
    nobody: None,
    capsys: pytest.CaptureFixture[str],
    command: str,
    closed: str,
    named: str,
) -> None:
    effective = os.geteuid()
    if effective == 65534:
        os.seteuid(0)
    (place / closed).chmod(0)
    os.seteuid(effective)
    assert main(command.split()) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert named in told.err
    if effective == 65534:
        os.seteuid(0)
    (place / closed).chmod(0o755)
    assert (place / "full" / "README.md").read_text() == "# My project"
    assert len(open_dataset(Path("data"))) == 8


@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM"])
def test_a_signal_in_an_export_is_one_line_and_leaves_nothing(
    kind: str, rendered: Path, tmp_path: Path
) -> None:
    code = f"""
import runpy, signal, sys
from scenegen import exports

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
exports._write = lambda *_: signal.raise_signal(signal.{kind})
sys.argv[1:] = ["export", "coco", {str(rendered)!r}, {str(tmp_path / "out")!r}]
runpy.run_module("scenegen", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted; what is finished is kept\n")
    assert list(tmp_path.iterdir()) == []

"""Checkpoints: whole or absent, damaged ones made anew, strangers gone, users' files left."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from base.checkpoints import Checkpoints, fingerprint, kept
from base.files import write_bytes


def file_of(folder: Path) -> Path:
    (file,) = folder.glob("*/*.checkpoint")
    return file


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    work = Checkpoints(tmp_path / "work", fingerprint(1))
    assert (work.names(), work.load("a"), kept(work.folder)) == ([], None, False)
    work.save("a", b"one")
    work.save("b/c", b"")
    work.save("a", b"two")
    assert (work.load("a"), work.load("b/c"), kept(work.folder)) == (b"two", b"", True)
    assert work.names() == ["a", "b-c"]


@pytest.mark.parametrize("place", range(0, 40, 3))
def test_a_flipped_bit_is_noticed_named_and_deleted(
    place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Checkpoints(tmp_path, fingerprint(1))
    work.save("a", b"weights!")
    file = file_of(tmp_path)
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)
    assert work.load("a") is None
    assert capsys.readouterr().err == f"{file}: damaged, deleted; what it held is made anew\n"
    assert not file.exists()


@pytest.mark.parametrize("size", [0, 1, 31, 32, 39])
def test_a_file_cut_short_is_noticed(size: int, tmp_path: Path) -> None:
    work = Checkpoints(tmp_path, fingerprint(1))
    work.save("a", b"weights!")
    file_of(tmp_path).write_bytes(file_of(tmp_path).read_bytes()[:size])
    assert work.load("a") is None


def test_a_checkpoint_from_under_another_name_is_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, work = (Checkpoints(tmp_path / name, fingerprint(name)) for name in ("other", "work"))
    other.save("a", b"of another run")
    work.save("b", b"of another part")
    here = file_of(tmp_path / "work")
    for stranger in (file_of(tmp_path / "other"), here):
        (here.parent / "a.checkpoint").write_bytes(stranger.read_bytes())
        assert work.load("a") is None
        assert capsys.readouterr().err.startswith(f"{here.parent / 'a.checkpoint'}: damaged")
    assert work.load("b") == b"of another part"


def test_a_file_for_a_folder_and_a_folder_for_a_file_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = Checkpoints(tmp_path / "work", fingerprint(1))
    mine = work.folder / fingerprint(1)
    for file in (work.folder, mine):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
        assert (work.load("a"), work.names(), kept(work.folder)) == (None, [], False)
        work.save("a", b"one")
        assert work.load("a") == b"one"
        assert capsys.readouterr().err == f"{file}: damaged, deleted; what it held is made anew\n"
        work.clear()
    (mine / "a.checkpoint/deep").mkdir(parents=True)
    assert work.load("a") is None
    (mine / "a.checkpoint/deep").mkdir(parents=True)
    work.save("a", b"two")
    assert work.load("a") == b"two"


def test_others_go_with_the_first_that_is_saved_and_users_files_stay(tmp_path: Path) -> None:
    old, new = (Checkpoints(tmp_path, fingerprint(n)) for n in (1, 2))
    old.save("a", b"old")
    (tmp_path / "mine.npz").write_bytes(b"")
    (tmp_path / "notes").mkdir()
    assert new.load("a") is None
    assert old.load("a") == b"old"
    new.save("a", b"new")
    assert old.load("a") is None
    new.clear()
    assert {path.name for path in tmp_path.iterdir()} == {"mine.npz", "notes"}


def test_a_finished_work_leaves_no_folder(tmp_path: Path) -> None:
    work = Checkpoints(tmp_path / "work", fingerprint(1))
    work.save("a", b"")
    work.clear()
    assert not work.folder.exists()


def test_a_fingerprint_tells_values_types_and_shapes_apart() -> None:
    numbers = np.arange(6, dtype=np.float32)
    changed = numbers.copy()
    changed[3] = np.nextafter(changed[3], np.float32(9))
    arrays = [numbers, numbers[::-1], numbers.reshape(2, 3), numbers.view(np.int32), changed]
    prints = {fingerprint({"seed": 0}, {"x": array}) for array in arrays}
    prints |= {fingerprint({"seed": 1}, {"x": numbers}), fingerprint({"seed": 0}, {"y": numbers})}
    assert len(prints) == 7
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("name"), replace(a, b)))
    write_bytes(tmp_path / "deep/a", b"x")
    assert done == ["sync", "name"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]


def test_a_file_is_whole_whoever_writes_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has written, and is not done: another begins, and must not cut what is put in place."""
    path, replace = tmp_path / "a", os.replace
    second = threading.Thread(target=write_bytes, args=(path, b"second"))

    def slow(source: Path, target: Path) -> None:
        if threading.current_thread() is not second:
            second.start()
            time.sleep(0.3)
            replace(source, target)
            seen.append(path.read_bytes())
        else:
            replace(source, target)

    seen: list[bytes] = []
    monkeypatch.setattr(os, "replace", slow)
    write_bytes(path, b"the first, a longer one")
    second.join()
    assert seen == [b"the first, a longer one"]
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"a": b"second"}


def test_a_disk_that_is_full_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes(tmp_path / "a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as told:
        write_bytes(tmp_path / "a", b"new")
    assert told.value.filename == str(tmp_path / "a")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}

"""MNIST and SVHN in their real formats, drawn street numbers, pairing, and the judges."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from pipeline.scoring.decoding import as_data
from studies.mnist_svhn.classifier import classify, fit
from studies.mnist_svhn.judge import as_pictures
from studies.mnist_svhn.params import ClassifierParams, EmbeddedParams
from studies.mnist_svhn.sources import (
    Labelled,
    _checked,
    embedded,
    from_files,
    pair,
)
from studies.mnist_svhn.streetnumbers import street_number, street_numbers
from studies.rawfiles import RawFile, RawFileError, provide
from tests.studies.conftest import described


def test_the_real_formats_are_read_pixel_for_pixel(files) -> None:  # type: ignore[no-untyped-def]
    folder, mnist, svhn, made = files
    digits, streets = from_files(folder, False, mnist, svhn)
    for split in ("train", "test"):
        np.testing.assert_array_equal(digits[split].pictures, made[f"digits_{split}"])
        np.testing.assert_array_equal(digits[split].labels, made[f"labels_{split}"])
        np.testing.assert_array_equal(streets[split].pictures, made[f"streets_{split}"])
    assert streets["train"].labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    assert isinstance(digits["test"], Labelled)


def test_missing_files_are_named_with_size_place_and_checksum(tmp_path: Path) -> None:
    with pytest.raises(RawFileError) as refusal:
        from_files(tmp_path, False)
    lines = str(refusal.value).splitlines()
    assert len(lines) == 6
    assert lines[0].startswith(f"{tmp_path}/MNIST/raw/train-images-idx3-ubyte.gz: missing; ")
    assert "9,912,422 bytes, md5:f68b3c2dcbeaaa9fbdd348bbdeb94873" in lines[0]
    assert "https://" in lines[0]


@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_wrong_file_is_refused_by_name_and_left_as_it_is(  # type: ignore[no-untyped-def]
    files, damage: str
) -> None:
    folder, mnist, svhn, _ = files
    path = folder / "test_32x32.mat"
    content = bytearray(path.read_bytes())
    content = content[:-10] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes(content)
    with pytest.raises(RawFileError, match=r"test_32x32\.mat: refused") as refusal:
        from_files(folder, True, mnist, svhn)
    assert len(str(refusal.value).splitlines()) == 1
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("labels", "said"),
    [([1, 2], "3 pictures and 2 labels"), ([0, 5, 10], "0 to 10"), ([-1, 0, 1], "-1 to 1")],
)
def test_labels_that_do_not_fit_their_pictures_are_refused(labels: list[int], said: str) -> None:
    with pytest.raises(RawFileError, match=f"^SVHN test: .*{said}.*; a label from 0 to 9 is"):
        _checked("SVHN test", Labelled(np.zeros((3, 2, 2), np.uint8), np.array(labels)))


def test_a_missing_file_is_downloaded_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = tmp_path / "published.bin"
    published.write_bytes(b"digits")
    right = described(published, "raw/digits.bin", (published.as_uri(),))
    provide([right], tmp_path / "in", download=True)
    assert (tmp_path / "in/raw/digits.bin").read_bytes() == b"digits"
    assert "digits.bin, MB: 1/1, " in capsys.readouterr().err
    gone = RawFile("raw/gone.bin", 6, "md5:00", ((tmp_path / "nowhere").as_uri(),))
    with pytest.raises(RawFileError, match=r"gone\.bin: missing; 6 bytes, md5:00.*could not be"):
        provide([gone], tmp_path / "in", download=True)
    assert [p.name for p in (tmp_path / "in/raw").iterdir()] == ["digits.bin"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_download_that_drops_leaves_nothing_and_the_next_run_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    content, asked = bytes(range(256)) * 40, 0

    class Dropping(BaseHTTPRequestHandler):
        """Announces the whole file, and hangs up halfway the first time."""

        def do_GET(self) -> None:
            nonlocal asked
            asked += 1
            self.send_response(200)
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            sent = content[: len(content) // 2] if asked == 1 else content
            frame = b"%x\r\n%b\r\n" % (len(sent), sent)
            self.wfile.write(frame + b"0\r\n\r\n" * (asked > 1) if chunked else sent)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    (tmp_path / "whole").write_bytes(content)
    with HTTPServer(("127.0.0.1", 0), Dropping) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/digits.bin"
        file = described(tmp_path / "whole", "digits.bin", (url,))
        with pytest.raises(RawFileError) as refusal:
            provide([file], tmp_path / "in", download=True)
        left = list((tmp_path / "in").iterdir())
        provide([file], tmp_path / "in", download=True)
        server.shutdown()
    said = str(refusal.value)
    assert said.startswith(f"{tmp_path}/in/digits.bin: missing; 10,240 bytes, md5:")
    assert len(said.splitlines()) == 1
    assert chunked or "; what was downloaded was removed: 5,120 bytes where 10,240 are" in said
    assert left == []
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["digits.bin"]
    assert (tmp_path / "in/digits.bin").read_bytes() == content


def test_pairs_share_their_class_and_follow_from_the_seed() -> None:
    draws = np.random.default_rng(1)
    digits, streets = draws.integers(0, 10, 300), draws.integers(0, 10, 200)
    pairs = pair(digits, streets, 3, 7)
    assert pairs.shape == (900, 2)
    assert np.bincount(pairs[:, 0]).tolist() == [3] * 300
    np.testing.assert_array_equal(digits[pairs[:, 0]], streets[pairs[:, 1]])
    np.testing.assert_array_equal(pairs, pair(digits, streets, 3, 7))
    assert (pairs != pair(digits, streets, 3, 8)).any()
    with pytest.raises(ValueError, match="no street number shows a 4"):
        pair(np.array([4]), np.array([1, 2]), 1, 0)


def test_a_street_number_depends_on_its_own_seed_alone() -> None:
    few, labels = street_numbers(12, 16, 5, 0)
    many, _ = street_numbers(20, 16, 5, 0)
    np.testing.assert_array_equal(few, many[:12])
    assert labels.tolist() == [*range(10), 0, 1]
    assert (few != street_numbers(12, 16, 5, 1)[0]).any()
    digit = street_number(3, 32, np.random.default_rng(0))
    assert digit.shape == (32, 32, 3)
    assert digit.std() > 10


def test_street_numbers_are_in_colour() -> None:
    pictures = street_numbers(100, 16, 0, 0)[0].astype(np.float64)
    # Noise alone, up to 6 in each channel, would make them differ by a few.
    assert np.median(np.ptp(pictures.mean((1, 2)), 1)) > 20
    assert (np.ptp(pictures.mean((1, 2)), 1) > 5).mean() > 0.9


def test_the_digit_drawn_in_the_middle_is_the_label() -> None:
    pictures, labels = street_numbers(600, 32, 0, 0)
    means = np.stack([pictures[labels == label].mean((0, 3)) for label in range(10)])
    file = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans-Bold.ttf"
    font = ImageFont.truetype(str(file), 32)
    templates = []
    for label in range(10):
        canvas = Image.new("L", (32, 32))
        ImageDraw.Draw(canvas).text((16, 16), str(label), 255, font, anchor="mm")
        templates.append(np.asarray(canvas.filter(ImageFilter.GaussianBlur(2)), np.float64))
    # What all digits have in common tells none of them; neighbours and clutter average out.
    drawn, expected = (
        (x - x.mean(0))[:, 4:28, 8:24].reshape(10, -1) for x in (means, np.stack(templates))
    )
    assert np.corrcoef(drawn, expected)[:10, 10:].argmax(1).tolist() == list(range(10))


def test_street_numbers_have_neighbours_clutter_and_many_fonts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each kind of stroke is left out in turn: the same draws without it give other pictures."""
    fonts: set[str] = set()
    pen, load = ImageDraw.ImageDraw, ImageFont.truetype
    write = pen.text

    def noting(path: str, size: int) -> ImageFont.FreeTypeFont:
        fonts.add(Path(path).stem)
        return load(path, size)

    def middle_alone(self: ImageDraw.ImageDraw, xy: tuple[float, float], *rest, **how) -> None:  # type: ignore[no-untyped-def]
        if abs(xy[0] - 32) <= 2:
            write(self, xy, *rest, **how)

    def changed(method: str, instead: Callable[..., None]) -> np.ndarray:
        """In which columns of which pictures something is missing: bool [N, 32]."""
        with monkeypatch.context() as patch:
            patch.setattr(pen, method, instead)
            return (street_numbers(200, 32, 0, 0)[0] != whole).any((1, 3))

    with monkeypatch.context() as patch:
        patch.setattr(ImageFont, "truetype", noting)
        whole = street_numbers(200, 32, 0, 0)[0]
    assert len(fonts) >= 10
    for method in ("line", "rectangle"):
        assert 0.2 < changed(method, lambda *_, **__: None).any(1).mean() < 0.6, method
    lacking = changed("text", middle_alone)
    left, middle, right = lacking[:, :8], lacking[:, 13:19], lacking[:, -8:]
    for side in (left, right):
        assert 0.3 < side.any(1).mean() < 0.7
    assert middle.any(1).mean() < 0.05
    assert changed("text", lambda *_, **__: None).any(1).all()


def test_embedded_splits_share_no_digit() -> None:
    digits, streets = embedded(EmbeddedParams(train=20, test=10, side=16, seed=0))
    assert [len(digits[s].labels) for s in ("train", "test")] == [1437, 360]
    assert [len(streets[s].labels) for s in ("train", "test")] == [20, 10]
    assert digits["train"].pictures.max() == 255


@pytest.mark.slow
def test_the_judge_tells_real_digits_and_is_decided_by_its_seed() -> None:
    digits, _ = embedded(EmbeddedParams(train=10, test=10, side=16, seed=0))
    train, test = digits["train"], digits["test"]
    params = ClassifierParams(epochs=15, batch=64, learning_rate=2e-3, seed=0)
    judge = fit(train.pictures, train.labels, params, "cpu")
    assert (classify(judge, test.pictures) == test.labels).mean() > 0.85
    short = params.model_copy(update={"epochs": 1})
    twice = [fit(train.pictures[:200], train.labels[:200], short, "cpu") for _ in range(2)]
    for a, b in zip(twice[0].parameters(), twice[1].parameters(), strict=True):
        assert a.equal(b)


def test_decoded_pictures_are_those_the_judges_were_trained_on() -> None:
    digit = np.arange(64, dtype=np.float32).reshape(1, 64) / 63
    np.testing.assert_array_equal(
        as_pictures(digit)[0], np.rint(digit.reshape(8, 8) * 255).astype(np.uint8)
    )
    street = np.zeros((1, 3, 16, 16), np.float32)
    street[0, 2, 5, 7] = 2.0
    assert as_pictures(as_data(torch.from_numpy(street)))[0, 5, 7].tolist() == [0, 0, 255]

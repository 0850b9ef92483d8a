"""CUB's public folders: photographs by class, ten captions each, and a split by class.

Two layouts are read. The originals: `CUB_200_2011/` as Caltech publishes it, and beside it
`text_c10/<class>/<photo>.txt` (a caption a line) and `testclasses.txt` (Reed et al. 2016), which
the rendered scenes alone do without. And mmvae's archive: `cub/{train,test}/<class>/*.jpg` with
`text_trainvalclasses.txt` and `text_testclasses.txt`; caption i belongs to photograph i // 10.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from base.progress import Progress
from studies.rawfiles import MEGABYTE, RawFile, RawFileError, provide

__all__ = [
    "ARCHIVE",
    "CAPTIONS",
    "PUBLISHED",
    "Counts",
    "Photo",
    "picture",
    "provide_cub",
    "read",
]

CAPTIONS = 10  # of each photograph
ARCHIVE = RawFile(
    "CUB_200_2011.tgz",
    1_150_585_339,
    "md5:97eceeb196236b17998738112f37df78",
    ("https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",),
)
UNPUBLISHED = "size and checksum: none published"  # so that names and counts are what is checked
TEXT = (
    f"{UNPUBLISHED}; the captions (10 lines for each of 11,788 photographs), from "
    "cvpr2016_cub.tar.gz of github.com/reedscot/cvpr2016"
)
TEST_CLASSES = "testclasses.txt"
SPLIT = (
    f"{UNPUBLISHED}; the published split (50 test classes, one `NNN.Class` a line), from the same "
    "cvpr2016_cub.tar.gz; classes are not drawn in its place, as no score would then compare"
)


@dataclass(frozen=True)
class Counts:
    """How many of each a complete set of files has."""

    photographs: int
    classes: int
    test_classes: int


PUBLISHED = Counts(photographs=11_788, classes=200, test_classes=50)  # CUB, in either layout


@dataclass(frozen=True)
class Photo:
    """One photograph.

    Attributes:
        path: the file.
        name: `NNN.Class`, the folder it lies in.
        captions: ten sentences.
        test: whether its class is held out.
    """

    path: Path
    name: str
    captions: tuple[str, ...]
    test: bool


def provide_cub(folder: Path, download: bool, archive: RawFile = ARCHIVE) -> None:
    """Make sure that one of the two layouts is in `folder`, unpacking Caltech's archive if need be.

    Raises:
        RawFileError: a line for each thing that is missing: its size, where it goes, its checksum.
    """
    if (folder / "cub/train").is_dir():
        return
    lines = []
    if not (folder / "CUB_200_2011/images.txt").is_file():
        try:
            if (folder / "CUB_200_2011").exists():
                raise RawFileError(
                    f"{folder / 'CUB_200_2011'}: refused, it lacks images.txt; complete it, or "
                    f"remove it, so that {archive.path} is unpacked anew"
                )
            provide([archive], folder, download)
            _unpack(folder / archive.path, folder)
        except RawFileError as error:
            lines.append(str(error))
    if not (folder / "text_c10").is_dir():
        lines.append(f"{folder / 'text_c10'}: missing; {TEXT}")
    if not (folder / TEST_CLASSES).is_file():
        lines.append(f"{folder / TEST_CLASSES}: missing; {SPLIT}")
    if lines:
        raise RawFileError("\n".join(lines))


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack CUB_200_2011/ beside its place and move it there, whole or not at all."""
    beside = folder / ".CUB_200_2011.partial"
    shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
    total = -(-archive.stat().st_size // MEGABYTE)
    bar = Progress(total, f"{archive.name}, MB unpacked")
    try:
        with archive.open("rb") as file, tarfile.open(fileobj=file) as packed:

            def watched() -> Iterator[tarfile.TarInfo]:
                for member in packed:
                    yield member
                    bar.reach(min(-(-file.tell() // MEGABYTE), total))

            # Python 3.11.4 and later know it; the archive's checksum was compared just now.
            packed.extraction_filter = getattr(tarfile, "data_filter", None)
            packed.extractall(beside, watched())
        (beside / "CUB_200_2011").rename(folder / "CUB_200_2011")
    finally:
        bar.close()
        shutil.rmtree(beside, ignore_errors=True)


def read(folder: Path, test_share: float, seed: int, expected: Counts | None = None) -> list[Photo]:
    """The photographs of whichever layout `folder` holds, split so that no class is on both sides.

    Args:
        test_share, seed: of the classes drawn for the test split if the data name none, as the
            rendered scenes do not; that CUB's name theirs is up to `provide_cub`.
        expected: how much there has to be; lists that were cut short can fit each other.

    Raises:
        RawFileError: names the file that is missing, empty, cut short or does not fit the others.
    """
    if (folder / "cub/train").is_dir():
        root = folder / "cub"
        photos, lists = _read_mmvae(root), (root, root, root / "test")
    else:
        root = folder / "CUB_200_2011"
        photos = _read_originals(folder, test_share, seed)
        lists = (root / "images.txt", root / "classes.txt", folder / TEST_CLASSES)
    if expected:
        _compare(photos, expected, lists)
    return photos


def _compare(photos: Sequence[Photo], expected: Counts, lists: Sequence[Path]) -> None:
    """Refuse counts other than those expected, each by the file or folder that decides it."""
    found = Counts(
        len(photos), len({p.name for p in photos}), len({p.name for p in photos if p.test})
    )
    lines = []
    for (kind, count), wanted, path in zip(
        vars(found).items(), vars(expected).values(), lists, strict=True
    ):
        if count != wanted:
            what = kind.replace("_", " ")
            lines.append(f"{path}: refused, {count:,} {what}, {wanted:,} expected (truncated?)")
    if lines:
        raise RawFileError("\n".join(lines))


def picture(path: Path, side: int) -> NDArray[np.uint8]:
    """A photograph resized to uint8 [side, side, 3], without a crop.

    Raises:
        RawFileError: the file is truncated or no picture.
    """
    try:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
            return np.asarray(small)
    except (OSError, SyntaxError) as error:  # Pillow raises both for damaged files
        raise RawFileError(f"{path}: refused, truncated or not a picture ({error})") from None


def _read_originals(folder: Path, test_share: float, seed: int) -> list[Photo]:
    root, text = folder / "CUB_200_2011", folder / "text_c10"
    images = _table(root / "images.txt")
    labels = _table(root / "image_class_labels.txt")
    classes = _table(root / "classes.txt")
    held_out = _test_classes(folder, list(classes.values()), test_share, seed)
    photos = []
    for number, relative in images.items():
        if not re.fullmatch(r"[^/]+/[^/]+\.jpg", relative):
            raise RawFileError(
                f"{root / 'images.txt'}: refused, {f'{number} {relative}'!r} is not `number "
                "class/file.jpg` (truncated?)"
            )
        label = labels.get(number, "")
        if label and label not in classes:
            raise RawFileError(
                f"{root / 'classes.txt'}: refused, it lacks class {label}, which photograph "
                f"{number} ({relative}) shows (truncated?)"
            )
        name = classes.get(label, "")
        if name != relative.split("/")[0]:
            raise RawFileError(
                f"{root / 'image_class_labels.txt'}: photograph {number} ({relative}) is said to "
                f"show {name or 'nothing'}"
            )
        captions = _captions(text / Path(relative).with_suffix(".txt"))
        photos.append(Photo(_there(root / "images" / relative), name, captions, name in held_out))
    _ended([text / Path(relative).with_suffix(".txt") for relative in images.values()])
    listed = {relative.rpartition(".")[0] for relative in images.values()}
    for kind, where in (("jpg", root / "images"), ("txt", text)):
        stored = {f"{p.parent.name}/{p.stem}" for p in where.glob(f"[!.]*/[!.]*.{kind}")}
        if extra := sorted(stored - listed):
            raise RawFileError(
                f"{root / 'images.txt'}: refused, {len(listed)} photographs listed, and not "
                f"{where / extra[0]}.{kind}, one of {len(extra)} more (truncated?)"
            )
    return photos


def _test_classes(folder: Path, classes: Sequence[str], share: float, seed: int) -> set[str]:
    listed = folder / TEST_CLASSES
    if listed.is_file():
        held_out = set(listed.read_text(encoding="utf-8", errors="replace").split())
        if unknown := sorted(held_out - set(classes)):
            raise RawFileError(f"{listed}: {unknown[0]!r} is not a class of classes.txt")
    else:
        order = np.random.default_rng(seed).permutation(len(classes))
        held_out = {classes[i] for i in order[: max(1, round(share * len(classes)))]}
    if not 0 < len(held_out) < len(classes):
        raise RawFileError(
            f"{listed if listed.is_file() else folder}: {len(held_out)} of {len(classes)} classes "
            "held out; both sides need one"
        )
    return held_out


def _read_mmvae(root: Path) -> list[Photo]:
    photos = []
    for split, file in (("train", "text_trainvalclasses.txt"), ("test", "text_testclasses.txt")):
        paths = sorted((root / split).glob("*/*.jpg"))
        lines = _lines(root / file)
        if len(lines) != CAPTIONS * len(paths):
            raise RawFileError(
                f"{root / file}: {len(lines)} captions for {len(paths)} photographs of {split}/; "
                f"{CAPTIONS} each are expected"
            )
        for place, path in enumerate(paths):
            own = tuple(lines[CAPTIONS * place : CAPTIONS * (place + 1)])
            photos.append(Photo(path, path.parent.name, own, split == "test"))
    both = {p.name for p in photos if p.test} & {p.name for p in photos if not p.test}
    if both:
        raise RawFileError(
            f"{root}: class {min(both)} is in train/ and in test/; splits are by class"
        )
    return photos


def _table(path: Path) -> dict[str, str]:
    """`key value` lines as a mapping."""
    rows = [line.split(maxsplit=1) for line in _lines(path)]
    if bad := [row for row in rows if len(row) != 2]:
        raise RawFileError(f"{path}: {' '.join(bad[0])!r} is not `number name`")
    return {key: value.strip() for key, value in rows}


def _captions(path: Path) -> tuple[str, ...]:
    lines = _lines(path)
    if len(lines) != CAPTIONS:
        raise RawFileError(f"{path}: {len(lines)} captions, {CAPTIONS} expected")
    if wordless := [line for line in lines if not re.search("[A-Za-z]", line)]:
        raise RawFileError(f"{path}: refused, the caption {wordless[0]!r} has no word")
    return tuple(lines)


def _ended(paths: Sequence[Path]) -> None:
    """Refuse a caption file whose last line is not ended, where most others' are.

    No checksum of them is published, so that the others are all there is to compare with.
    """
    cut = [path for path in paths if not path.read_bytes().endswith(b"\n")]
    if 0 < len(cut) < len(paths) / 2:
        raise RawFileError(
            f"{cut[0]}: refused, its last line is not ended, as those of {len(paths) - len(cut):,} "
            "other caption files are (truncated?)"
        )


def _lines(path: Path) -> list[str]:
    """Non-empty lines; the originals have a few bytes that are not UTF-8."""
    text = _there(path).read_text(encoding="utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _there(path: Path) -> Path:
    if not path.is_file():
        raise RawFileError(f"{path}: missing")
    if not path.stat().st_size:
        raise RawFileError(f"{path}: refused, it is empty (truncated?)")
    return path

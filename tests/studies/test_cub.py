"""CUB's folder layouts, captions as numbers, and the CCA that scores."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import FastText
from PIL import Image
from ruamel.yaml import YAML
from sklearn.cross_decomposition import CCA
from torchvision.models import resnet101

from base.progress import Progress
from scenegen.layout import record_dtype
from scenegen.manifest import Shard, make_manifest
from scenegen.params import CLASSES
from studies.cub import cca, features, loader, scenes, text
from studies.cub.captions import END, Language, learn, sif_weights, tokens
from studies.cub.features import SmallCNN, as_input, extract, fit_small, resnet
from studies.cub.layout import ARCHIVE, Counts, picture, provide_cub, read
from studies.cub.params import DataParams, FeatureParams, SceneCount, TextParams
from studies.cub.scenes import caption, class_name, colour, scene_params, write_layout
from studies.rawfiles import RawFile, RawFileError
from tests.conftest import ROOT, shipped
from tests.studies.conftest import described

BIRDS = {"001.Albatross": 3, "002.Auklet": 2, "003.Crow": 2, "004.Finch": 1}
TEXT = TextParams(words=6, size=8, window=3, min_count=2, epochs=3, buckets=1000, sif=1e-3,
                  recipe="arora", seed=0)  # fmt: skip


def originals(folder: Path, birds: Mapping[str, int] = BIRDS) -> Path:
    """A tiny CUB in the layout of the originals: photographs by class, eight unless told."""
    rows, labels, draws = [], [], np.random.default_rng(0)
    for number, (name, count) in enumerate(birds.items(), start=1):
        for place in range(count):
            relative = f"{name}/{name[4:]}_{place}"
            rows.append(f"{len(rows) + 1} {relative}.jpg")
            labels.append(f"{len(rows)} {number}")
            image = folder / f"CUB_200_2011/images/{relative}.jpg"
            text = folder / f"text_c10/{relative}.txt"
            image.parent.mkdir(parents=True, exist_ok=True)
            text.parent.mkdir(parents=True, exist_ok=True)
            pixels = draws.integers(0, 256, (20 + place, 24, 3), np.uint8)
            Image.fromarray(pixels).save(image)
            text.write_text("".join(f"a {name[4:]}, number {i}.\n" for i in range(10)))
    root = folder / "CUB_200_2011"
    (root / "images.txt").write_text("\n".join(rows) + "\n")
    (root / "image_class_labels.txt").write_text("\n".join(labels) + "\n")
    listed = (f"{n} {name}" for n, name in enumerate(birds, start=1))
    (root / "classes.txt").write_text("\n".join(listed) + "\n")
    return folder


def test_the_originals_are_read_and_no_class_is_on_both_sides(tmp_path: Path) -> None:
    photos = read(originals(tmp_path), 0.25, 0)
    assert Counter(p.name for p in photos) == BIRDS
    assert all(p.path.is_file() and len(p.captions) == 10 for p in photos)
    assert photos[0].captions[3] == "a Albatross, number 3."
    sides = {p.name: {q.test for q in photos if q.name == p.name} for p in photos}
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {True} for side in sides.values()) == 1
    assert [p.test for p in photos] == [p.test for p in read(tmp_path, 0.25, 0)]


def test_test_classes_that_the_data_name_are_the_split(tmp_path: Path) -> None:
    (originals(tmp_path) / "testclasses.txt").write_text("002.Auklet\n004.Finch\n")
    held_out = {p.name for p in read(tmp_path, 0.25, 0) if p.test}
    assert held_out == {"002.Auklet", "004.Finch"}
    (tmp_path / "testclasses.txt").write_text("009.Emu\n")
    with pytest.raises(RawFileError, match=r"testclasses\.txt: '009\.Emu' is not a class"):
        read(tmp_path, 0.25, 0)


def mmvae(folder: Path) -> Path:
    """The same birds in the layout of mmvae's archive."""
    source = originals(folder / "source")
    for split, names, file in (
        ("train", ("001.Albatross", "003.Crow"), "text_trainvalclasses.txt"),
        ("test", ("002.Auklet", "004.Finch"), "text_testclasses.txt"),
    ):
        lines = []
        for name in names:
            (folder / f"cub/{split}/{name}").mkdir(parents=True)
            for path in sorted((source / f"CUB_200_2011/images/{name}").iterdir()):
                path.rename(folder / f"cub/{split}/{name}/{path.name}")
                lines += [f"{path.stem} caption {i}" for i in range(10)]
        (folder / f"cub/{file}").write_text("\n".join(lines) + "\n")
    return folder


def test_mmvaes_archive_is_read_with_each_photographs_own_captions(tmp_path: Path) -> None:
    photos = read(mmvae(tmp_path), 0.25, 0)
    assert Counter(p.name for p in photos) == BIRDS
    assert {p.name for p in photos if p.test} == {"002.Auklet", "004.Finch"}
    assert all(line.startswith(p.path.stem) for p in photos for line in p.captions)
    file = tmp_path / "cub/text_testclasses.txt"
    file.write_text(file.read_text().split("\n", 1)[1])
    with pytest.raises(RawFileError, match=r"text_testclasses\.txt: 29 captions for 3"):
        read(tmp_path, 0.25, 0)


def test_a_class_in_both_folders_of_mmvaes_archive_is_refused(tmp_path: Path) -> None:
    root = mmvae(tmp_path) / "cub"
    provide_cub(tmp_path, download=False)  # its class lists are the split: nothing is missing
    (root / "test/003.Crow").mkdir()
    bird = root / "train/003.Crow/Crow_0.jpg"
    bird.rename(root / "test/003.Crow/Crow_0.jpg")
    files = {split: root / f"text_{split}classes.txt" for split in ("trainval", "test")}
    lines = {split: file.read_text().splitlines() for split, file in files.items()}
    own = [line for line in lines["trainval"] if line.startswith("Crow_0")]
    files["trainval"].write_text("\n".join(x for x in lines["trainval"] if x not in own))
    files["test"].write_text("\n".join([*lines["test"], *own]))
    with pytest.raises(RawFileError, match=r"003\.Crow is in train/ and in test/"):
        read(tmp_path, 0.25, 0)


DAMAGE = [
    ("CUB_200_2011/images/003.Crow/Crow_1.jpg", None, "missing"),
    ("text_c10/003.Crow/Crow_1.txt", "one line\n", "1 captions, 10 expected"),
    ("text_c10/003.Crow/Crow_0.txt", "", "empty"),
    ("CUB_200_2011/image_class_labels.txt", "1 2\n", "photograph 1"),
    ("CUB_200_2011/classes.txt", "1\n", "is not `number name`"),
    (
        "CUB_200_2011/classes.txt",
        "1 001.Albatross\n2 002.Auklet\n3 003.Crow\n",
        r"classes\.txt: refused, it lacks class 4, which photograph 8 \(004\.Finch/Finch_0\.jpg\)",
    ),
    (
        "CUB_200_2011/images.txt",
        "1 001.Albatross/Albatross_0.jpg\n2 001.Alb",
        r"images\.txt: refused, '2 001\.Alb' is not `number class/file\.jpg`",
    ),
    (
        "text_c10/003.Crow/Crow_1.txt",
        "".join(f"a crow, number {i}.\n" for i in range(9)) + "a cr",
        r"Crow_1\.txt: refused, its last line is not ended, as those of 7 other",
    ),
    (
        "text_c10/003.Crow/Crow_0.txt",
        "".join(f"a crow, number {i}.\n" for i in range(9)) + ".\n",
        r"Crow_0\.txt: refused, the caption '\.' has no word",
    ),
]


@pytest.mark.parametrize(("name", "content", "said"), DAMAGE, ids=range(len(DAMAGE)))
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    path = originals(tmp_path) / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(RawFileError, match=said) as refusal:
        read(tmp_path, 0.25, 0)
    assert Path(name).name in str(refusal.value)


def shorter(path: Path, lines: int) -> None:
    """Keep the first lines alone, as a transfer that broke off does."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


def test_a_list_cut_short_is_refused_though_what_is_left_fits(tmp_path: Path) -> None:
    listed = tmp_path / "testclasses.txt"
    whole = Counts(photographs=8, classes=4, test_classes=2)
    originals(tmp_path)
    listed.write_text("002.Auklet\n004.Finch\n")
    assert len(read(tmp_path, 0.25, 0, whole)) == 8
    shorter(listed, 1)
    assert len(read(tmp_path, 0.25, 0)) == 8
    with pytest.raises(RawFileError) as refusal:
        read(tmp_path, 0.25, 0, whole)
    assert str(refusal.value) == f"{listed}: refused, 1 test classes, 2 expected (truncated?)"
    images = tmp_path / "CUB_200_2011/images.txt"
    shorter(images, 5)
    said = (
        r"images\.txt: refused, 5 photographs listed, and not \S+/003\.Crow/Crow_0\.jpg, one of 3"
    )
    with pytest.raises(RawFileError, match=said):
        read(tmp_path, 0.25, 0)
    for photo in (tmp_path / "CUB_200_2011/images").glob("00[34]*/*.jpg"):
        photo.unlink()
    with pytest.raises(RawFileError, match=r"and not \S+/text_c10/003\.Crow/Crow_0\.txt, one of 3"):
        read(tmp_path, 0.25, 0)


def test_half_of_mmvaes_archive_is_refused(tmp_path: Path) -> None:
    mmvae(tmp_path)
    whole = Counts(photographs=8, classes=4, test_classes=2)
    assert len(read(tmp_path, 0.25, 0, whole)) == 8
    (tmp_path / "cub/test/004.Finch/Finch_0.jpg").unlink()
    shorter(tmp_path / "cub/text_testclasses.txt", 20)
    assert len(read(tmp_path, 0.25, 0)) == 7
    with pytest.raises(RawFileError) as refusal:
        read(tmp_path, 0.25, 0, whole)
    assert [line.split("refused, ")[1] for line in str(refusal.value).splitlines()] == [
        "7 photographs, 8 expected (truncated?)",
        "3 classes, 4 expected (truncated?)",
        "1 test classes, 2 expected (truncated?)",
    ]


def test_cubs_own_files_have_to_be_all_there(tmp_path: Path) -> None:
    (originals(tmp_path) / "testclasses.txt").write_text("004.Finch\n")
    sections = YAML(typ="safe").load(shipped("studies/cub/params.yaml"))
    asked = DataParams(**sections["data"] | {"source": "files", "folder": str(tmp_path)})
    with pytest.raises(RawFileError) as refusal:
        features.photos(asked)
    assert [line.split(": refused, ")[1] for line in str(refusal.value).splitlines()] == [
        "8 photographs, 11,788 expected (truncated?)",
        "4 classes, 200 expected (truncated?)",
        "1 test classes, 50 expected (truncated?)",
    ]


def test_a_truncated_photograph_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "bird.jpg"
    draws = np.random.default_rng(0)
    Image.fromarray(draws.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    assert picture(path, 32).shape == (32, 32, 3)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(RawFileError, match=r"bird\.jpg: refused, truncated"):
        picture(path, 32)


def test_what_cub_lacks_is_said_with_size_place_and_checksum(tmp_path: Path) -> None:
    with pytest.raises(RawFileError) as refusal:
        provide_cub(tmp_path, download=False)
    archive, captions, split = str(refusal.value).splitlines()
    assert f"{tmp_path}/CUB_200_2011.tgz: missing; 1,150,585,339 bytes, md5:97ece" in archive
    assert captions.startswith(f"{tmp_path}/text_c10: missing; size and checksum: none published")
    assert ARCHIVE.urls[0] in archive
    assert split.startswith(f"{tmp_path}/testclasses.txt: missing; size and checksum: none pub")


def test_photographs_without_the_published_split_are_refused(tmp_path: Path) -> None:
    originals(tmp_path)
    with pytest.raises(RawFileError) as refusal:
        provide_cub(tmp_path, download=False)
    (line,) = str(refusal.value).splitlines()
    assert line.startswith(f"{tmp_path}/testclasses.txt: missing; ")
    assert "the published split" in line
    (tmp_path / "testclasses.txt").write_text("")
    provide_cub(tmp_path, download=False)
    with pytest.raises(RawFileError, match=r"testclasses\.txt: 0 of 4 classes held out"):
        read(tmp_path, 0.25, 0)


def test_the_archive_is_checked_then_unpacked(tmp_path: Path) -> None:
    source, folder = originals(tmp_path / "source"), tmp_path / "raw"
    (folder / "text_c10").mkdir(parents=True)
    (folder / "testclasses.txt").write_text("004.Finch\n")
    with tarfile.open(folder / "CUB_200_2011.tgz", "w:gz") as packed:
        packed.add(source / "CUB_200_2011", "CUB_200_2011")
    archive = described(folder / "CUB_200_2011.tgz", "CUB_200_2011.tgz")
    wrong = RawFile(archive.path, archive.size, "md5:0123")
    with pytest.raises(RawFileError, match=r"CUB_200_2011\.tgz: refused, its md5 is"):
        provide_cub(folder, False, wrong)
    assert not (folder / "CUB_200_2011").exists()
    provide_cub(folder, False, archive)
    assert len((folder / "CUB_200_2011/images.txt").read_text().splitlines()) == 8


def test_an_interrupted_unpacking_leaves_nothing_and_the_next_run_does_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = originals(tmp_path / "source"), tmp_path / "raw"
    (folder / "text_c10").mkdir(parents=True)
    (folder / "testclasses.txt").write_text("004.Finch\n")
    with tarfile.open(folder / "CUB_200_2011.tgz", "w:gz") as packed:
        packed.add(source / "CUB_200_2011/images.txt", "CUB_200_2011/images.txt")
        packed.add(source / "CUB_200_2011", "CUB_200_2011")
    archive = described(folder / "CUB_200_2011.tgz", "CUB_200_2011.tgz")

    def interrupted(bar: Progress, *_: object) -> None:
        assert (folder / ".CUB_200_2011.partial/CUB_200_2011/images.txt").is_file()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "reach", interrupted)
        with pytest.raises(KeyboardInterrupt):
            provide_cub(folder, False, archive)
    assert {p.name for p in folder.iterdir()} == {"text_c10", "testclasses.txt", archive.path}
    (folder / ".CUB_200_2011.partial").mkdir()  # as a kill leaves it
    provide_cub(folder, False, archive)
    assert len(list((folder / "CUB_200_2011/images").rglob("*.jpg"))) == 8
    assert not (folder / ".CUB_200_2011.partial").exists()
    assert "CUB_200_2011.tgz, MB unpacked: 1/1, " in capsys.readouterr().err
    (folder / "CUB_200_2011/images.txt").unlink()
    with pytest.raises(RawFileError, match=r"CUB_200_2011: refused, it lacks images\.txt"):
        provide_cub(folder, False, archive)


@pytest.mark.slow
def test_resnet_takes_its_weights_from_a_checked_file_only(tmp_path: Path) -> None:
    path = tmp_path / "resnet101.pth"
    with pytest.raises(RawFileError, match=r"resnet101\.pth: missing; about 178,794,000 bytes"):
        resnet(path, "cpu")
    torch.manual_seed(0)
    network = resnet101()
    torch.save(network.state_dict(), path)
    with pytest.raises(RawFileError, match=r"refused, its sha256 is \w+, expected 63fe2227"):
        resnet(path, "cpu")
    model = resnet(path, "cpu", described(path, path.name))
    Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save(tmp_path / "bird.jpg")
    features = extract(model, [tmp_path / "bird.jpg"], 64, "cpu")
    assert features.shape == (1, 2048)
    assert np.isfinite(features).all()


def striped(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Faint bars at one of three slants, wherever and in whatever colour, under noise."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    row, column = np.mgrid[:32, :32]
    pictures = []
    for label in labels:
        along = (row, column, row + column)[label]
        wave = np.sin(along * 0.9 + draws.uniform(0, 6.3))[:, :, None]
        shade = draws.uniform(60, 190, 3) + 40 * wave + draws.normal(0, 20, (32, 32, 3))
        pictures.append(np.uint8(shade.clip(0, 255)))
    return pictures, labels


def told(model: torch.nn.Module) -> float:
    """How many new pictures are nearest to their own class's mean feature."""
    (known, of), (new, truth) = striped(90, 0), striped(60, 1)
    with torch.inference_mode():
        seen, found = (model(as_input(p, "cpu")).numpy() for p in (known, new))
    centres = np.stack([seen[of == label].mean(0) for label in range(3)])
    nearest = np.linalg.norm(found[:, None] - centres, axis=2).argmin(1)
    return float((nearest == truth).mean())


def test_pictures_are_given_to_the_network_with_or_without_imagenets_mean() -> None:
    grey = [np.full((4, 4, 3), 51, np.uint8)]
    assert as_input(grey, "cpu", normalise=False).unique().tolist() == pytest.approx([0.2])
    expected = [(0.2 - m) / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert as_input(grey, "cpu")[0, :, 0, 0].tolist() == pytest.approx(expected)


def test_the_small_extractor_learns_its_classes() -> None:
    pictures, labels = striped(90, 0)
    params = FeatureParams(
        extractor="small", weights="-", side=32, size=8, normalise=True, epochs=30, seed=0
    )
    model = fit_small(pictures, labels, params, "cpu")
    torch.manual_seed(0)
    untrained = SmallCNN(8, 3).body.eval()
    assert told(model) >= 0.9
    assert told(untrained) < 0.7
    short = params.model_copy(update={"epochs": 2})
    twice = [fit_small(pictures, labels, short, "cpu") for _ in range(2)]
    for a, b in zip(twice[0].parameters(), twice[1].parameters(), strict=True):
        assert a.equal(b)


# --- scenes ------------------------------------------------------------------------------------


def test_hues_have_names() -> None:
    named = [colour(h) for h in (0.0, 0.99, 1 / 6, 0.33, 0.5, 0.66, 0.84)]
    assert named == ["red", "red", "yellow", "green", "cyan", "blue", "purple"]


def scene(number: int) -> np.void:
    """A small red cube to the left of a large blue sphere, on a green floor."""
    record = np.zeros(1, record_dtype(scene_params(SceneCount(count=60, side=32, seed=0))))[0]
    record["scene"] = number
    record["label"] = [CLASSES.index("cube"), CLASSES.index("sphere")]
    record["has_box"], record["visible"] = True, [40, 30]
    record["position"] = [[-1, 0], [1, 0.5]]
    record["scale"] = [0.6, 1.2]
    record["hsv"] = [[0.0, 1, 1], [2 / 3, 1, 1]]
    record["floor_hsv"] = [1 / 3, 1, 1]
    return record


def test_captions_say_what_is_there_and_where() -> None:
    said = {caption(scene(0), np.random.default_rng(i)) for i in range(200)}
    assert "a small red cube left of a large blue sphere on a green floor" in said
    assert all("red cube" in s for s in said)
    assert not any("right of" in s or "large red" in s or "small blue" in s for s in said)
    assert class_name(scene(0)) == "cube_red"
    assert len(said) > 30


def test_an_interrupted_render_says_how_many_scenes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert scenes.kept().startswith(f"0 scenes are kept in {scenes.SHARDS}")
    shards = [
        Shard(file=f"{first}.npy", first=first, count=250, sha256="0" * 64, fingerprint="0" * 64)
        for first in (0, 500)
    ]
    scenes.SHARDS.mkdir(parents=True)
    params = scene_params(SceneCount(count=1000, side=32, seed=0))
    make_manifest(params, "5.0.1", shards).write(scenes.SHARDS)
    assert scenes.kept().startswith("500 scenes are kept in ")


def test_scenes_go_through_cubs_own_reader(tmp_path: Path) -> None:
    records = np.array([scene(i) for i in range(6)])
    records["hsv"][3:, 0, 0] = 0.5
    records["has_box"][5] = False  # nothing to speak of
    assert write_layout(records, tmp_path, 0) == 5
    photos = read(tmp_path, 0.5, 0)
    assert Counter(p.name for p in photos) == {"001.cube_cyan": 2, "002.cube_red": 3}
    assert all(("cyan" if "cyan" in p.name else "red") in c for p in photos for c in p.captions)
    assert {p.test for p in photos} == {True, False}


# --- captions as numbers -----------------------------------------------------------------------

CORPUS = [tokens(s) for s in ("A red bird, on it's wing!", "a blue bird", "a red wing", "a bird")]


def test_tokens_are_words_in_lower_case() -> None:
    assert tokens("A red-bird, on it's WING!") == ["a", "red", "bird", "on", "it's", "wing"]


def test_sif_weights_by_hand() -> None:
    counts = Counter({"a": 6, "bird": 3, "red": 1})
    weights = sif_weights(counts, [END, "a", "bird", "red", "new"], 0.1)
    np.testing.assert_allclose(weights, [0, 0.1 / 0.7, 0.1 / 0.4, 0.1 / 0.2, 1.0])


def by_hand() -> Language:
    """Three words in two dimensions."""
    return Language(
        np.array([END, "red", "bird"]),
        np.array([[5, 5], [1, 0], [0, 1]], np.float32),
        np.array([True, True, False]),
        np.array([0, 0.5, 0.25]),
        np.array([1.0, 0.0]),
        np.array([[5, 5], [1, 0], [0, 1]], np.float32),
    )


def test_an_embedding_is_the_weighted_mean_without_the_common_direction() -> None:
    ids = np.array([[1, 2, 2, 0], [0, 0, 0, 0]])
    # (0.5 red + 2 x 0.25 bird) / 3 words, and its first component removed
    np.testing.assert_allclose(by_hand().embed(ids), [[0, 0.5 / 3], [0, 0]])


def test_generated_vectors_become_the_nearest_known_word_up_to_the_first_end() -> None:
    made = np.array([[[0.9, 0.2], [0.1, 0.9], [5, 4], [1, 0]]], np.float32)
    ids = by_hand().nearest(made)
    assert ids.tolist() == [[1, 1, 0, 0]]  # "bird" is not known; after END all is END
    assert by_hand().text(ids) == ["red red"]


def test_the_language_knows_training_words_and_embeds_others() -> None:
    language = learn(CORPUS, [*CORPUS, ["a", "bluebird"]], TEXT)
    words = language.words.tolist()
    assert words[0] == END
    assert not language.known[words.index("bluebird")]
    assert language.known[words.index("bird")]
    np.testing.assert_allclose(np.linalg.norm(language.vectors, axis=1), 8**0.5, rtol=1e-5)
    ids = language.ids([["a", "red", "bird"]], 6)
    assert language.text(ids) == ["a red bird"]
    assert language.nearest(language.vectors[ids]).tolist() == ids.tolist()


# Gensim hands out jobs of 10,000 words: fewer are one job, which no number of workers can upset.
LONG = 2500


def test_fasttext_is_the_same_in_another_process() -> None:
    assert LONG * sum(len(sentence) + 1 for sentence in CORPUS) > 40_000
    code = (
        "import hashlib; from studies.cub.captions import learn;"
        "from studies.cub.params import TextParams;"
        f"v = learn({CORPUS!r} * {LONG}, {CORPUS!r}, TextParams(**{TEXT.model_dump()!r})).vectors;"
        "print(hashlib.sha256(v.tobytes()).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    here = learn(CORPUS * LONG, CORPUS, TEXT).vectors
    assert hashlib.sha256(here.tobytes()).hexdigest() == other


def test_fasttext_has_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    class Noting(FastText):  # type: ignore[misc]
        def __init__(self, *arguments: object, **options: object) -> None:
            asked.update(options)
            super().__init__(*arguments, **options)

    monkeypatch.setattr("gensim.models.FastText", Noting)
    learn(CORPUS, CORPUS, TEXT)
    assert (asked["workers"], asked["seed"]) == (1, TEXT.seed)


def test_what_is_removed_is_the_first_principal_direction_of_the_training_captions() -> None:
    train = [tokens(s) for s in ("a red bird", "a blue bird on a wing", "red wing", "a bird")] * 5
    language = learn(train, [*train, *[["a", "crow"]] * 50], TEXT)
    plain = replace(language, direction=np.zeros(TEXT.size))
    sentences = plain.embed(language.ids(train, TEXT.words))
    _, lengths, directions = np.linalg.svd(sentences, full_matrices=False)
    assert lengths[0] > 1.5 * lengths[1] > 0.01  # one stands out, and it is not all there is
    assert abs(language.direction @ directions[0]) == pytest.approx(1.0)
    left = language.embed(language.ids(train, TEXT.words))
    expected = sentences - np.outer(sentences @ directions[0], directions[0])
    np.testing.assert_allclose(left, expected, atol=1e-9)
    assert np.abs(left).max() > 1e-3


def test_the_fields_recipe_embeds_fasttexts_own_vectors_less_the_direction_about_the_mean() -> None:
    train = [tokens(s) for s in ("a red bird", "a blue bird on a wing", "red wing", "a bird")] * 5
    field = learn(train, train, TEXT.model_copy(update={"recipe": "field"}))
    arora = learn(train, train, TEXT)
    np.testing.assert_array_equal(field.vectors, arora.vectors)  # models see the same
    np.testing.assert_array_equal(arora.judged, arora.vectors)
    # FastText's vectors as they are: centred and stretched, they are those that models see.
    centred = field.judged - field.judged[field.known].mean(0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(centred / lengths * 8**0.5, field.vectors, rtol=1e-4, atol=1e-5)
    assert np.ptp(lengths) > 0.01
    ids = field.ids(train, TEXT.words)
    plain = np.stack([
        sum(field.weights[i] * field.judged[i] for i in line if i) / np.count_nonzero(line)
        for line in ids
    ])  # fmt: skip
    _, _, directions = np.linalg.svd(plain - plain.mean(0), full_matrices=False)
    expected = plain - np.outer(plain @ directions[0], directions[0])
    np.testing.assert_allclose(field.embed(ids), expected, atol=1e-8)
    _, _, uncentred = np.linalg.svd(plain, full_matrices=False)
    assert abs(uncentred[0] @ directions[0]) < 0.99


def language_of(folder: Path, captions: np.ndarray, pictures: np.ndarray, test: np.ndarray) -> (
    tuple[dict[str, np.ndarray], dict[str, np.ndarray], loader.Space]
):  # fmt: skip
    """What the stage `text` stores for these captions [N, 10] and features."""
    loader.store(loader.FEATURES, features=pictures, test=test, captions=captions,
               paths=np.array(["-"] * len(test)))  # fmt: skip
    text.main()
    stored = []
    for file in (loader.LANGUAGE, loader.PROJECTION):
        with np.load(folder / file) as arrays:
            stored.append({name: arrays[name] for name in arrays.files})
    return stored[0], stored[1], loader.load()[0]


def test_the_test_split_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies/cub").mkdir(parents=True)
    sections = {"text": TEXT.model_dump(), "cca": {"size": 3, "ridge": 0.001}}
    with open(tmp_path / "studies/cub/params.yaml", "w") as file:
        YAML().dump(sections, file)
    draws = np.random.default_rng(5)
    nouns, colours = ["bird", "wing", "beak", "tail"], ["red", "blue", "green", "grey"]
    captions = np.array(
        [[f"a {draws.choice(colours)} {draws.choice(nouns)}" for _ in range(10)] for _ in range(20)]
    )
    pictures = draws.normal(size=(20, 6)).astype(np.float32)
    test = np.arange(20) % 4 == 0
    one, cca_one, space = language_of(tmp_path, captions, pictures, test)

    others = captions.copy().astype(object)
    others[test] = "the red crow and a red crow over red water"  # new words, and old ones oftener
    changed = np.where(test[:, None], 9 * pictures + 3, pictures).astype(np.float32)
    two, cca_two, space_two = language_of(tmp_path, others.astype(str), changed, test)

    assert {"crow", "water"} <= set(two["words"]) - set(one["words"])  # the test split was read
    taught = [word for row in captions[~test].ravel() for word in tokens(row)]
    for word in (END, *sorted(set(taught))):
        first, second = (list(stored["words"]).index(word) for stored in (one, two))
        for name in ("vectors", "known", "weights"):
            np.testing.assert_array_equal(one[name][first], two[name][second], f"{name} of {word}")
    assert not two["known"][list(two["words"]).index("crow")]
    np.testing.assert_array_equal(one["direction"], two["direction"])
    for name in cca.Projection.__dataclass_fields__:
        np.testing.assert_array_equal(cca_one[name], cca_two[name], name)
    np.testing.assert_array_equal(space.mean, space_two.mean)
    assert space.scale == space_two.scale


def test_the_extractor_learns_from_training_pictures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies/cub").mkdir(parents=True)
    sections = YAML(typ="safe").load(shipped("studies/cub/params.yaml"))
    sections["features"] |= {"side": 32, "size": 8, "epochs": 2}
    with open(tmp_path / "studies/cub/params.yaml", "w") as file:
        YAML().dump(sections, file)
    root = originals(features.FOLDER)
    found = []
    for shade in (0, 200):
        for photo in read(root, 0.25, 0):
            if photo.test:
                Image.new("RGB", (30, 20), (shade, 10, 90)).save(photo.path)
        features.main()
        with np.load(features.FILE) as file:
            found.append((file["features"], file["test"]))
    (first, test), (second, _) = found
    np.testing.assert_array_equal(first[~test], second[~test])
    assert (first[test] != second[test]).any()


# --- CCA ---------------------------------------------------------------------------------------


def correlated(count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Two views of five shared numbers, with noise."""
    draws = np.random.default_rng(3)
    shared = draws.normal(size=(count, 5)) * [3, 2, 1, 0.5, 0.2]
    x = shared @ draws.normal(size=(5, 7)) + draws.normal(size=(count, 7))
    y = shared @ draws.normal(size=(5, 6)) + draws.normal(size=(count, 6))
    return x, y


def test_cca_agrees_with_scikit_learns() -> None:
    x, y = correlated()
    ours = cca.fit(x, y, 4)
    theirs = CCA(4, scale=False, max_iter=5000, tol=1e-12).fit(x, y)
    a, b = theirs.transform(x, y)
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(4)]
    np.testing.assert_allclose(ours.correlations, expected, atol=1e-6)
    mine = (x - ours.x_mean) @ ours.x_map
    for i in range(4):
        assert abs(np.corrcoef(mine[:, i], a[:, i])[0, 1]) > 0.9999


def test_cca_survives_directions_that_do_not_vary() -> None:
    x, y = correlated()
    dead = np.column_stack([x, np.full(len(x), 3.0), x[:, 0]])
    np.testing.assert_allclose(
        cca.fit(dead, y, 3).correlations, cca.fit(x, y, 3).correlations, atol=1e-8
    )
    with pytest.raises(ValueError, match="size: 9"):
        cca.fit(x, y, 9)


def test_the_score_is_the_mean_cosine_and_falls_with_the_wrong_partner() -> None:
    x, y = correlated()
    projection = cca.fit(x[:300], y[:300], 3)
    right = projection.score(x[300:], y[300:])
    wrong = projection.score(x[300:], np.roll(y[300:], 7, 0))
    assert right > 0.5 > 0.2 > abs(wrong)
    a = (x[0] - projection.x_mean) @ projection.x_map
    b = (y[0] - projection.y_mean) @ projection.y_map
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert projection.cosines(x[:1], y[:1])[0] == pytest.approx(cosine)
    null = projection.cosines(projection.x_mean[None], y[:1])
    assert null.tolist() == [0.0]
    packed = io.BytesIO()
    np.savez(packed, **vars(projection))
    packed.seek(0)
    with np.load(packed) as file:
        again = cca.Projection(*(file[n] for n in cca.Projection.__dataclass_fields__))
    assert again.score(x[300:], y[300:]) == right

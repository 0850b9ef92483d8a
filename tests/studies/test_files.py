"""Real files, in small: MNIST's, SVHN's and CUB's own formats through the real stages.

What these files lack is what cannot be made: the published checksums and counts, which the tests
replace by those of the files they make, and ImageNet's weights, for which random ones stand in.
"""

from __future__ import annotations

import csv
import importlib
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from torchvision.models import resnet101

from pipeline import presets
from pipeline.run import Run
from pipeline.stages import check, report, score, train_vae
from studies.cub import features
from studies.cub.layout import Counts
from studies.mnist_svhn import data
from studies.mnist_svhn.loader import FILE
from studies.mnist_svhn.sources import from_files
from studies.rawfiles import RawFile
from tests.conftest import OTHERS, ROOT, shipped
from tests.studies.conftest import described
from tests.studies.test_cub import BIRDS, mmvae, originals
from tests.studies.test_smoke import TABLES

# Lengths alone are cut: networks, L, K, likelihoods and the eleven rows stay the paper's.
CUT: dict[str, Any] = {
    "data": {"download": False},
    "vae": {"training": {"steps": 3, "batch": 4, "log_every": 1, "checkpoint_every": 2}},
    "grid": {"seeds": [0, 1]},
    "score": {"samples": 20, "choose": 20},
    "report": {"examples": 3},
}
ONE = {"grid": {"seeds": [0]}}  # where two would take too long


def papers(folder: Path, study: str, cut: Mapping[str, Any]) -> None:
    """The folder as a clone in which the paper's preset was asked for, and then cut."""
    home = folder / f"studies/{study}"
    home.mkdir(parents=True)
    (folder / "models").symlink_to(ROOT / "models")
    (home / "dvc.yaml").write_text(shipped(f"studies/{study}/dvc.yaml"))
    text = shipped(f"studies/{study}/params.yaml")
    text = presets.render("paper", text, ROOT / f"studies/{study}/presets")
    (folder / "cut.yaml").write_text(json.dumps(cut))
    (home / "params.yaml").write_text(presets.render("cut", text, folder))


def stages(study: str, *names: str) -> None:
    """Run the named stages of a study in this process, each of a grid for every run."""
    grid = YAML(typ="safe").load(Path(f"studies/{study}/params.yaml").read_text())["grid"]
    runs = [Run(name, seed) for name in (*OTHERS[study].modalities, *grid["cells"])
            for seed in grid["seeds"]]  # fmt: skip
    of = {"train_classifier": OTHERS[study].modalities}
    for name in names:
        if name in ("check", "report"):
            (check if name == "check" else report).main(OTHERS[study])
            continue
        if name in ("train", "score"):
            for run in runs:
                (train_vae if name == "train" else score).main(OTHERS[study], run)
            continue
        main: Callable[..., None] = importlib.import_module(f"studies.{study}.{name}").main
        for run in of.get(name, [None]):
            main() if run is None else main(run)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the format of ImageNet's weights."""
    path = tmp_path_factory.mktemp("weights") / "resnet101.pth"
    torch.manual_seed(0)
    torch.save(resnet101().state_dict(), path)
    return path


@pytest.fixture
def cub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> Callable[..., Path]:
    """Makes the folder of a tiny CUB, of `birds`, whose `tests` classes are held out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    published = described(weights, weights.name)
    monkeypatch.setattr(features, "RESNET", published)
    monkeypatch.setattr(features, "resnet", partial(features.resnet, published=published))

    def make(birds: Mapping[str, int], tests: int, layout: str = "originals") -> Path:
        counts = Counts(sum(birds.values()), len(birds), tests)
        monkeypatch.setattr(features, "PUBLISHED", counts)
        papers(tmp_path, "cub", CUT | {"features": {"weights": str(weights)}} | ONE)
        folder = tmp_path / "data/raw/cub"
        if layout == "mmvae":
            return mmvae(folder)
        originals(folder, birds)
        (folder / "testclasses.txt").write_text("\n".join(list(birds)[-tests:]) + "\n")
        return folder

    return make


@pytest.mark.parametrize("layout", ["originals", "mmvae"])
@pytest.mark.slow
def test_features_of_cubs_own_files_are_written_with_what_belongs_to_each(
    cub: Callable[..., Path], weights: Path, layout: str
) -> None:
    cub(BIRDS, 2, layout)
    features.main()
    with np.load(features.FILE) as file:
        stored = {name: file[name] for name in file.files}
    assert stored["features"].shape == (8, 2048)
    held_out = {"003.Crow", "004.Finch"} if layout == "originals" else {"002.Auklet", "004.Finch"}
    assert {*stored["names"][stored["test"]]} == held_out
    assert {*stored["names"][~stored["test"]]} == {*BIRDS} - held_out
    model = features.resnet(weights, "cpu")
    for place, path in enumerate(map(Path, stored["paths"])):
        assert path.parent.name == stored["names"][place]
        if place in (0, 5):
            # One photograph at a time is not the same sum in the last bits.
            alone = features.extract(model, [path], 224, "cpu", normalise=False)[0]
            np.testing.assert_allclose(stored["features"][place], alone, rtol=1e-3, atol=1e-4)
        own = f"a {path.stem.split('_')[0]}, number 7." if layout == "originals" else (
            f"{path.stem} caption 7")  # fmt: skip
        assert stored["captions"][place, 7] == own
    assert np.ptp(stored["features"], 0).max() > 1e-2  # photographs are told apart
    before = features.FILE.read_bytes()
    features.main()
    assert features.FILE.read_bytes() == before


def test_damaged_photographs_are_all_named_before_any_feature_is_computed(
    cub: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = cub(BIRDS, 2) / "CUB_200_2011/images"
    damaged = [root / "002.Auklet/Auklet_0.jpg", root / "004.Finch/Finch_0.jpg"]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-200])

    def never(*_: object) -> None:
        raise AssertionError("features were computed, and would have been lost")

    monkeypatch.setattr(features, "extract", never)
    with pytest.raises(SystemExit) as left:
        features.main()
    assert left.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "refused" in line]
    assert len(said) == 2
    for line, path in zip(said, damaged, strict=True):
        assert line.startswith(f"{path.relative_to(Path.cwd())}: refused, truncated or not a pict")
    assert not features.FILE.exists()


def papers_table(study: str) -> tuple[str, str]:
    """What the md says first, and its table; csv and json have the paper's rows and figures too."""
    name, paper = TABLES[study]
    results = OTHERS[study].results
    with open(results / f"{name}.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["fusion"], row["objective"]) for row in rows] == list(paper)
    assert {row["data"] for row in rows} == {"files"}
    assert json.loads((results / f"{name}.json").read_text())["data"] == "files"
    for row in rows:
        for key, printed in paper[row["fusion"], row["objective"]].items():
            assert float(row[f"{key}_paper"]) == pytest.approx(printed)
    page = (results / "report.html").read_text()
    assert "This is not the paper" not in page
    importance = {"mnist_svhn": 30, "cub": 10}[study]
    assert (
        f"jmvae is trained with K = 1 importance sample, where the paper has K = {importance}:"
        in page
    )
    origin, *lines = (results / f"{name}.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 11
    assert any("In brackets the paper" in line for line in lines)
    return origin, "\n".join(table)


def scored(shown: str) -> set[str]:
    """The runs of which all parts are shown to be scored."""
    return {run for run, _ in re.findall(r"score (\S+): (\d+)/\2 parts, ", shown)}


@pytest.mark.slow
def test_table_1_of_mnists_and_svhns_own_files(
    files: tuple[Path, list[RawFile], list[RawFile], dict[str, np.ndarray]],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    raw, mnist, svhn, made = files
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setattr(data, "from_files", partial(from_files, mnist=mnist, svhn=svhn))
    papers(tmp_path, "mnist_svhn", CUT | {"data": {"download": False, "folder": str(raw)}})
    stages("mnist_svhn", "check", "data", "train_classifier", "train", "score", "report")
    origin, table = papers_table("mnist_svhn")
    assert origin.startswith("Made on the files of MNIST and SVHN. The paper's figures are its own")
    assert table.startswith("| objective | fusion | joint | S→M | M→S |")
    assert "(58.9)" in table
    assert "±" in table  # two seeds
    with np.load(FILE) as file:
        for split in ("train", "test"):  # one pair for each digit
            assert len(file[f"{split}_pairs"]) == len(made[f"digits_{split}"])
    assert len(scored(capsys.readouterr().err)) == 2 * (11 + 2)


@pytest.mark.slow
def test_table_2_of_cubs_own_files(
    cub: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    birds = {f"{number:03d}.Bird": 11 for number in range(1, 6)}
    folder, draws = cub(birds, 1), np.random.default_rng(0)
    # Forty canonical directions need as many ways in which photographs and captions differ.
    words = ["".join(draws.choice([*"abcdefgh"], 5)) for _ in range(80)]
    for caption in sorted((folder / "text_c10").rglob("*.txt")):
        caption.write_text("".join(f"{' '.join(draws.choice(words, 6))}.\n" for _ in range(10)))
    for path in sorted((folder / "CUB_200_2011/images").rglob("*.jpg")):
        coarse = Image.fromarray(draws.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((60, 50)).save(path)
    stages("cub", "check", "scenes", "features", "text", "train", "score", "report")
    assert not any(path.is_dir() for path in Path("data/studies/cub/scenes").iterdir())
    origin, table = papers_table("cub")
    assert origin.startswith("Made on the files of CUB Image-Captions. The paper's figures are its")
    assert table.startswith("| objective | fusion | C→I | I→C |")
    assert "(0.45)" in table
    shown = capsys.readouterr().err
    for work in (
        "photographs, read: 55/55",
        "features, pictures: 55/55",
        "FastText, passes: 10/10",
    ):
        assert f"{work}, " in shown
    assert len(scored(shown)) == 11 + 2

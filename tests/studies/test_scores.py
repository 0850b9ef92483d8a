"""The studies' scores against sums done by hand: which way, by which judge, which component."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.params import Cell, VAEParams
from models.vae import MultimodalVAE
from pipeline.reporting.table import COSTS, build
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.decoding import (
    Items,
    as_data,
    best_component,
    components,
    decode,
    name_of,
    named,
    sample,
)
from pipeline.stages import score
from pipeline.study import STUDIES, device
from studies.cub import cca
from studies.cub import judge as cub
from studies.cub.captions import END, Language
from studies.cub.loader import Pairs as Captioned
from studies.cub.loader import Space
from studies.mnist_svhn import judge as digits
from studies.mnist_svhn.classifier import DigitClassifier, classify
from studies.mnist_svhn.loader import Pairs
from studies.mnist_svhn.train_classifier import path

COUNT, LATENT, SEED = 120, 4, 3
SETTINGS = {
    "pairs": COUNT, "point": "mean", "samples": 50, "choose": 60, "resamples": 100, "seed": SEED
}  # fmt: skip


def model(cell: Cell, shapes: Mapping[str, tuple[int, ...]]) -> MultimodalVAE:
    """An untrained model whose weights are large enough for what it decodes to vary."""
    torch.manual_seed(0)
    network = {"kind": "residual", "width": 4, "blocks": 0}
    params = VAEParams(latent=LATENT, modalities={m: {} for m in shapes}, network=network)
    vae = MultimodalVAE(params, cell, shapes).eval()
    with torch.no_grad():
        for weight in vae.parameters():
            weight.mul_(3.0 if weight.ndim > 1 else 1.0)
    return vae


def made(
    vae: MultimodalVAE, seen: Mapping[str, np.ndarray], **how: object
) -> dict[str, np.ndarray]:
    """What the model decodes from the mean of its posterior, asked directly."""
    given = {m: torch.from_numpy(x) for m, x in seen.items()}
    return {m: as_data(x) for m, x in vae.generate(given, **how).items()}  # type: ignore[arg-type]


class Made:
    """Parts of a score, made one after the other."""

    def __init__(self, *_: object) -> None: ...

    def all(self, makers: Mapping[str, Callable[[], dict[str, Any]]]) -> dict[str, dict[str, Any]]:
        return {name: make() for name, make in makers.items()}

    def clear(self) -> None: ...


class Scored:
    """What the stage writes of a model of a study, which is at hand instead of in files."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        study: str,
        vae: MultimodalVAE,
        splits: Any,
        **settings: Any,
    ) -> None:
        judge = STUDIES[study].part("judge")
        headline = next(iter(judge.METRICS))
        params = judge.ScoreParams(headline=headline, **SETTINGS | settings)
        self.file: dict[str, Any] = {}
        self.kept: dict[str, dict[str, np.ndarray]] = {}  # by folder: samples, bootstrap
        patch.setattr(judge, "load", splits)
        patch.setattr(score, "Parts", Made)
        patch.setattr(score, "load_model", lambda *_: vae)
        patch.setattr(score, "cost", lambda *_: {})
        patch.setattr(type(STUDIES[study]), "section", lambda *_: params)
        patch.setattr(stage, "write_json", lambda _, content: self.file.update(content))
        patch.setattr(stage, "write_bytes", self._keep)
        score.main(STUDIES[study], Run("a", 0))

    def _keep(self, path: Path, content: bytes) -> None:
        with np.load(io.BytesIO(content)) as file:
            self.kept[path.parent.name] = {name: file[name] for name in file.files}

    def figure(self, given: str, target: str, part: str = "subsets") -> float:
        """The headline figure of a target, given these."""
        [name] = {"accuracy", "cosine"} & self.file[part][given][target].keys()
        found: float = self.file[part][given][target][name]
        assert self.file[part][given][target]["ci"][name][0] <= found
        return found

    def both(self) -> dict[str, float]:
        """Each target's, given both modalities."""
        [name] = {"accuracy", "cosine"} & next(iter(self.file["synergy"].values())).keys()
        return {target: figures[name] for target, figures in self.file["synergy"].items()}


# --- the component of a mixture ------------------------------------------------------------------

VECTORS = {"image": (6,), "text": (4, 3)}


def vectors(count: int) -> Items:
    draws = np.random.default_rng(1)
    seen = {m: draws.normal(size=(count, *s)).astype(np.float32) for m, s in VECTORS.items()}
    return Items(np.arange(count), seen, {})


def test_the_best_component_is_the_one_of_the_highest_quality() -> None:
    assert best_component([0, 2, 1], {0: 0.35, 1: 0.4, 2: 0.38}.__getitem__) == 1


def test_one_posterior_has_no_component_to_choose() -> None:
    vae = model(Cell(fusion="poe", objective="none"), VECTORS)
    live = components(vae, vectors(3), vae.modalities)
    assert best_component(live, lambda _: 0.0) is None


@pytest.mark.slow
def test_both_studies_choose_the_component_of_the_highest_mean_score(
    classifiers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, copied = Cell(fusion="moe", objective="none"), np.ones((1, COUNT), np.int64)
    space, captions = captioned()
    vae, pairs = model(cell, PICTURES), paired()
    told = Scored(monkeypatch, "mnist_svhn", vae, lambda _: pairs, choose=COUNT)
    bench = digits.Bench(vae, "accuracy")
    judges = [
        (told, vae, digits.Judge(bench.models, digits.items(pairs, COUNT), copied, "accuracy"))
    ]
    vae = model(cell, VECTORS)
    splits = {"train": captions, "test": captions}
    told = Scored(monkeypatch, "cub", vae, lambda: (space, splits), choose=COUNT)
    of = cub.items(captions, captions.drawn(COUNT, SEED))
    judges.append((told, vae, cub.Judge(space, of, copied, "cosine")))
    for told, vae, judge in judges:
        means = []
        for component in (0, 1):
            made = decode(vae, judge.items, vae.modalities, seed=SEED, component=component)
            means.append(np.mean([judge.quality(m, x)[0] for m, x in made.items()]))
        assert means[0] != means[1]
        assert told.file["component"] == vae.modalities[int(np.argmax(means))]


@pytest.mark.parametrize(
    ("fusion", "names"),
    [("moe", ["image", "text"]), ("mopoe", ["text", "image", "image+text"]), ("poe", [0])],
)
def test_a_component_is_named_by_the_modalities_it_needs(
    fusion: str, names: list[str | int]
) -> None:
    vae, items = model(Cell(fusion=fusion, objective="none"), VECTORS), vectors(3)
    live = components(vae, items, vae.modalities)
    assert [name_of(vae, items, c) for c in live] == names
    assert named(vae, items) == dict(zip(names, live, strict=True))
    assert name_of(vae, items, None) is None


def test_both_studies_score_a_mixture_of_more_components_than_modalities(
    classifiers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(fusion="mopoe", objective="none")
    space, captions = captioned()
    monkeypatch.setattr(score, "best_component", lambda *_: 2)
    of_digits = Scored(monkeypatch, "mnist_svhn", model(cell, PICTURES), lambda _: paired())
    splits = {"train": captions, "test": captions}
    of_birds = Scored(monkeypatch, "cub", model(cell, VECTORS), lambda: (space, splits))
    assert of_digits.file["component"] == "mnist+svhn"
    assert of_birds.file["component"] == "image+text"


def test_a_pairs_draws_do_not_depend_on_which_others_are_scored() -> None:
    """Two components and one sample of each, so that both tables of draws are looked at."""
    vae, items = model(Cell(fusion="moe", objective="none"), VECTORS), vectors(20)
    whole = decode(vae, items, vae.modalities, seed=SEED, point="sample")
    for rows in (np.arange(5), np.array([3, 7, 19])):
        seen = {m: x[rows] for m, x in items.seen.items()}
        few = decode(vae, Items(rows, seen, {}), vae.modalities, seed=SEED, point="sample")
        for m, x in few.items():
            np.testing.assert_allclose(x, whole[m][rows], rtol=1e-4, atol=1e-5)
    other = decode(vae, items, vae.modalities, seed=SEED + 1, point="sample")
    assert np.abs(other["image"] - whole["image"]).max() > 0.1


# --- MNIST-SVHN ----------------------------------------------------------------------------------

PICTURES = {"mnist": (64,), "svhn": (16, 16, 3)}


@pytest.fixture
def classifiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two untrained classifiers of large weights, in files as the stage reads them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    for place, (modality, channels) in enumerate((("mnist", 1), ("svhn", 3))):
        torch.manual_seed(place)
        weights = {k: 3 * v for k, v in DigitClassifier(channels).state_dict().items()}
        path(modality).parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, path(modality))


def paired() -> Pairs:
    """Pairs whose two numbers differ, so that swapping them shows."""
    draws = np.random.default_rng(2)
    labels = draws.integers(0, 10, COUNT).astype(np.uint8)
    return Pairs(
        draws.integers(0, 256, (COUNT, 8, 8), np.uint8),
        labels,
        draws.integers(0, 256, (COUNT, 16, 16, 3), np.uint8),
        np.roll(labels, 5),
        np.stack([np.arange(COUNT), (np.arange(COUNT) + 5) % COUNT], 1),
    )


def percent(bench: digits.Bench, modality: str, x: np.ndarray, labels: np.ndarray) -> float:
    """The share of `labels` that the modality's own classifier says, by its logits."""
    shown = torch.from_numpy(digits.as_pictures(x)).float() / 255
    shown = shown[:, None] if modality == "mnist" else shown.permute(0, 3, 1, 2)
    with torch.inference_mode():
        said = bench.models[modality](shown).argmax(-1).numpy()
    return 100 * float((said == labels).mean())


@pytest.mark.parametrize("objective", ["lcd", "none"])
def test_cross_generation_goes_the_way_its_name_says(
    classifiers: None, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    vae = model(Cell(fusion="bce", objective=objective), PICTURES)
    pairs, bench = paired(), digits.Bench(vae, "accuracy")
    digit, street = (pairs.seen()[m] for m in ("mnist", "svhn"))
    from_street, from_digit = made(vae, {"svhn": street}), made(vae, {"mnist": digit})

    def classes(modality: str, x: np.ndarray) -> np.ndarray:
        return classify(bench.models[modality], digits.as_pictures(x))

    # The classes that the digits made of street numbers show are the truth, so S->M is perfect.
    truth = classes("mnist", from_street["mnist"]).astype(np.uint8)
    pairs = replace(pairs, digit_labels=truth)
    told = Scored(monkeypatch, "mnist_svhn", vae, lambda _: pairs)
    assert told.figure("svhn", "mnist") == 100.0
    to_street = percent(bench, "svhn", from_digit["svhn"], truth)
    assert told.figure("mnist", "svhn") == pytest.approx(to_street, abs=1e-4)
    assert to_street < 100
    assert percent(bench, "mnist", from_digit["mnist"], truth) < 100  # M is not its own S->M
    both = made(vae, {"mnist": digit, "svhn": street})
    expected = {m: percent(bench, m, both[m], truth) for m in PICTURES}
    assert told.both() == pytest.approx(expected, abs=1e-4)
    prior = sample(vae, vae.modalities, 50, SEED)
    said = [classes(m, prior[m]) for m in PICTURES]
    joint = told.file["joint"]["mnist-svhn"]["accuracy"]
    assert joint == pytest.approx(100 * np.mean(said[0] == said[1]))
    assert told.kept["bootstrap"]["joint/mnist-svhn"][0] == pytest.approx(joint, abs=1e-4)
    np.testing.assert_array_equal(told.kept["samples"]["prior/svhn"], prior["svhn"][:20])
    np.testing.assert_array_equal(told.kept["samples"]["mnist/svhn"], from_digit["svhn"][:20])
    if objective == "none":
        assert told.file["subsets_missing_as_prior"] is None
        return
    ways = (("svhn", "mnist"), ("mnist", "svhn"))
    as_prior = [told.figure(*way, "subsets_missing_as_prior") for way in ways]
    for (given, target), figure in zip(ways, as_prior, strict=True):
        generated = made(vae, {given: pairs.seen()[given]}, missing="prior")[target]
        assert figure == pytest.approx(percent(bench, target, generated, truth), abs=1e-4)
    assert as_prior != [told.figure(*way) for way in ways]


def columns_of(
    study: str, scores: dict[str, float], alone: dict[str, float]
) -> dict[str, float | None]:
    """A row's figures, of one seed."""
    of = STUDIES[study]
    paper = of.part("paper")
    (row,) = build(
        {"a": ("poe", "none")},
        {("a", 0): {name: np.array([value]) for name, value in scores.items()}},
        {0: {f"synergy/{m}": np.array([value]) for m, value in alone.items()}},
        {("a", 0): dict.fromkeys(COSTS, 1.0)},
        paper.columns(list(alone)),
        {},
        {"a": tuple(alone)},
    )
    return {key: figure.value for key, figure in row.figures.items() if "gain" not in key}


def test_the_columns_of_table_1_are_the_directions_they_name() -> None:
    scores = {
        "joint/mnist-svhn": 1.0, "svhn/mnist": 2.0, "mnist/svhn": 3.0,
        "synergy/mnist": 60.0, "synergy/svhn": 30.0,
    }  # fmt: skip
    assert columns_of("mnist_svhn", scores, {"mnist": 50.0, "svhn": 40.0}) == {
        "joint": 1.0, "cross_mnist": 2.0, "cross_svhn": 3.0,
        "synergy_mnist": 20.0, "synergy_svhn": -25.0,
    }  # fmt: skip


# --- CUB -----------------------------------------------------------------------------------------


def captioned() -> tuple[Space, Captioned]:
    """Twelve pictures of ten captions, and a projection fitted on other numbers."""
    draws = np.random.default_rng(4)
    words = [END, *"abcdefgh"]
    vectors = draws.normal(size=(9, 3)).astype(np.float32)
    language = Language(
        np.array(words),
        vectors,
        np.ones(9, np.bool_),
        np.array([0.0, *draws.uniform(0.2, 1.0, 8)]),
        np.zeros(3),
        vectors,
    )
    x = draws.normal(size=(50, 6))
    projection = cca.fit(x, x[:, :3] + draws.normal(size=(50, 3)), 2)
    space = Space(language, projection, draws.normal(size=6).astype(np.float32), 2.0)
    features = draws.normal(size=(12, 6)).astype(np.float32)
    ids = draws.integers(1, 9, (12, 10, 4)).astype(np.int32)
    return space, Captioned(features, ids, language, np.array(["-"] * 12))


def cosine(space: Space, features: np.ndarray, ids: np.ndarray) -> float:
    """Mean cosine of the projections, a pair at a time."""
    p, found = space.projection, []
    for picture, line in zip(features, ids, strict=True):
        said = sum(
            (space.language.weights[i] * space.language.vectors[i] for i in line if i),
            np.zeros(3),
        ) / max(1, int((line != 0).sum()))
        a = (picture.astype(np.float64) * 2.0 + space.mean - p.x_mean) @ p.x_map
        b = (said - p.y_mean) @ p.y_map
        found.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return float(np.mean(found))


@pytest.mark.parametrize("objective", ["lcd", "none"])
def test_pictures_made_of_captions_are_held_against_those_captions(
    monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    vae = model(Cell(fusion="bce", objective=objective), VECTORS)
    space, pairs = captioned()
    told = Scored(monkeypatch, "cub", vae, lambda: (space, {"train": pairs, "test": pairs}))
    seen = {m: x.astype(np.float32) for m, x in pairs.seen().items()}
    ids, nearest = pairs.captions(), space.language.nearest

    def cross(missing: str) -> list[float]:
        pictures = made(vae, {"text": seen["text"]}, missing=missing)["image"]
        captions = made(vae, {"image": seen["image"]}, missing=missing)["text"]
        return [
            cosine(space, pictures, ids),
            cosine(space, seen["image"], nearest(captions)),
        ]

    def figures(part: str) -> list[float]:
        return [told.figure("text", "image", part), told.figure("image", "text", part)]

    expected = cross("absent")
    assert figures("subsets") == pytest.approx(expected, abs=1e-3)
    assert abs(expected[0] - expected[1]) > 0.01
    both = made(vae, seen)
    assert told.both() == pytest.approx(
        {
            "image": cosine(space, both["image"], ids),
            "text": cosine(space, seen["image"], nearest(both["text"])),
        },
        abs=1e-3,
    )
    captions = made(vae, {"image": seen["image"][::10]})["text"]
    written = list(told.kept["samples"]["first/text/captions"])
    assert written == space.language.text(nearest(captions))
    if objective == "none":
        assert told.file["subsets_missing_as_prior"] is None
    else:
        assert figures("subsets_missing_as_prior") == pytest.approx(cross("prior"), abs=1e-3)
        assert cross("prior") != pytest.approx(expected, abs=1e-3)


def test_the_drawn_pairs_are_the_ones_scored_and_chosen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = model(Cell(fusion="moe", objective="none"), VECTORS)
    space, pairs = captioned()
    given: list[Items] = []
    real = score.quality
    monkeypatch.setattr(
        score, "quality", lambda g, judge, *of: given.append(judge.items) or real(g, judge, *of)
    )
    splits = {"train": pairs, "test": pairs}
    told = Scored(monkeypatch, "cub", vae, lambda: (space, splits), pairs=30, choose=20)
    assert len(given) == 2
    for m, x in pairs.seen(pairs.drawn(20, SEED)).items():
        np.testing.assert_array_equal(given[0].seen[m], x)
    np.testing.assert_array_equal(given[0].numbers, pairs.drawn(20, SEED))
    rows = pairs.drawn(30, SEED)
    seen = {m: x.astype(np.float32) for m, x in pairs.seen(rows).items()}
    pictures = made(vae, {"text": seen["text"]}, component=1)["image"]
    expected = cosine(space, pictures, pairs.captions(rows))
    assert told.figure("text", "image") == pytest.approx(expected, abs=1e-3)
    # Of the first pictures, whichever pairs are scored.
    assert len(told.kept["samples"]["first/text/captions"]) == 12


def test_fewer_pairs_than_there_are_are_drawn_from_all_classes_alike() -> None:
    _, pairs = captioned()
    all_of_them = pairs.drawn(500, SEED)
    assert all_of_them.tolist() == list(range(120))
    some, fewer = pairs.drawn(60, SEED), pairs.drawn(30, SEED)
    assert set(fewer) < set(some)
    assert sorted(some) == list(some)
    assert len(set(some // 10)) == 12  # of every picture, where the first 60 are of six
    assert list(some) != list(pairs.drawn(60, SEED + 1))
    np.testing.assert_array_equal(pairs.captions(some), pairs.captions()[some])
    for m, x in pairs.seen(some).items():
        np.testing.assert_array_equal(x, pairs.seen()[m][some])


def test_the_columns_of_table_2_are_the_directions_they_name() -> None:
    scores = {"text/image": 0.2, "image/text": 0.3, "synergy/image": 0.6, "synergy/text": 0.3}
    assert columns_of("cub", scores, {"image": 0.5, "text": -0.1}) == {
        "cross_image": 0.2, "cross_text": 0.3,
        "synergy_image": pytest.approx(20.0), "synergy_text": None,
    }  # fmt: skip


# --- which split ---------------------------------------------------------------------------------


def test_the_stages_score_the_test_pairs(
    classifiers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of splits of other sizes and contents: what is written is of `test`."""
    cell = Cell(fusion="poe", objective="none")
    whole = paired()
    few, rest = (replace(whole, pairs=whole.pairs[rows]) for rows in (slice(70), slice(70, None)))
    vae = model(cell, PICTURES)
    told = Scored(monkeypatch, "mnist_svhn", vae, {"train": few, "test": rest}.__getitem__)
    alone = Scored(monkeypatch, "mnist_svhn", vae, lambda _: rest)
    assert told.file == alone.file
    assert told.file["scenes"] == 50
    assert told.file != Scored(monkeypatch, "mnist_svhn", vae, lambda _: few).file
    space, pairs = captioned()
    few, rest = (
        replace(pairs, features=pairs.features[rows], ids=pairs.ids[rows], paths=pairs.paths[rows])
        for rows in (slice(5), slice(5, None))
    )
    vae = model(cell, VECTORS)
    told = Scored(monkeypatch, "cub", vae, lambda: (space, {"train": few, "test": rest}))
    alone = Scored(monkeypatch, "cub", vae, lambda: (space, {"train": rest, "test": rest}))
    assert told.file == alone.file
    assert told.file["scenes"] == 70


def test_a_study_takes_the_gpu_that_is_there_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DEVICE", raising=False)
    for there, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert device() == expected
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("DEVICE", "cpu")
    assert device() == "cpu"

"""The studies' scores against sums done by hand: which way, by which judge, which component."""

from __future__ import annotations

from collections.abc import Mapping
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
from pipeline.study import STUDIES, device
from studies.cub import cca
from studies.cub import score as cub
from studies.cub.captions import END, Language
from studies.cub.loader import Pairs as Captioned
from studies.cub.loader import Space
from studies.cub.params import ScoreParams as CubScoreParams
from studies.mnist_svhn import score as digits
from studies.mnist_svhn.classifier import DigitClassifier
from studies.mnist_svhn.loader import Pairs
from studies.mnist_svhn.params import ScoreParams
from studies.mnist_svhn.train_classifier import path
from studies.page import _figures

COUNT, LATENT, SEED = 120, 4, 3
SETTINGS = {"pairs": COUNT, "point": "mean", "samples": 50, "choose": 60, "seed": SEED}


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


def test_both_studies_choose_the_component_of_the_highest_mean_score(judge: digits.Judge) -> None:
    cell, settings = Cell(fusion="moe", objective="none"), SETTINGS | {"choose": COUNT}
    space, captions = captioned()
    vae, pairs = model(cell, PICTURES), paired()
    scored, _ = digits.score(vae, judge, ScoreParams(**settings), pairs, pairs)
    of = digits.items(pairs, COUNT)
    by_component = [decode(vae, of, vae.modalities, seed=SEED, component=c) for c in (0, 1)]
    means = [np.mean([judge.accuracy(m, x, of) for m in x]) for x in by_component]
    assert scored["component"] == vae.modalities[int(np.argmax(means))]
    assert means[0] != means[1]
    vae = model(cell, VECTORS)
    scored, _ = cub.score(vae, space, CubScoreParams(**settings), captions, captions)
    of = cub.items(captions, np.arange(COUNT))
    by_component = [decode(vae, of, vae.modalities, seed=SEED, component=c) for c in (0, 1)]
    means = [np.mean(list(cub.against_truth(space, x, of).values())) for x in by_component]
    assert scored["component"] == vae.modalities[int(np.argmax(means))]
    assert means[0] != means[1]


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
    judge: digits.Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(fusion="mopoe", objective="none")
    space, captions = captioned()
    for study in (digits, cub):
        monkeypatch.setattr(study, "best_component", lambda *_: 2)
    of_digits, _ = digits.score(
        model(cell, PICTURES), judge, ScoreParams(**SETTINGS), paired(), paired()
    )
    of_birds, _ = cub.score(
        model(cell, VECTORS), space, CubScoreParams(**SETTINGS), captions, captions
    )
    assert (of_digits["component"], of_birds["component"]) == ("mnist+svhn", "image+text")


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
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> digits.Judge:
    """Two untrained classifiers of large weights, from files as the stage reads them."""
    monkeypatch.chdir(tmp_path)
    for place, (modality, channels) in enumerate((("mnist", 1), ("svhn", 3))):
        torch.manual_seed(place)
        weights = {k: 3 * v for k, v in DigitClassifier(channels).state_dict().items()}
        path(modality).parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, path(modality))
    return digits.Judge("cpu")


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


def percent(judge: digits.Judge, modality: str, x: np.ndarray, labels: np.ndarray) -> float:
    """The share of `labels` that the modality's own classifier says, by its logits."""
    shown = torch.from_numpy(digits.as_pictures(x)).float() / 255
    shown = shown[:, None] if modality == "mnist" else shown.permute(0, 3, 1, 2)
    with torch.inference_mode():
        said = judge.models[modality](shown).argmax(-1).numpy()
    return round(100 * float((said == labels).mean()), 3)


@pytest.mark.parametrize("objective", ["lcd", "none"])
def test_cross_generation_goes_the_way_its_name_says(judge: digits.Judge, objective: str) -> None:
    vae = model(Cell(fusion="bce", objective=objective), PICTURES)
    pairs = paired()
    digit, street = (pairs.seen()[m] for m in ("mnist", "svhn"))
    from_street, from_digit = made(vae, {"svhn": street}), made(vae, {"mnist": digit})
    # The classes that the digits made of street numbers show are the truth, so S->M is perfect.
    truth = judge.classes("mnist", from_street["mnist"]).astype(np.uint8)
    pairs = replace(pairs, digit_labels=truth)
    scores, _ = digits.score(vae, judge, ScoreParams(**SETTINGS), pairs, pairs)
    cross = {
        "svhn->mnist": 100.0,
        "mnist->svhn": percent(judge, "svhn", from_digit["svhn"], truth),
    }
    assert scores["cross"] == cross
    assert cross["mnist->svhn"] < 100
    assert percent(judge, "mnist", from_digit["mnist"], truth) < 100  # M is not its own S->M
    both = made(vae, {"mnist": digit, "svhn": street})
    assert scores["all"] == {m: percent(judge, m, both[m], truth) for m in PICTURES}
    prior = sample(vae, vae.modalities, 50, SEED)
    said = [judge.classes(m, prior[m]) for m in PICTURES]
    assert scores["joint"] == pytest.approx(100 * np.mean(said[0] == said[1]))
    if objective == "none":
        assert scores["cross_missing_as_prior"] is None
        return
    as_prior = {
        f"{given}->{target}": percent(
            judge, target, made(vae, {given: pairs.seen()[given]}, missing="prior")[target], truth
        )
        for given, target in (("svhn", "mnist"), ("mnist", "svhn"))
    }
    assert scores["cross_missing_as_prior"] == as_prior
    assert as_prior != cross


def columns_of(
    study: str, score: dict[str, Any], alone: dict[str, float]
) -> dict[str, float | None]:
    """A row's figures, of one seed."""
    of = STUDIES[study]
    paper = of.part("paper")
    (row,) = build(
        {"a": ("poe", "none")},
        {("a", 0): _figures(score)},
        {0: {f"synergy/{m}": np.array([value]) for m, value in alone.items()}},
        {("a", 0): dict.fromkeys(COSTS, 1.0)},
        paper.columns(list(alone)),
        {},
    )
    return {key: figure.value for key, figure in row.figures.items() if "gain" not in key}


def test_the_columns_of_table_1_are_the_directions_they_name() -> None:
    score = {
        "joint": 1.0,
        "cross": {"svhn->mnist": 2.0, "mnist->svhn": 3.0},
        "all": {"mnist": 60.0, "svhn": 30.0},
    }
    assert columns_of("mnist_svhn", score, {"mnist": 50.0, "svhn": 40.0}) == {
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
def test_pictures_made_of_captions_are_held_against_those_captions(objective: str) -> None:
    vae = model(Cell(fusion="bce", objective=objective), VECTORS)
    space, pairs = captioned()
    scores, written = cub.score(vae, space, CubScoreParams(**SETTINGS), pairs, pairs)
    seen = {m: x.astype(np.float32) for m, x in pairs.seen().items()}
    ids, nearest = pairs.captions(), space.language.nearest

    def cross(missing: str) -> dict[str, float]:
        pictures = made(vae, {"text": seen["text"]}, missing=missing)["image"]
        captions = made(vae, {"image": seen["image"]}, missing=missing)["text"]
        return {
            "text->image": cosine(space, pictures, ids),
            "image->text": cosine(space, seen["image"], nearest(captions)),
        }

    expected = cross("absent")
    assert scores["cross"] == pytest.approx(expected, abs=1e-3)
    assert abs(expected["text->image"] - expected["image->text"]) > 0.01
    both = made(vae, seen)
    assert scores["all"] == pytest.approx(
        {
            "image": cosine(space, both["image"], ids),
            "text": cosine(space, seen["image"], nearest(both["text"])),
        },
        abs=1e-3,
    )
    captions = made(vae, {"image": seen["image"][::10]})["text"]
    np.testing.assert_array_equal(written, nearest(captions))
    if objective == "none":
        assert scores["cross_missing_as_prior"] is None
    else:
        assert scores["cross_missing_as_prior"] == pytest.approx(cross("prior"), abs=1e-3)
        assert cross("prior") != pytest.approx(expected, abs=1e-3)


def test_the_drawn_pairs_are_the_ones_scored_and_chosen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = model(Cell(fusion="poe", objective="none"), VECTORS)
    space, pairs = captioned()
    params = CubScoreParams(**SETTINGS | {"pairs": 30, "choose": 20})
    given: list[Items] = []
    monkeypatch.setattr(cub, "components", lambda _, items, __: given.append(items) or [0])
    scores, written = cub.score(vae, space, params, pairs, pairs)
    for m, x in pairs.seen(pairs.drawn(20, SEED)).items():
        np.testing.assert_array_equal(given[0].seen[m], x)
    np.testing.assert_array_equal(given[0].numbers, pairs.drawn(20, SEED))
    rows = pairs.drawn(30, SEED)
    seen = {m: x.astype(np.float32) for m, x in pairs.seen(rows).items()}
    pictures = made(vae, {"text": seen["text"]})["image"]
    expected = cosine(space, pictures, pairs.captions(rows))
    assert scores["cross"]["text->image"] == pytest.approx(expected, abs=1e-3)
    assert len(written) == 12  # of the first pictures, whichever pairs are scored


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
    score = {"cross": {"text->image": 0.2, "image->text": 0.3}, "all": {"image": 0.6, "text": 0.3}}
    assert columns_of("cub", score, {"image": 0.5, "text": -0.1}) == {
        "cross_image": 0.2, "cross_text": 0.3,
        "synergy_image": pytest.approx(20.0), "synergy_text": None,
    }  # fmt: skip


# --- which split ---------------------------------------------------------------------------------


def test_the_stages_score_the_test_pairs(
    judge: digits.Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole stages on splits of other sizes and contents: what they write is of `test`."""
    monkeypatch.delenv("DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    written: dict[str, object] = {}
    asked: list[object] = []
    monkeypatch.setattr(
        "pipeline.running.stage.write_json", lambda _, content: written.update(content)
    )
    monkeypatch.setattr("pipeline.running.stage.write_bytes", lambda *_: None)
    cell = Cell(fusion="poe", objective="none")

    whole = paired()
    splits = {"train": replace(whole, pairs=whole.pairs[:70]),
              "test": replace(whole, pairs=whole.pairs[70:])}  # fmt: skip
    vae = model(cell, PICTURES)
    monkeypatch.setattr(MultimodalVAE, "load", lambda _, where: asked.append(where) or vae)
    monkeypatch.setattr(digits, "load", splits.__getitem__)
    monkeypatch.setattr(digits, "Judge", lambda _: judge)
    monkeypatch.setattr(type(digits.MNIST_SVHN), "section", lambda *_: ScoreParams(**SETTINGS))
    digits.main(Run("poe-none", 0))
    expected, _ = digits.score(vae, judge, ScoreParams(**SETTINGS), splits["train"], splits["test"])
    assert written == {"run": "poe-none-0", "pairs": 50, **expected}

    space, pairs = captioned()
    few, rest = (
        replace(pairs, features=pairs.features[rows], ids=pairs.ids[rows], paths=pairs.paths[rows])
        for rows in (slice(5), slice(5, None))
    )
    vae, written = model(cell, VECTORS), {}
    settings = CubScoreParams(**SETTINGS)
    monkeypatch.setattr(type(cub.CUB), "section", lambda *_: settings)
    monkeypatch.setattr(cub, "load", lambda: (space, {"train": few, "test": rest}))
    cub.main(Run("poe-none", 0))
    expected, _ = cub.score(vae, space, settings, few, rest)
    assert written == {"run": "poe-none-0", "pairs": 70, **expected}
    assert asked == ["cpu", "cpu"]


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

"""Stages `score` and `score_unimodal`: one trained model through the classifiers' eyes."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import io
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from base.progress import Progress
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.scoring.decoding import (
    Decoded,
    Items,
    best_component,
    components,
    decode,
    name_of,
    sample,
)
from pipeline.study import asked_run, device
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.classifier import DigitClassifier, classify
from studies.mnist_svhn.loader import Pairs, load
from studies.mnist_svhn.params import ScoreParams
from studies.mnist_svhn.train_classifier import path

__all__ = ["as_pictures", "main"]

PICTURES = 20  # kept for the page
CROSS = {"svhn": "mnist", "mnist": "svhn"}  # given: generated


def as_pictures(decoded: NDArray[Any]) -> NDArray[np.uint8]:
    """What a model decoded, as the classifier was trained: uint8 [N, h, w] or [N, H, W, 3]."""
    if decoded.dtype == np.uint8:
        return decoded
    side = round(decoded.shape[1] ** 0.5)
    return np.rint(decoded.reshape(-1, side, side).clip(0, 1) * 255).astype(np.uint8)


def items(pairs: Pairs, most: int) -> Items:
    """The first pairs; both of one show its class."""
    labels = pairs.labels(most)
    return Items(np.arange(len(labels)), pairs.seen(most), dict.fromkeys(CROSS, labels))


class Judge:
    """The frozen classifiers."""

    def __init__(self, device: str) -> None:
        self.models: dict[str, DigitClassifier] = {}
        for modality, channels in (("mnist", 1), ("svhn", 3)):
            model = DigitClassifier(channels)
            model.load_state_dict(MNIST_SVHN.read(path(modality), load_file))
            self.models[modality] = model.to(device).eval()

    def classes(self, modality: str, decoded: NDArray[Any]) -> NDArray[np.int64]:
        """The class that each decoded picture shows [N]."""
        return classify(self.models[modality], as_pictures(decoded))

    def accuracy(self, modality: str, decoded: Decoded, of: Items) -> float:
        """How many decoded pictures show their pair's class, percent."""
        right = self.classes(modality, decoded[modality]) == of.truths[modality]
        return round(100 * float(right.mean()), 3)


def score(
    vae: MultimodalVAE, judge: Judge, params: ScoreParams, train: Pairs, test: Pairs
) -> tuple[dict[str, object], dict[str, Decoded]]:
    """The scores of a model of both modalities, and what it decoded, by what it was given."""
    of, few = items(test, params.pairs), items(train, params.choose)
    draw = partial(decode, vae, seed=params.seed, point=params.point)

    def cross(missing: Literal["absent", "prior"]) -> tuple[dict[str, float], dict[str, Decoded]]:
        made = {given: draw(of, [given], missing=missing) for given in CROSS}
        return {
            f"{given}->{target}": judge.accuracy(target, made[given], of)
            for given, target in CROSS.items()
        }, made

    def quality(component: int) -> float:
        made = draw(few, vae.modalities, component=component)
        return float(np.mean([judge.accuracy(m, made, few) for m in made]))

    bar = Progress(4, "scores, parts")
    component = best_component(components(vae, few, vae.modalities), quality)
    bar.reach(1)
    both = draw(of, vae.modalities, component=component)
    accuracy = {m: judge.accuracy(m, both, of) for m in vae.modalities}
    bar.reach(2)
    prior = sample(vae, vae.modalities, params.samples, params.seed)
    agree = judge.classes("mnist", prior["mnist"]) == judge.classes("svhn", prior["svhn"])
    bar.reach(3)
    scores, made = cross("absent")
    as_prior = cross("prior")[0] if vae.objective_traits.missing_as_prior else None
    bar.reach(4)
    bar.close()
    return {
        "joint": round(100 * float(agree.mean()), 3),
        "cross": scores,
        "cross_missing_as_prior": as_prior,
        "all": accuracy,
        "component": name_of(vae, of, component),
    }, {**made, "both": both, "prior": prior}


def _kept(decoded: Mapping[str, Decoded]) -> bytes:
    """The first pictures of everything decoded, as an npz file."""
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        **{
            f"{given}/{m}": as_pictures(x[:PICTURES])
            for given, made in decoded.items()
            for m, x in made.items()
        },
    )
    return packed.getvalue()


def main(run: Run) -> None:
    """Score the model of `run` on the test pairs."""
    torch.set_num_threads(1)
    params = MNIST_SVHN.section("score", ScoreParams)
    where = device()
    model = run.model(MNIST_SVHN.data)
    vae = MNIST_SVHN.read(model, lambda file: MultimodalVAE.load(file, where))
    judge, test = Judge(where), load("test")
    scores: dict[str, object]
    if len(vae.modalities) == 1:
        (name,) = vae.modalities
        of = items(test, params.pairs)
        made = decode(vae, of, [name], seed=params.seed, point=params.point)
        scores = {"all": {name: judge.accuracy(name, made, of)}}
        decoded = {"both": made}
    else:
        scores, decoded = score(vae, judge, params, load("train"), test)
    stage.write_bytes(run.samples(MNIST_SVHN.data), _kept(decoded))
    stage.write_json(
        run.scores(MNIST_SVHN.results),
        {"run": str(run), "pairs": len(test.labels(params.pairs)), **scores},
    )


if __name__ == "__main__":
    _, asked = asked_run(__doc__, MNIST_SVHN)
    alone = "_unimodal" if MNIST_SVHN.alone(asked) else ""
    with MNIST_SVHN.running(
        f"score{alone}@{asked}", lambda: "the model is kept, this score begins anew"
    ):
        main(asked)

"""Stages `score` and `score_unimodal`: one trained model through the classifiers' eyes."""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import io
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from base.progress import Progress
from models.vae import MultimodalVAE
from pipeline.run import Run
from pipeline.running import stage
from pipeline.study import device
from studies.mnist_svhn import MNIST_SVHN
from studies.mnist_svhn.classifier import DigitClassifier, classify
from studies.mnist_svhn.pairs import Pairs, load
from studies.mnist_svhn.params import ScoreParams
from studies.mnist_svhn.train_classifier import path
from studies.scoring import Decoded, best_component, decode, name_of, sample

__all__ = ["as_pictures", "main"]

PICTURES = 20  # kept for the page
CROSS = {"svhn": "mnist", "mnist": "svhn"}  # given: generated


def as_pictures(modality: str, decoded: NDArray[np.floating]) -> NDArray[np.uint8]:
    """What a model decoded, as the classifier was trained: uint8 [N, h, w] or [N, H, W, 3]."""
    if modality == "mnist":
        side = round(decoded.shape[1] ** 0.5)
        decoded = decoded.reshape(-1, side, side)
    else:
        decoded = decoded.transpose(0, 2, 3, 1)
    return np.rint(decoded.clip(0, 1) * 255).astype(np.uint8)


class Judge:
    """The frozen classifiers."""

    def __init__(self, device: str) -> None:
        self.models: dict[str, DigitClassifier] = {}
        for modality, channels in (("mnist", 1), ("svhn", 3)):
            model = DigitClassifier(channels)
            model.load_state_dict(MNIST_SVHN.read(path(modality), load_file))
            self.models[modality] = model.to(device).eval()

    def classes(self, modality: str, decoded: NDArray[np.floating]) -> NDArray[np.int64]:
        """The class that each decoded picture shows [N]."""
        return classify(self.models[modality], as_pictures(modality, decoded))

    def accuracy(self, modality: str, decoded: Decoded, labels: NDArray[np.uint8]) -> float:
        """How many decoded pictures show their pair's class, percent."""
        return round(100 * float((self.classes(modality, decoded[modality]) == labels).mean()), 3)


def score(
    vae: MultimodalVAE, judge: Judge, params: ScoreParams, train: Pairs, test: Pairs
) -> tuple[dict[str, object], dict[str, Decoded]]:
    """The scores of a model of both modalities, and what it decoded, by what it was given."""
    seen, labels = test.seen(params.pairs), test.labels(params.pairs)
    draw = partial(decode, vae, seed=params.seed, point=params.point)

    def cross(missing: str) -> tuple[dict[str, float], dict[str, Decoded]]:
        made = {given: draw({given: seen[given]}, missing=missing) for given in CROSS}
        return {
            f"{given}->{target}": judge.accuracy(target, made[given], labels)
            for given, target in CROSS.items()
        }, made

    bar = Progress(4, "scores, parts")
    few, few_labels = train.seen(params.choose), train.labels(params.choose)
    component = best_component(
        vae,
        few,
        lambda made: [judge.accuracy(m, made, few_labels) for m in made],
        seed=params.seed,
        point=params.point,
    )
    bar.reach(1)
    both = draw(seen, component=component)
    accuracy = {m: judge.accuracy(m, both, labels) for m in vae.modalities}
    bar.reach(2)
    prior = sample(vae, params.samples, params.seed)
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
        "component": name_of(vae, seen, component),
    }, {**made, "both": both, "prior": prior}


def _kept(decoded: Mapping[str, Decoded]) -> bytes:
    """The first pictures of everything decoded, as an npz file."""
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        **{
            f"{given}/{m}": as_pictures(m, x[:PICTURES])
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
        seen = {name: test.seen(params.pairs)[name]}
        made = decode(vae, seen, seed=params.seed, point=params.point)
        scores = {"all": {name: judge.accuracy(name, made, test.labels(params.pairs))}}
        decoded = {"both": made}
    else:
        scores, decoded = score(vae, judge, params, load("train"), test)
    stage.write_bytes(run.samples(MNIST_SVHN.data), _kept(decoded))
    stage.write_json(
        run.scores(MNIST_SVHN.results),
        {"run": str(run), "pairs": len(test.seen(params.pairs)["mnist"]), **scores},
    )


if __name__ == "__main__":
    asked = MNIST_SVHN.asked_run(__doc__)
    alone = "_unimodal" if MNIST_SVHN.alone(asked) else ""
    with MNIST_SVHN.running(
        f"score{alone}@{asked}", lambda: "the model is kept, this score begins anew"
    ):
        main(asked)

"""Stages `score` and `score_unimodal`: one trained model through the frozen CCA's eyes.

What is generated for one modality is compared with the truth of the other, which it came from or
belongs to.
"""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

from functools import partial
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

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
from studies.cub import CUB
from studies.cub.loader import Pairs, Space, load, store
from studies.cub.params import ScoreParams

__all__ = ["main"]

CAPTIONS = 12  # pictures whose generated captions are kept for the page


def against_truth(space: Space, made: Decoded, of: Items) -> dict[str, float]:
    """Each generated modality against the other's truth: mean cosine of the CCA."""
    scores = {}
    if "image" in made:
        scores["image"] = space.score(made["image"], of.truths["image"])
    if "text" in made:
        scores["text"] = space.score(of.truths["text"], space.language.nearest(made["text"]))
    return {name: round(value, 5) for name, value in scores.items()}


def items(pairs: Pairs, rows: NDArray[np.int64]) -> Items:
    """These pairs. A picture's truth are the words, the words' truth the features as models see
    them."""
    seen = pairs.seen(rows)
    truths = {"image": pairs.captions(rows), "text": seen["image"].astype(np.float32)}
    return Items(rows, seen, truths)


def score(
    vae: MultimodalVAE, space: Space, params: ScoreParams, train: Pairs, test: Pairs
) -> tuple[dict[str, object], NDArray[np.int32]]:
    """The scores of a model of both modalities, and the words it wrote for the test pictures."""
    of = items(test, test.drawn(params.pairs, params.seed))
    few = items(train, train.drawn(params.choose, params.seed))
    draw = partial(decode, vae, seed=params.seed, point=params.point)

    def cross(missing: Literal["absent", "prior"]) -> dict[str, float]:
        pictures = draw(of, ["text"], missing=missing)
        captions = draw(of, ["image"], missing=missing)
        return {
            "text->image": against_truth(space, pictures, of)["image"],
            "image->text": against_truth(space, captions, of)["text"],
        }

    def quality(component: int) -> float:
        made = draw(few, vae.modalities, component=component)
        return float(np.mean(list(against_truth(space, made, few).values())))

    bar = Progress(4, "scores, parts")
    component = best_component(components(vae, few, vae.modalities), quality)
    bar.reach(1)
    prior = sample(vae, vae.modalities, params.samples, params.seed)
    joint = round(space.score(prior["image"], space.language.nearest(prior["text"])), 5)
    bar.reach(2)
    scores = cross("absent")
    as_prior = cross("prior") if vae.objective_traits.missing_as_prior else None
    bar.reach(3)
    both = against_truth(space, draw(of, vae.modalities, component=component), of)
    # Of the first test pictures, which the page shows, whichever pairs are scored.
    shown = np.arange(0, test.ids.shape[0] * test.ids.shape[1], test.ids.shape[1])[:CAPTIONS]
    written = draw(items(test, shown), ["image"])["text"]
    bar.reach(4)
    bar.close()
    return {
        "joint": joint,
        "cross": scores,
        "cross_missing_as_prior": as_prior,
        "all": both,
        "component": name_of(vae, of, component),
    }, space.language.nearest(written)


def main(run: Run) -> None:
    """Score the model of `run` on the test pairs."""
    torch.set_num_threads(1)
    params = CUB.section("score", ScoreParams)
    where = device()
    model = run.model(CUB.data)
    vae = CUB.read(model, lambda file: MultimodalVAE.load(file, where))
    space, splits = load()
    test = splits["test"]
    rows = test.drawn(params.pairs, params.seed)
    scores: dict[str, object]
    written = np.zeros((0, test.ids.shape[-1]), np.int32)
    if len(vae.modalities) == 1:
        (name,) = vae.modalities
        of = items(test, rows)
        made = decode(vae, of, [name], seed=params.seed, point=params.point)
        scores = {"all": against_truth(space, made, of)}
    else:
        scores, written = score(vae, space, params, splits["train"], test)
    store(run.samples(CUB.data), captions=np.array(space.language.text(written)))
    stage.write_json(
        run.scores(CUB.results),
        {"run": str(run), "pairs": len(rows), **scores},
    )


if __name__ == "__main__":
    _, asked = asked_run(__doc__, CUB)
    alone = "_unimodal" if CUB.alone(asked) else ""
    with CUB.running(f"score{alone}@{asked}", lambda: "the model is kept, this score begins anew"):
        main(asked)

"""Stage `text`: words as vectors, captions as numbers, and the frozen CCA that scores them.

Everything is learned from the training captions and pictures alone.
"""

from __future__ import annotations

if __name__ == "__main__":
    from base.process import start

    start()

import numpy as np
from gensim.models import FastText
from gensim.models.callbacks import CallbackAny2Vec

from base.progress import Progress
from pipeline.running import stage
from studies.cub import CUB, cca
from studies.cub.captions import learn, tokens
from studies.cub.loader import FEATURES, LANGUAGE, PROJECTION, store
from studies.cub.params import CCAParams, TextParams

__all__ = ["main"]


class Passes(CallbackAny2Vec):
    """Shows how many passes FastText has made over the captions."""

    def __init__(self, total: int) -> None:
        self.bar, self.done = Progress(total, "FastText, passes"), 0

    def on_epoch_end(self, model: FastText) -> None:
        """One pass is done."""
        self.done += 1
        self.bar.reach(self.done)

    def on_train_end(self, model: FastText) -> None:
        """All are."""
        self.bar.close()


def main() -> None:
    """Learn, project, and say how well the truth scores."""
    params = CUB.section("text", TextParams)
    features, test, captions = CUB.read_arrays(FEATURES, ("features", "test", "captions")).values()
    count, each = captions.shape
    sentences = [tokens(sentence) for sentence in captions.reshape(-1)]
    of_test = np.repeat(test, each)
    train = [s for s, held_out in zip(sentences, of_test, strict=True) if not held_out]
    language = learn(train, sentences, params, [Passes(params.epochs)])
    ids = language.ids(sentences, params.words)
    pictures, texts = np.repeat(features, each, 0), language.embed(ids)
    sizes = CUB.section("cca", CCAParams)
    projection = cca.fit(pictures[~of_test], texts[~of_test], sizes.size, sizes.ridge)
    store(LANGUAGE, **vars(language), ids=ids.reshape(count, each, -1))
    store(PROJECTION, **vars(projection))
    truth = {
        split: round(projection.score(pictures[rows], texts[rows]), 4)
        for split, rows in (("train", ~of_test), ("test", of_test))
    }
    stage.write_json(
        CUB.results / "truth.json",
        {
            **truth,
            "words": int(language.known.sum()),
            "first_correlation": round(float(projection.correlations[0]), 4),
        },
    )
    print(f"{int(language.known.sum())} words; pictures and their own captions score {truth}")


if __name__ == "__main__":
    with CUB.running("text", lambda: "the features are kept, this stage begins anew"):
        main()

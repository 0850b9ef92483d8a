"""Captions as numbers: FastText vectors of words, and SIF embeddings of sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from studies.cub.params import TextParams

__all__ = ["END", "Language", "learn", "sif_weights", "tokens"]

END = "</s>"  # ends a caption and fills what follows
Sentences = Sequence[Sequence[str]]


def tokens(sentence: str) -> list[str]:
    """Words in lower case; everything but letters and inner apostrophes separates."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", sentence.lower())


def sif_weights(counts: Counter[str], words: Sequence[str], a: float) -> NDArray[np.float64]:
    """a / (a + p) with p a word's share of all (Arora et al. 2017); the end mark weighs 0."""
    total = sum(count for word, count in counts.items() if word != END)
    weights = np.array([a / (a + counts[word] / total) for word in words])
    weights[[word == END for word in words]] = 0.0
    return weights


@dataclass(frozen=True)
class Language:
    """What turns captions into numbers and back.

    Attributes:
        words: every word of any caption, [W]; the end mark first.
        vectors: float32 [W, D] FastText vectors, centred, each of length sqrt(D).
        known: bool [W]: in the vocabulary of the training captions, so that it may be generated.
        weights: float64 [W] SIF weights.
        direction: float64 [D], the first principal direction of the training sentences, removed.
        judged: float32 [W, D], the vectors that sentences are embedded with; models see the others.
    """

    words: NDArray[np.str_]
    vectors: NDArray[np.float32]
    known: NDArray[np.bool_]
    weights: NDArray[np.float64]
    direction: NDArray[np.float64]
    judged: NDArray[np.float32]

    def ids(self, sentences: Sentences, length: int) -> NDArray[np.int32]:
        """Rows of words [N, length]; longer sentences are cut, shorter ones end with END."""
        row = {word: place for place, word in enumerate(self.words.tolist())}
        ids = np.full((len(sentences), length), row[END], np.int32)
        for line, sentence in zip(ids, sentences, strict=True):
            kept = [row[word] for word in sentence[:length]]
            line[: len(kept)] = kept
        return ids

    def embed(self, ids: NDArray[np.integer]) -> NDArray[np.float64]:
        """SIF embeddings [N, D] of word rows [N, T], without the common direction."""
        plain = _weighted(ids, self.judged, self.weights)
        return plain - np.outer(plain @ self.direction, self.direction)

    def nearest(self, vectors: NDArray[np.floating]) -> NDArray[np.int32]:
        """Rows of the known words nearest to generated vectors [N, T, D]: [N, T].

        A caption ends with its first END; what follows is END too.
        """
        known = np.flatnonzero(self.known)
        book = self.vectors[known]
        half = 0.5 * (book**2).sum(1)
        ids = np.empty(vectors.shape[:2], np.int32)
        for start in range(0, len(vectors), 256):
            near = vectors[start : start + 256] @ book.T - half
            ids[start : start + 256] = known[near.argmax(-1)]
        ended = np.logical_or.accumulate(ids == 0, axis=1)
        return np.where(ended, 0, ids).astype(np.int32)

    def text(self, ids: NDArray[np.integer]) -> list[str]:
        """Sentences of word rows [N, T], without end marks."""
        return [" ".join(self.words[i] for i in line if i) for line in ids]


def _weighted(
    ids: NDArray[np.integer], vectors: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean over a caption's words of weight x vector: [N, D]; 0 for a caption without words."""
    lengths = np.maximum((ids != 0).sum(1), 1)
    total = np.zeros((len(ids), vectors.shape[1]))
    for column in ids.T:
        total += weights[column, None] * vectors[column]
    return total / lengths[:, None]


def learn(
    train: Sentences,
    every: Sentences,
    params: TextParams,
    callbacks: Sequence[object] = (),
) -> Language:
    """FastText vectors and SIF statistics of the training captions, and of them alone.

    A word that only other captions have gets the vector of its n-grams, SIF weight 1, and is never
    generated. One worker, so that a seed decides every bit.

    Args:
        train: tokens of the training captions.
        every: tokens of all captions.
        callbacks: of gensim, which tell how far FastText is.
    """
    from gensim.models import FastText  # two seconds that trainings and scores do without

    fast = FastText(
        [[*sentence, END] for sentence in train],
        vector_size=params.size,
        window=params.window,
        min_count=params.min_count,
        epochs=params.epochs,
        bucket=params.buckets,
        seed=params.seed,
        workers=1,
        callbacks=callbacks,
    )
    counts = Counter(word for sentence in train for word in sentence)
    words = [END, *sorted({word for sentence in every for word in sentence})]
    known = np.array([word in fast.wv.key_to_index for word in words])
    raw = np.stack([fast.wv[word] for word in words])
    vectors = raw - raw[known].mean(0)  # FastText's vectors share a direction that says nothing
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * params.size**0.5
    field = params.recipe == "field"
    plain = Language(
        np.array(words),
        vectors.astype(np.float32),
        known,
        sif_weights(counts, words, params.sif),
        np.zeros(params.size),
        (raw if field else vectors).astype(np.float32),
    )
    sentences = plain.embed(plain.ids(train, params.words))
    if field:
        sentences = sentences - sentences.mean(0)
    direction = np.linalg.eigh(sentences.T @ sentences)[1][:, -1]
    return replace(plain, direction=direction)

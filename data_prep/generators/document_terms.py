"""The terms of a document: words as written, by sentence, with their idf."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from data_prep.dataset import Document
from data_prep.progress import track
from data_prep.text_processing import UNSPACED, fold, sentences, surface_words

GRAM = 2
"""Characters per term in scripts without spaces."""


@dataclass(frozen=True)
class Sentence:
    """One sentence in terms.

    Attributes:
        text: The sentence as written, with whitespace collapsed.
        terms: Its terms, in order, as written.
        keys: The terms in lowercase, by which they are counted.
        glued: Whether a term follows the previous one without a space; None if none does.
    """

    text: str
    terms: list[str]
    keys: list[str]
    glued: list[bool] | None

    def join(self, positions: Iterable[int]) -> str:
        """Returns the terms at ascending positions as text.

        Terms are separated by a space, except adjacent ones that are written without one.
        """
        if self.glued is None:
            return " ".join([self.terms[position] for position in positions])
        pieces: list[str] = []
        previous = -2
        for position in positions:
            if pieces and not (position == previous + 1 and self.glued[position]):
                pieces.append(" ")
            pieces.append(self.terms[position])
            previous = position
        return "".join(pieces)


def split_terms(text: str) -> Sentence:
    """Splits a sentence into terms.

    A term is a word, or `GRAM` characters in scripts without spaces between words.
    """
    terms = surface_words(text)
    glued: list[bool] | None = None
    if UNSPACED.search(text):
        glued = []
        split: list[str] = []
        for word in terms:
            start = len(split)
            for piece in _pieces(word):
                split.append(piece)
                glued.append(len(split) > start + 1)
        terms = split
    return Sentence(text, terms, [fold(term) for term in terms], glued)


def _pieces(word: str) -> Iterable[str]:
    end = 0
    for run in UNSPACED.finditer(word):
        if run.start() > end:
            yield word[end : run.start()]
        for begin in range(run.start(), run.end(), GRAM):
            yield word[begin : min(begin + GRAM, run.end())]
        end = run.end()
    if end < len(word):
        yield word[end:]


def title_and_sentences(document: Document) -> tuple[Sentence, list[Sentence]]:
    """Returns the title, and the sentences of the text that have terms.

    If there are none, the title is the only sentence.
    """
    title = split_terms(" ".join(document.title.split()))
    body = [sentence for sentence in map(split_terms, sentences(document.text)) if sentence.terms]
    return title, body or ([title] if title.terms else [])


class InverseDocumentFrequency:
    """ln(1 + N / df) of every term of a corpus; an unknown term counts as in one document.

    Args:
        documents: The corpus; read once.
        total: Number of documents, for the progress bar.
    """

    def __init__(self, documents: Iterable[Document], total: int | None = None) -> None:
        counts: Counter[str] = Counter()
        self.documents = 0
        for document in track(documents, "document frequencies", total=total):
            self.documents += 1
            counts.update(set(split_terms(f"{document.title} {document.text}").keys))
        self._idf = {key: math.log1p(self.documents / df) for key, df in counts.items()}
        self._unseen = math.log1p(max(self.documents, 1))

    def __call__(self, key: str) -> float:
        """Returns the idf of a lowercase term."""
        return self._idf.get(key, self._unseen)


def sample_positions(
    rng: np.random.Generator, weights: np.ndarray, sizes: np.ndarray
) -> list[list[int]]:
    """Samples positions without replacement, proportionally to weights, in several draws.

    Exponential keys divided by weight, smallest first (Efraimidis and Spirakis, "Weighted
    random sampling with a reservoir", 2006).

    Args:
        rng: The random generator.
        weights: float [draws, positions]; positions with weight 0 are never drawn.
        sizes: int [draws], number of positions per draw; fewer if fewer have a positive weight.

    Returns:
        The positions of each draw, ascending.
    """
    possible = weights > 0
    keys = np.full(weights.shape, np.inf)
    np.divide(rng.standard_exponential(weights.shape), weights, out=keys, where=possible)
    order = np.argsort(keys, axis=1).tolist()
    limits = np.minimum(sizes, possible.sum(axis=1)).tolist()
    return [sorted(row[:size]) for row, size in zip(order, limits, strict=True)]

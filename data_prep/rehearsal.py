"""Rehearsal contents: the inputs of the indexing task other than the start of the document.

SE-DSI (Tang et al., KDD 2023, section 4.2) also trains on passages and single sentences. DSI (Tay
et al., NeurIPS 2022, section 3.1) compares the first tokens with the set of tokens. Contents are
texts; training truncates them to a number of tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from data_prep.checks import Options
from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.generators.base import rng_of
from data_prep.marks import Advanced, Count, NotNegative
from data_prep.text_processing import sentences, stemmer, stopwords, terms

PASSAGES = {"leading": 3, "summary": 1, "random": 1}
"""Passages per document by style, as in the paper; random takes as many as summary."""
LONGEST = 1000
"""Maximum number of sentences or passages of a document that TextRank ranks."""


@dataclass(frozen=True)
class RehearsalOptions(Options, group="rehearsal"):
    """What the indexing task reads: four shares, of which only the proportions count."""

    document: Advanced[NotNegative] = 1.0
    """Proportion of the start of the document and its --mix.chunks random chunks"""
    passages: Advanced[NotNegative] = 0.0
    """Proportion of passages: several sentences in a row"""
    sentences: Advanced[NotNegative] = 0.0
    """Proportion of single sentences"""
    tokens: Advanced[NotNegative] = 0.0
    """Proportion of the set of words, in order and without stop words (DSI's set indexing)"""
    style: Advanced[Literal["leading", "summary", "random"]] = "leading"
    """Passages and sentences to use: the first ones, the most central by TextRank, or random
    ones"""
    most_passages: Advanced[Count | None] = None
    """Maximum passages per document; default: 3 for leading, else 1"""
    most_sentences: Advanced[Count] = 6
    """Maximum sentences per document"""
    passage_sentences: Advanced[Count] = 5
    """Sentences per passage"""
    stride: Advanced[Count] = 2
    """Sentences between the starts of two passages"""
    language: Advanced[str] = "english"
    """Language of the stop words and stems; none disables both"""

    def conflicts(self) -> None:
        """Refuses shares that are all 0."""
        if not any(self.proportions.values()):
            raise InputError(
                "--rehearsal.document, passages, sentences and tokens are all 0",
                hint="Set at least one of them above 0",
            )

    @property
    def proportions(self) -> dict[str, float]:
        """Content -> its share; the document first."""
        return {name: getattr(self, name) for name in ("document", *CONTENTS)}


def passages(document: Document, options: RehearsalOptions, seed: int) -> list[str]:
    """Returns the passages that the style selects from a document, in text order.

    A document with fewer passages than the leading style takes contributes only its first one, as
    in the paper.
    """
    candidates = _all_passages(sentences(document.text), options)
    most = options.most_passages or PASSAGES[options.style]
    if options.style == "leading" and len(candidates) < most:
        return candidates[:1]
    return _choose(candidates, most, document, options, seed)


def single_sentences(document: Document, options: RehearsalOptions, seed: int) -> list[str]:
    """Returns the sentences that the style selects from a document, in text order."""
    return _choose(sentences(document.text), options.most_sentences, document, options, seed)


def token_set(document: Document, options: RehearsalOptions, seed: int) -> list[str]:
    """Returns the distinct words of title and text, without stop words, as one text."""
    left_out = stopwords(options.language)
    different = dict.fromkeys(terms(f"{document.title} {document.text}"))
    content_words = " ".join(word for word in different if word not in left_out)
    return [content_words] if content_words else []


CONTENTS: dict[str, Callable[[Document, RehearsalOptions, int], list[str]]] = {
    "passages": passages,
    "sentences": single_sentences,
    "tokens": token_set,
}
"""Contents besides the document itself: name -> the function that produces them."""


def _all_passages(units: Sequence[str], options: RehearsalOptions) -> list[str]:
    """Returns all passages; the last one extends to the end of the text."""
    size, step = options.passage_sentences, options.stride
    if len(units) <= size:
        return [" ".join(units)] if units else []
    starts = list(range(0, len(units) - size + 1, step))
    if starts[-1] + size < len(units):
        starts.append(len(units) - size)
    return [" ".join(units[start : start + size]) for start in starts]


def _choose(
    units: list[str], most: int, document: Document, options: RehearsalOptions, seed: int
) -> list[str]:
    if len(units) <= most:
        return units
    if options.style == "leading":
        return units[:most]
    if options.style == "random":
        chosen = rng_of(document, seed).choice(len(units), most, replace=False)
    else:
        chosen = np.argsort(-text_rank(units[:LONGEST], options.language), kind="stable")[:most]
    return [units[place] for place in sorted(chosen.tolist())]


def text_rank(units: Sequence[str], language: str = "english") -> npt.NDArray[np.float64]:
    """Returns the TextRank centrality of texts (Mihalcea and Tarau, EMNLP 2004).

    PageRank on a graph whose edge weights are the number of terms that two texts share, divided by
    the sum of the logarithms of their lengths in terms.

    Args:
        units: The texts.
        language: Language of stop words and stemmer.

    Returns:
        float64 [texts]; sums to 1.
    """
    left_out, stem = stopwords(language), stemmer(language)
    bags = [set(stem([word for word in terms(unit) if word not in left_out])) for unit in units]
    columns = {term: number for number, term in enumerate(sorted(set().union(*bags)))}
    matrix = np.zeros((len(units), max(len(columns), 1)), np.float32)
    for row, bag in enumerate(bags):
        matrix[row, [columns[term] for term in bag]] = 1.0
    sizes = np.log(np.maximum(matrix.sum(axis=1), 1.0))
    lengths = np.add.outer(sizes, sizes)
    # For two texts of one term each the divisor would be 0; their overlap is not normalized.
    weights = (matrix @ matrix.T) / np.where(lengths > 0, lengths, 1.0)
    np.fill_diagonal(weights, 0.0)
    return page_rank(weights.astype(np.float64))


def page_rank(
    weights: npt.NDArray[np.float64], damping: float = 0.85, tolerance: float = 1e-9
) -> npt.NDArray[np.float64]:
    """Returns the PageRank of every node of a weighted graph, by power iteration.

    Args:
        weights: Weights of the edges from row to column; float64 [nodes, nodes].
        damping: Probability of following an edge instead of jumping to a random node.
        tolerance: The iteration stops when no rank changes by more than this.

    Returns:
        float64 [nodes]; sums to 1. A node without edges distributes its rank over all nodes.
    """
    nodes = len(weights)
    out = weights.sum(axis=1, keepdims=True)
    follow = np.divide(weights, out, out=np.full_like(weights, 1 / max(nodes, 1)), where=out > 0)
    rank = np.full(nodes, 1 / max(nodes, 1))
    for _ in range(200):
        moved = (1 - damping) / nodes + damping * (rank @ follow)
        settled = np.abs(moved - rank).max() < tolerance
        rank = moved
        if settled:
            break
    return rank

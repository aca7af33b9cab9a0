"""Plain-Python oracles of the lexical layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from data_prep.dataset import Document
from dsi.lexical.labeled_queries import LabeledQueries

NONE = LabeledQueries([], np.zeros(0, np.int64))
"""No queries."""


def documents_of(texts: Sequence[str], titles: Sequence[str] | None = None) -> list[Document]:
    """Documents with these texts, and titles if given."""
    titles = titles or [""] * len(texts)
    return [
        Document(str(row), title, text)
        for row, (title, text) in enumerate(zip(titles, texts, strict=True))
    ]


def bm25(query: list[str], documents: list[list[str]], row: int, k1: float, b: float) -> float:
    """Lucene's BM25 of a document, word by word."""
    total = 0.0
    mean = sum(map(len, documents)) / len(documents)
    for word in query:
        frequency = sum(word in document for document in documents)
        count = documents[row].count(word)
        if not count:
            continue
        idf = math.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5))
        total += idf * count / (count + k1 * (1 - b + b * len(documents[row]) / mean))
    return total


def pairs_of(words: list[str]) -> Counter[tuple[str, str]]:
    """Ordered neighbors of one sentence."""
    return Counter((one, two) for one, two in pairwise(words) if one != two)

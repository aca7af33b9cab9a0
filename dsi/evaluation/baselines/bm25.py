"""BM25 over title and text of each document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.bm25 import Bm25
from data_prep.dataset import Dataset
from dsi.evaluation.baselines.base import BASELINES, Baseline, rank
from dsi.search.runs import Run


def document_texts(dataset: Dataset) -> list[str]:
    """Returns title and text of each document."""
    return [f"{document.title} {document.text}" for document in dataset.documents()]


@BASELINES.register("bm25")
class Bm25Baseline(Baseline):
    """BM25 as Lucene computes it (bm25s, k1 = 1.5, b = 0.75).

    Over lowercase words of two or more letters, stemmed by the Snowball stemmer of the language,
    without stop words; see `data_prep.bm25.Bm25`. A query that shares no word with any document has
    no results.
    """

    positive: ClassVar[bool] = True

    def __init__(self, dataset: Dataset, model: str, language: str) -> None:
        super().__init__(dataset, model, language)
        self._search = Bm25(self.texts(dataset), language)

    def texts(self, dataset: Dataset) -> list[str]:
        """Returns the indexed text of each document, in corpus order."""
        return document_texts(dataset)

    def scores(self, queries: Sequence[str]) -> Iterator[npt.NDArray[np.float32]]:
        """Yields the scores of all documents for each query; see `Baseline.scores`."""
        return map(self._search.scores, self._search.tokenize(list(queries)))


def bm25_run(
    texts: list[str],
    doc_ids: Sequence[str],
    queries: Mapping[str, str],
    *,
    k: int = 100,
    language: str = "english",
    name: str = "bm25",
) -> Run:
    """Ranks arbitrary texts with the BM25 of the baseline.

    Args:
        texts: Indexed text of each document.
        doc_ids: Their ids, in the same order.
        queries: query_id -> text.
        k: Maximum documents per query; none has score 0.
        language: Language of stemmer and stop words; "none" for neither.
        name: Label of the progress bar.

    Returns:
        query_id -> {doc_id: score}, best first, ties in the order of `doc_ids`; {} for a query
        that shares no word with any document.

    Raises:
        InputError: The language has no stemmer or stop words.
    """
    search = Bm25(texts, language)
    scores = map(search.scores, search.tokenize(list(queries.values())))
    return rank(queries, scores, doc_ids, k, Bm25Baseline.positive, name)

"""Lexical baselines: what a system that learns has to beat.

`bm25` reads title and text of each document. `bm25+queries` reads the document's labelled
training queries too: the fair opponent of a system that has learned from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Dataset
from data_prep.errors import InputError
from data_prep.progress import track
from data_prep.registry import Registry
from data_prep.text import stopwords
from dsi.search.runs import Run

BASELINES: Registry[Callable[[Dataset], list[str]]] = Registry("baseline")
"""Name -> what BM25 reads of each document, in corpus order."""


@BASELINES.register("bm25")
def document_texts(dataset: Dataset) -> list[str]:
    """Returns title and text of each document."""
    return [f"{document.title} {document.text}" for document in dataset.documents()]


@BASELINES.register("bm25+queries")
def texts_with_training_queries(dataset: Dataset) -> list[str]:
    """Returns title, text and the labelled queries of split train of each document."""
    appended: dict[str, list[str]] = {}
    texts = dataset.query_texts()
    for query_id, judgements in dataset.qrels_of("train").items():
        for doc_id, relevance in judgements.items():
            if relevance > 0:
                appended.setdefault(doc_id, []).append(texts[query_id])
    return [
        " ".join([f"{document.title} {document.text}", *appended.get(document.doc_id, ())])
        for document in dataset.documents()
    ]


def baseline_run(
    name: str,
    dataset: Dataset,
    queries: Mapping[str, str],
    *,
    k: int = 100,
    language: str = "english",
) -> Run:
    """Ranks the documents of a dataset with a baseline.

    BM25 as Lucene computes it (bm25s, k1 = 1.5, b = 0.75), over lower-case words of two and more
    letters, stemmed by the language's Snowball stemmer, without its stop words.

    Args:
        name: A name in `BASELINES`.
        dataset: The documents.
        queries: query_id -> text.
        k: The most documents to return for a query; none has score 0.
        language: Of stemmer and stop words; "none" for neither.

    Returns:
        query_id -> {doc_id: score}, best first, ties in corpus order; {} for a query that shares
        no word with any document.

    Raises:
        InputError: Unknown baseline, or a language without stemmer or stop words.
    """
    return bm25_run(
        BASELINES[name](dataset), dataset.doc_ids, queries, k=k, language=language, name=name
    )


def bm25_run(
    texts: list[str],
    doc_ids: Sequence[str],
    queries: Mapping[str, str],
    *,
    k: int = 100,
    language: str = "english",
    name: str = "bm25",
) -> Run:
    """Ranks any texts with the BM25 of `baseline_run`.

    Args:
        texts: What is read of each document.
        doc_ids: Their ids, in the same order.
        queries: query_id -> text.
        k: The most documents to return for a query; none has score 0.
        language: Of stemmer and stop words; "none" for neither.
        name: What the progress bar says.

    Returns:
        As `baseline_run`.

    Raises:
        InputError: A language without stemmer or stop words.
    """
    search = _Bm25(texts, language)
    run: Run = {}
    tokens = search.tokenize(list(queries.values()))
    for query_id, words in zip(queries, track(tokens, name, len(queries)), strict=True):
        scores = search.scores(words)
        run[query_id] = {doc_ids[row]: float(scores[row]) for row in _best(scores, k)}
    return run


class _Bm25:
    """BM25 over texts."""

    def __init__(self, texts: list[str], language: str) -> None:
        import bm25s

        self._stopwords = sorted(stopwords(language))
        self._stemmer = _stemmer(language)
        self._rows = len(texts)
        tokens = list(self.tokenize(texts))
        # bm25s cannot index a corpus without any word.
        self._index = None
        if any(tokens):
            self._index = bm25s.BM25(method="lucene")
            self._index.index(tokens, show_progress=False)

    def tokenize(self, texts: list[str]) -> Iterator[list[str]]:
        """Returns the words of each text, normalised."""
        import bm25s

        return iter(
            bm25s.tokenize(
                texts,
                stopwords=self._stopwords,
                stemmer=self._stemmer,
                return_ids=False,
                show_progress=False,
            )
        )

    def scores(self, words: list[str]) -> npt.NDArray[np.float32]:
        """Returns the score of each text for the words of a query; float32 [texts]."""
        if self._index is None:
            return np.zeros(self._rows, np.float32)
        # bm25s cannot score a query of which it knows no word.
        known = [word for word in words if word in self._index.vocab_dict]
        if not known:
            return np.zeros(self._rows, np.float32)
        return self._index.get_scores(known)


def _stemmer(language: str) -> Any:
    """Returns the Snowball stemmer of a language, None for "none"."""
    import Stemmer

    if language == "none":
        return None
    try:
        return Stemmer.Stemmer(language)
    except KeyError:
        raise InputError(
            f"no stemmer for language {language!r}",
            mend=f"Choose from: none, {', '.join(Stemmer.algorithms())}",
        ) from None


def _best(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Returns the rows of the k highest scores above 0, best first, ties by the lower row."""
    rows = np.flatnonzero(scores > 0)
    if len(rows) > k:
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    return rows[np.argsort(-scores[rows], kind="stable")][:k]

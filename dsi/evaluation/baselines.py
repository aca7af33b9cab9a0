"""Lexical baselines: what a system that learns has to beat.

`bm25` reads title and text of each document. `bm25+queries` reads the document's labelled
training queries too: the fair opponent of a system that has learned from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from data_prep.bm25 import Bm25
from data_prep.dataset import Dataset
from data_prep.progress import track
from data_prep.registry import Registry
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
    search = Bm25(texts, language)
    run: Run = {}
    tokens = search.tokenize(list(queries.values()))
    for query_id, words in zip(queries, track(tokens, name, len(queries)), strict=True):
        scores = search.scores(words)
        run[query_id] = {doc_ids[row]: float(scores[row]) for row in _best(scores, k)}
    return run


def _best(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Returns the rows of the k highest scores above 0, best first, ties by the lower row."""
    rows = np.flatnonzero(scores > 0)
    if len(rows) > k:
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    return rows[np.argsort(-scores[rows], kind="stable")][:k]

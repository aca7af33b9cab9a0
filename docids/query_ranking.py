"""Ranks a document's pseudo-queries by how well BM25 retrieves it: round-trip consistency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_prep.progress import track
from data_prep.text_processing import stemmer, stopwords, words

_COMPETITORS = 20_000
_CHUNK = 2_000_000  # scores computed at a time, as queries x competitors
_K1, _B = 1.5, 0.75


def rank_by_round_trip(
    texts: Sequence[str], queries: Sequence[Sequence[str]], *, language: str, seed: int
) -> list[list[str]]:
    """Orders the queries of each document by how reliably they retrieve it.

    Queries that rank their document first come before those that do not. Within each group, they
    are ordered by the document's lead (or deficit) against the best other document as a fraction of
    its BM25 score, which favors long queries less than the plain difference would; ties stay in the
    given order.

    Args:
        texts: One text for each document.
        queries: The queries of each document.
        language: Language of the stemmer and stop words; "none" for neither.
        seed: Seed of the sample of 20,000 competing documents, if there are more.
    """
    import scipy.sparse as sparse
    from sklearn.feature_extraction.text import CountVectorizer

    stem, left_out = stemmer(language), stopwords(language)

    def analyze(text: str) -> list[str]:
        return stem([word for word in words(text) if word not in left_out])

    flat = [query for several in queries for query in several]
    owners = np.repeat(np.arange(len(queries)), [len(several) for several in queries])
    vectorizer = CountVectorizer(analyzer=analyze, dtype=np.float32)
    try:
        counts = vectorizer.fit_transform(texts).tocsr()
        query_weights = vectorizer.transform(flat) if flat else None
    except ValueError:  # sklearn's way of reporting an empty vocabulary
        return [list(several) for several in queries]
    if query_weights is None:
        return [list(several) for several in queries]
    query_weights.data[:] = 1
    weights = _bm25(counts)
    rivals = np.arange(len(texts))
    if len(rivals) > _COMPETITORS:
        sampled = np.random.default_rng([seed, 10]).choice(len(texts), _COMPETITORS, replace=False)
        rivals = np.sort(sampled)
    place_among_rivals = np.full(len(texts), -1)
    place_among_rivals[rivals] = np.arange(len(rivals))
    columns = weights[rivals].T.tocsr()
    lead = np.zeros(len(flat))
    step = max(1, _CHUNK // len(rivals))
    starts: Sequence[int] = range(0, len(flat), step)
    for start in track(starts, "round trip") if len(starts) > 1 else starts:
        part = slice(start, start + step)
        own_scores = np.asarray(
            query_weights[part].multiply(weights[owners[part]]).sum(axis=1)
        ).ravel()
        scores = np.asarray(sparse.csr_matrix(query_weights[part] @ columns).todense())
        rival_places = place_among_rivals[owners[part]]
        among_rivals = np.flatnonzero(rival_places >= 0)
        scores[among_rivals, rival_places[among_rivals]] = 0
        best_other = scores.max(axis=1)
        lead[part] = (own_scores - best_other) / np.maximum(
            np.maximum(own_scores, best_other), 1e-9
        )
    ends = np.cumsum([len(several) for several in queries])
    ranked = []
    for several, end in zip(queries, ends.tolist(), strict=True):
        order = np.argsort(-lead[end - len(several) : end], kind="stable")
        ranked.append([several[number] for number in order.tolist()])
    return ranked


def _bm25(counts: Any) -> Any:
    """Turns term counts into BM25 weights (Lucene's variant); sparse, float32."""
    import scipy.sparse as sparse

    matrix = sparse.csr_matrix(counts, dtype=np.float32)
    documents, terms = matrix.shape
    frequency = np.bincount(matrix.indices, minlength=terms)
    idf = np.log1p((documents - frequency + 0.5) / (frequency + 0.5))
    lengths = np.asarray(matrix.sum(axis=1)).ravel()
    norm = _K1 * (1 - _B + _B * lengths / max(lengths.mean(), 1e-9))
    matrix.data = (
        idf[matrix.indices] * matrix.data / (matrix.data + np.repeat(norm, np.diff(matrix.indptr)))
    ).astype(np.float32)
    return matrix

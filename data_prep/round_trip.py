"""Round-trip consistency of pseudo-queries (Alberti et al., ACL 2019), as a measure and a filter.

A query by which BM25 does not retrieve its document is off topic or too general.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt

from data_prep import arrow
from data_prep.bm25 import Bm25
from data_prep.checks import Options
from data_prep.dataset import Dataset, Document
from data_prep.generators.base import PseudoQuery
from data_prep.marks import Advanced, Needs, Whole


@dataclass(frozen=True)
class FilterOptions(Options, group="filter"):
    """Which pseudo-queries are kept."""

    round_trip: Whole = 0
    """Keep pseudo-queries whose document BM25 ranks in the top N; 0 keeps all"""
    cross_encoder: Annotated[str | None, Needs("best")] = None
    """Cross-encoder that scores query and document, for --filter.best: hub id or path"""
    best: Annotated[Whole, Needs("cross_encoder")] = 0
    """Keep the N best pseudo-queries per document by the cross-encoder; 0 keeps all"""
    language: Advanced[str] = "english"
    """Language of BM25's stop words and stems; none disables both"""

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return bool(self.round_trip or self.best)


class PairScorer(Protocol):
    """Scores how well documents answer queries."""

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the score of each pair; float32 [pairs]."""
        ...


def read_by(document: Document) -> str:
    """Returns the text of a document that BM25 and a cross-encoder read."""
    return f"{document.title} {document.text}".strip()


class Filter:
    """Filters pseudo-queries.

    Args:
        dataset: The documents, among which a query must retrieve its own.
        options: The filter options.

    Raises:
        InputError: The cross-encoder cannot be loaded, or the language is unknown.
    """

    def __init__(self, dataset: Dataset, options: FilterOptions) -> None:
        self.options = options
        self._bm25: Bm25 | None = None
        self._scorer: PairScorer | None = None
        if options.round_trip:
            self._rows = {doc_id: row for row, doc_id in enumerate(dataset.doc_ids)}
            self._bm25 = Bm25([read_by(d) for d in dataset.documents()], options.language)
        if options.cross_encoder is not None:
            from data_prep.cross_encoder import CrossEncoder

            self._scorer = CrossEncoder(options.cross_encoder, "--filter.cross_encoder")

    def keep(
        self, documents: Sequence[Document], written: Sequence[Sequence[PseudoQuery]]
    ) -> list[list[PseudoQuery]]:
        """Returns the queries of each document that pass the filter, in their order."""
        return [
            self._best(document, self._passing_round_trip(document, list(queries)))
            for document, queries in zip(documents, written, strict=True)
        ]

    def _passing_round_trip(
        self, document: Document, queries: list[PseudoQuery]
    ) -> list[PseudoQuery]:
        if self._bm25 is None or not queries:
            return queries
        row = self._rows[document.doc_id]
        ranks = self._bm25.ranks([query.text for query in queries], [row] * len(queries))
        good = (ranks > 0) & (ranks <= self.options.round_trip)
        return [query for query, passes in zip(queries, good.tolist(), strict=True) if passes]

    def _best(self, document: Document, queries: list[PseudoQuery]) -> list[PseudoQuery]:
        if self._scorer is None or len(queries) <= self.options.best:
            return queries
        texts = [query.text for query in queries]
        scores = self._scorer.score(texts, [read_by(document)] * len(texts))
        best = np.argsort(-scores, kind="stable")[: self.options.best]
        return [queries[place] for place in sorted(best.tolist())]


def measure_round_trip(
    dataset: Dataset, generator: str, *, sample: int, language: str = "english", seed: int = 0
) -> dict[str, Any]:
    """Measures how often BM25 retrieves a document by its pseudo-queries.

    Args:
        dataset: The documents and the pseudo-queries.
        generator: The generator of the pseudo-queries.
        sample: Number of pseudo-queries to sample.
        language: Language of stop words and stemmer.
        seed: Seed of the sample.

    Returns:
        The number of "queries", "Success@1", "Success@10" and "RR" (0 if not retrieved).
    """
    folder = dataset.path / "pseudo" / generator
    rows = {doc_id: row for row, doc_id in enumerate(dataset.doc_ids)}
    texts: list[str] = []
    targets: list[int] = []
    total = sum(len(column) for (column,) in arrow.read_batches(folder, ["doc_id"]))
    sampled = np.random.default_rng([seed, 21]).permutation(total)[:sample]
    sampled_set = set(sampled.tolist())
    for number, (doc_id, text) in enumerate(arrow.read_rows(folder, ["doc_id", "text"])):
        if number in sampled_set:
            texts.append(text)
            targets.append(rows[doc_id])
    if not texts:
        return {"queries": 0, "Success@1": None, "Success@10": None, "RR": None}
    bm25 = Bm25([read_by(document) for document in dataset.documents()], language)
    ranks = bm25.ranks(texts, targets)
    is_ranked = ranks > 0
    return {
        "queries": len(texts),
        "Success@1": float((ranks == 1).mean()),
        "Success@10": float((is_ranked & (ranks <= 10)).mean()),
        "RR": float(np.where(is_ranked, 1 / np.maximum(ranks, 1), 0.0).mean()),
    }

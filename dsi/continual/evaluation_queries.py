"""Test queries of the corpora of a comparison, and the evaluation of an index on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.dataset import Dataset
from data_prep.errors import InputError

if TYPE_CHECKING:
    from dsi.index import Index


@dataclass(frozen=True)
class EvaluationQueries:
    """The test queries and documents of one corpus.

    Attributes:
        queries: Test queries of the corpus.
        targets: The relevant document of each query.
        texts: Texts of its documents.
        doc_ids: Ids of its documents.
    """

    queries: list[str]
    targets: list[str]
    texts: list[str]
    doc_ids: list[str]

    @classmethod
    def of(cls, corpus: Dataset) -> EvaluationQueries:
        """Reads the test queries and documents of a corpus.

        Raises:
            InputError: It has no test query.
        """
        texts = corpus.query_texts()
        pairs = [
            (texts[query_id], max(judged, key=lambda doc_id: judged[doc_id]))
            for query_id, judged in corpus.qrels_of("test").items()
            if max(judged.values()) > 0
        ]
        if not pairs:
            raise InputError(
                "no test query is judged for a document of this corpus",
                where=corpus.path,
                hint="Use larger increments, or a dataset with more test queries",
            )
        documents = list(corpus.documents())
        return cls(
            [query for query, _ in pairs],
            [target for _, target in pairs],
            [document.title_and_text for document in documents],
            [document.doc_id for document in documents],
        )

    def sample(self, most: int, seed: int) -> EvaluationQueries:
        """Returns a seeded sample of at most this many queries, and as many documents."""
        rng = np.random.default_rng([seed, 31])
        queries = np.sort(rng.permutation(len(self.queries))[:most]).tolist()
        documents = np.sort(rng.permutation(len(self.doc_ids))[:most]).tolist()
        return EvaluationQueries(
            [self.queries[place] for place in queries],
            [self.targets[place] for place in queries],
            [self.texts[place] for place in documents],
            [self.doc_ids[place] for place in documents],
        )


def measure(
    index: Path, corpora: Sequence[EvaluationQueries], beams: int | None
) -> list[dict[str, float]]:
    """Evaluates an index on every corpus; the first result of `measure_with_ranks`."""
    return measure_with_ranks(index, corpora, beams)[0]


def measure_with_ranks(
    index: Path, corpora: Sequence[EvaluationQueries], beams: int | None
) -> tuple[list[dict[str, float]], list[list[int]]]:
    """Evaluates an index on every corpus: Hits@1, Hits@10 and indexing accuracy.

    Indexing accuracy is the fraction of documents ranked first for their own text, truncated as in
    training.

    Args:
        index: The folder of the index.
        corpora: Test queries of each corpus.
        beams: Beam width; None for that of the index.

    Returns:
        The measures of each corpus, and the rank of each of its queries' document, 0 beyond 10.
    """
    from dsi.index import Index
    from dsi.updating.first_training import training_options

    opened = Index.open(index)
    training = training_options(opened.manifest)
    found, ranked = [], []
    for some in corpora:
        length, read = opened.manifest.query_length, training.mix.document_length
        queries = opened.text.encode(list(some.queries), length)
        texts = opened.text.encode_documents(list(some.texts), read)
        ranks = target_ranks(opened, some.queries, queries, some.targets, beams)
        document_ranks = target_ranks(opened, some.texts, texts, some.doc_ids, beams)
        found.append(
            {
                "Hits@1": float((ranks <= 1).mean()),
                "Hits@10": float((ranks <= 10).mean()),
                "indexing": float((document_ranks <= 1).mean()),
            }
        )
        ranked.append(np.where(ranks <= 10, ranks, 0).astype(np.int64).tolist())
    return found, ranked


def target_ranks(
    index: Index,
    texts: Sequence[str],
    tokens: Sequence[Sequence[int]],
    doc_ids: Sequence[str],
    beams: int | None,
) -> np.ndarray:
    """Returns the rank of each text's document, infinity beyond rank 10; float64 [texts].

    Args:
        index: The index.
        texts: The texts.
        tokens: Token ids of each.
        doc_ids: The relevant document of each text.
        beams: Beam width; None for that of the index.
    """
    from dsi.training.validation import DevQueries, ranks_of

    rows = index.table.find(list(doc_ids)).tolist()
    queries = DevQueries(tokens, rows, texts, index.lexical)
    return ranks_of(index.model, queries, index.trie, beams or index.manifest.beams)

"""Elaborative descriptions: a document's best query is its identifier (SE-DSI)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.marks import Advanced, Count
from docids.kinds.base import KINDS, Documents
from docids.kinds.text import TextKind, TextOptions
from docids.query_ranking import rank_by_round_trip
from docids.term_weights import TermWeights

_KEYWORDS = 5


@dataclass(frozen=True)
class DescriptionOptions(TextOptions, group="description"):
    """Which queries describe the documents, and how they are written."""

    generator: Advanced[str] = "auto"
    """Source of the pseudo-queries, generated if missing. auto: those the index is trained on, else
    extractive"""
    candidates: Advanced[Count] = 10
    """Pseudo-queries compared per document"""


class Description(TextKind):
    """The pseudo-query that retrieves its document best, by BM25.

    Tang et al., Semantic-Enhanced Differentiable Search Index Inspired by Learning Strategies, KDD
    2023, section 4.1, take the first output of the query generator. A document without
    pseudo-queries is described by its keywords.
    """

    Options = DescriptionOptions
    extends_by_queries = True

    def phrases(
        self, documents: Documents, options: DescriptionOptions, weights: TermWeights, seed: int
    ) -> Iterator[list[str]]:
        """Yields the pseudo-queries, best first, then keywords."""
        queries = [list(each)[: options.candidates] for each in documents.ask(options.generator)]
        ranked = rank_by_round_trip(documents.texts, queries, language=options.language, seed=seed)
        for several, text in zip(ranked, documents.texts, strict=True):
            keywords = weights.ranked(text, _KEYWORDS)
            yield [*several, *(" ".join(keywords[:n]) for n in range(len(keywords), 0, -1))]


KINDS.register("description")(Description("description"))

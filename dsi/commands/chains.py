"""Chains of documents, as `dsi search --hops` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsi.command_line.command_report import TableReport

if TYPE_CHECKING:
    from rich.console import Console

    from data_prep.dataset import Query
    from dsi.search.hops import Chain


@dataclass(frozen=True)
class ChainAnswers:
    """The chains of documents found for each query.

    Args:
        facts: Facts about the search.
        queries: The queries.
        chains: Chains of each query, best first.
        has_known_words: Whether the index knows a word of each query.
    """

    facts: dict[str, Any]
    queries: Sequence[Query]
    chains: Sequence[Sequence[Chain]]
    has_known_words: Sequence[bool]

    @property
    def data(self) -> dict[str, Any]:
        """The facts, and under "results" one entry per query."""
        results = [
            {
                "query_id": query.query_id,
                "query": query.text,
                "known": has_known_words,
                "chains": [{"rank": rank, **chain.data} for rank, chain in enumerate(ranked, 1)],
            }
            for query, ranked, has_known_words in zip(
                self.queries, self.chains, self.has_known_words, strict=True
            )
        ]
        return {**self.facts, "results": results}

    def show(self, console: Console) -> None:
        """Prints one table per query."""
        for query, ranked, has_known_words in zip(
            self.queries, self.chains, self.has_known_words, strict=True
        ):
            chains_table(query.text, ranked, has_known_words).show(console)
            console.print()


def chains_table(query: str, chains: Sequence[Chain], has_known_words: bool = True) -> TableReport:
    """Returns the chains of one query as a table, a document a row.

    Args:
        query: The query, for the title of the table.
        chains: Chains, best first.
        has_known_words: Whether the index knows a word of the query.
    """
    rows: list[tuple[Any, ...]] = []
    for rank, chain in enumerate(chains, 1):
        for number, hop in enumerate(chain.hops, 1):
            sentence = "" if hop.sentence is None else hop.sentence.text
            rows.append((rank, chain.score, number, hop.hit.doc_id, hop.hit.title, sentence))
    remarks = ["no document found"] if not chains else []
    if not has_known_words:
        remarks = ["no word of this query is known to the index: the order says nothing"]
    if chains and chains[0].evidence is not None:
        remarks.append(f"evidence of the first chain suffices: {chains[0].evidence:.3f}")
    return TableReport(
        data={},
        title=query,
        columns=("rank", "score", "hop", "doc id", "title", "sentence"),
        rows=rows,
        closing=tuple(remarks),
    )

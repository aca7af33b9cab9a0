"""The answers of `dsi search`: hits or chains of hits, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsi.command_line.command_report import MOST_SHOWN, TableReport
from dsi.search.reordering import at_both_ends

if TYPE_CHECKING:
    from rich.console import Console

    from data_prep.dataset import Query
    from dsi.index import Hit
    from dsi.search.explaining import Explanation
    from dsi.search.hops import Chain


@dataclass(frozen=True)
class Answers:
    """The documents found for each query.

    Args:
        facts: Facts about the search.
        queries: The queries.
        hits: Hits of each query, best first.
        has_known_words: Whether the index knows a word of each query.
        parts: Score components of each hit; None if not requested.
        reorder: Whether the best documents are placed at both ends.
    """

    facts: dict[str, Any]
    queries: Sequence[Query]
    hits: Sequence[Sequence[Hit]]
    has_known_words: Sequence[bool]
    parts: Sequence[Sequence[Explanation]] | None = None
    reorder: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """The facts, and under "results" one entry per query."""
        results = [
            {
                **_query_data(query, has_known_words),
                "hits": self._ordered(
                    [
                        {"rank": rank, **_hit_data(hit, parts)}
                        for rank, (hit, parts) in enumerate(
                            zip(ranked, explanations, strict=True), 1
                        )
                    ]
                ),
            }
            for query, ranked, has_known_words, explanations in self._each()
        ]
        return {**self.facts, "results": results}

    def _ordered(self, ranked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return at_both_ends(ranked) if self.reorder else ranked

    def _each(
        self,
    ) -> Iterator[tuple[Query, Sequence[Hit], bool, Sequence[Explanation | None]]]:
        parts: Sequence[Sequence[Explanation | None]]
        parts = self.parts or [[None] * len(ranked) for ranked in self.hits]
        yield from zip(self.queries, self.hits, self.has_known_words, parts, strict=True)

    def show(self, console: Console) -> None:
        """Prints one table per query."""
        for query, ranked, has_known_words, explanations in self._each():
            hits_table(query.text, ranked, has_known_words, self.reorder).show(console)
            console.print()
            for text in text_tables(ranked, self.reorder):
                text.show(console)
                console.print()
            for parts in filter(None, explanations):
                parts_table(parts).show(console)
                console.print()
        if len(self.queries) > 1 and not any(" " in query.text for query in self.queries):
            console.print(
                "Each word was searched as a separate query. Use quotes to keep words together."
            )


def _query_data(query: Query, has_known_words: bool) -> dict[str, Any]:
    return {"query_id": query.query_id, "query": query.text, "known": has_known_words}


def _remarks(ranked: Sequence[Any], has_known_words: bool) -> tuple[str, ...]:
    """Returns what to say below the hits or chains of a query, if anything."""
    if not has_known_words:
        return ("no word of this query is known to the index: the order says nothing",)
    return () if ranked else ("no document found",)


def hits_table(
    query: str, hits: Sequence[Hit], has_known_words: bool = True, reorder: bool = False
) -> TableReport:
    """Returns the ranked documents of one query as a table.

    Args:
        query: The query, for the title of the table.
        hits: Hits, best first.
        has_known_words: Whether the index knows a word of the query.
        reorder: Whether the best documents are placed at both ends.
    """
    columns: tuple[str, ...] = ("rank", "score", "doc id", "title")
    rows: list[tuple[Any, ...]]
    rows = [(rank, hit.score, hit.doc_id, hit.title) for rank, hit in enumerate(hits, 1)]
    if any(hit.passage is not None for hit in hits):
        columns = (*columns, "passage")
        numbers = ((hit.passage or "").rpartition("-")[2] for hit in hits)
        rows = [(*row, number) for row, number in zip(rows, numbers, strict=True)]
    if reorder:
        rows = at_both_ends(rows)
    return TableReport(
        data={},
        title=query,
        columns=columns,
        rows=rows,
        closing=_remarks(hits, has_known_words),
    )


def text_tables(hits: Sequence[Hit], reorder: bool = False) -> list[TableReport]:
    """Returns the text of each hit below its document id; empty if no texts were requested.

    Args:
        hits: Hits, best first.
        reorder: Whether the best documents are placed at both ends.
    """
    found = []
    for hit in at_both_ends(hits) if reorder else hits:
        if hit.text is not None:
            text = hit.text if len(hit.text) <= MOST_SHOWN else f"{hit.text[:MOST_SHOWN]}…"
            lines = [f"  {line}" for line in text.splitlines() if line.strip()]
            found.append(TableReport({}, _title(hit.doc_id, hit.title), opening=lines))
    return found


def _title(doc_id: str, title: str) -> str:
    return f"{doc_id}: {title}" if title and title != doc_id else doc_id


def _hit_data(hit: Hit, parts: Explanation | None) -> dict[str, Any]:
    return hit.data if parts is None else {**hit.data, "explanation": parts.data}


def parts_table(parts: Explanation) -> TableReport:
    """Returns the components of one score as a table; the last column sums to the score."""
    rows: list[tuple[Any, ...]] = [
        ("word", term.term, f"{term.count} x {term.weight:.3f}", term.adds) for term in parts.terms
    ]
    several = len(parts.paths) > 1
    for number, path in enumerate(parts.paths, 1):
        name = f"code {number}." if several else "code "
        rows += [
            (
                f"{name}{place}",
                step.code,
                f"rank {step.rank:,} of {step.codes:,}, logit {step.logit:.3f}",
                None if several else step.adds,
            )
            for place, step in enumerate(path.steps, 1)
        ]
        if several:
            rows.append((f"identifier {number}", "", f"{path.log_probability:.3f}", None))
    if several:
        rows.append(("identifiers", "", "sum of their probabilities", parts.identifier))
    rows.append(("score", "", "", parts.score))
    return TableReport(
        data={},
        title=_title(parts.doc_id, parts.title),
        columns=("part", "what", "how", "adds"),
        rows=rows,
    )


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
                **_query_data(query, has_known_words),
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
    remarks = _remarks(chains, has_known_words)
    if chains and chains[0].evidence is not None:
        remarks = (*remarks, f"evidence of the first chain suffices: {chains[0].evidence:.3f}")
    return TableReport(
        data={},
        title=query,
        columns=("rank", "score", "hop", "doc id", "title", "sentence"),
        rows=rows,
        closing=remarks,
    )

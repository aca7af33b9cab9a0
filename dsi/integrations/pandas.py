"""Hits as a pandas data frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

    from dsi.index import Hit

COLUMNS = ("query_id", "query", "rank", "score", "doc_id", "title", "text")


def to_frame(
    hits: Sequence[Hit] | Sequence[Sequence[Hit]],
    queries: str | Sequence[str] | None = None,
    query_ids: Sequence[str] | None = None,
) -> DataFrame:
    """Returns the hits of one or several queries as a data frame, one row per hit.

    Args:
        hits: What `Index.search` returns: a list for one query, a list of lists for several.
        queries: The text or texts of the queries; without them there is no such column.
        query_ids: Their ids; default "1", "2", ...

    Returns:
        Columns query_id, query, rank (from 1), score, doc_id, title and text (if the hits have
        texts); in the order of the queries, best hits first.

    Raises:
        InputError: The number of queries or ids differs from that of the lists of hits.
    """
    import pandas

    lists = _per_query(hits)
    texts = [queries] if isinstance(queries, str) else queries
    names = [str(number) for number in range(1, len(lists) + 1)]
    for what, values in (("queries", texts), ("ids of queries", query_ids)):
        if values is not None and len(values) != len(lists):
            raise InputError(f"{len(values)} {what} for {len(lists)} lists of hits")
    rows = [
        {
            "query_id": name,
            "query": None if texts is None else texts[place],
            "rank": rank,
            "score": hit.score,
            "doc_id": hit.doc_id,
            "title": hit.title,
            "text": getattr(hit, "text", None),
        }
        for place, name in enumerate(query_ids or names)
        for rank, hit in enumerate(lists[place], 1)
    ]
    columns = [
        name
        for name in COLUMNS
        if name not in ("query", "text")
        or (name == "query" and texts is not None)
        or (name == "text" and any(row["text"] is not None for row in rows))
    ]
    return pandas.DataFrame(rows, columns=columns).astype({"rank": "int64", "score": "float64"})


def _per_query(hits: Sequence[Any]) -> list[list[Hit]]:
    """Normalizes one list of hits, or a list of lists, to one list per query."""
    from dsi.index import Hit

    lists = list(hits)
    if lists and isinstance(lists[0], Hit):
        return [lists]
    return [list(each) for each in lists]

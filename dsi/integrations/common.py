"""Shared code of the connectors: opening an index, and hits with their texts."""

from __future__ import annotations

import os
from typing import Any

from dsi.index import Hit, Index
from dsi.search.options import SearchOptions
from dsi.search.reordering import at_both_ends

AnyIndex = Index | str | os.PathLike[str]
"""An open index, or where one is."""


def opened(index: AnyIndex) -> Index:
    """Returns an open index.

    Raises:
        InputError: There is none, or it is damaged.
    """
    return index if isinstance(index, Index) else Index.open(index)


def ranked_texts(
    index: Index, query: str, k: int, *, reorder: bool, options: SearchOptions | None
) -> list[tuple[int, Hit]]:
    """Returns (rank from 1, hit with its text), in prompt order.

    Args:
        index: The index; it must store the texts of its documents.
        query: The query.
        k: Maximum number of hits.
        reorder: Whether to put the best hits at both ends; otherwise the best come first.
        options: How to search.

    Raises:
        InputError: The query is empty, or the index has no texts.
    """
    hits = list(enumerate(index.search(query, k=k, options=options, with_text=True), 1))
    return at_both_ends(hits) if reorder else hits


def described(rank: int, hit: Hit) -> dict[str, Any]:
    """Returns the fields of a hit other than its text, as metadata of a framework's document."""
    return {"doc_id": hit.doc_id, "title": hit.title, "score": hit.score, "rank": rank}

"""What the connectors share: an index however it is named, and hits that have their texts."""

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
    """Returns (rank from 1, hit with its text), in the order in which a prompt is to have them.

    Args:
        index: The index; it must have been written with the texts of its documents.
        query: The query.
        k: Most hits.
        reorder: Whether the best stand at both ends; else the best are first.
        options: How to search.

    Raises:
        InputError: The query is empty, or the index has no texts.
    """
    hits = list(enumerate(index.search(query, k=k, options=options, with_text=True), 1))
    return at_both_ends(hits) if reorder else hits


def described(rank: int, hit: Hit) -> dict[str, Any]:
    """Returns what a hit is besides its text, for the metadata of a framework's document."""
    return {"doc_id": hit.doc_id, "title": hit.title, "score": hit.score, "rank": rank}

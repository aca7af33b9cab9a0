"""An index as a Haystack 3 component."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from dsi.index import Index
from dsi.integrations.common import AnyIndex, described, opened, ranked_texts
from dsi.libraries import requiring

with requiring("haystack-ai", "haystack"):
    from haystack import Document, component, default_from_dict, default_to_dict


@component
class IndexRetriever:
    """Retrieves the documents that answer a query for a pipeline, best first.

    `IndexRetriever("index").run(query="a question")["documents"]` is a list of Haystack documents:
    the text as `content`, the document's id as `id`, its score, and doc_id, title, score and rank
    as `meta`.

    Args:
        index: An open index, or the path of its folder. Only a pipeline with a path can be
            serialized; it opens the index when it runs.
        top_k: How many documents to return.
        reorder: Put the best documents at both ends, for long prompts.
    """

    def __init__(self, index: AnyIndex, top_k: int = 10, reorder: bool = False) -> None:
        self.index = index
        self.top_k = top_k
        self.reorder = reorder
        self._open: Index | None = None

    def warm_up(self) -> None:
        """Opens the index."""
        if self._open is None:
            self._open = opened(self.index)

    def to_dict(self) -> dict[str, Any]:
        """Serializes the component for a pipeline.

        Raises:
            InputError: It was created with an open index.
        """
        if isinstance(self.index, Index):
            raise InputError(
                "a pipeline cannot be stored with an open index",
                hint="Create the retriever with the path of the index",
            )
        path = self.index if isinstance(self.index, str) else str(Path(os.fspath(self.index)))
        return default_to_dict(self, index=path, top_k=self.top_k, reorder=self.reorder)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> IndexRetriever:
        """Restores the component of a serialized pipeline."""
        return default_from_dict(cls, data)

    @component.output_types(documents=list[Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Searches.

        Args:
            query: The query.
            filters: Must be empty: documents of an index have no metadata to filter by.
            top_k: How many documents to return, if other than the component's number.

        Raises:
            InputError: There are filters, or the query is empty.
        """
        if filters:
            raise InputError(
                "the documents of an index have no metadata to filter by",
                hint="Omit filters",
            )
        self.warm_up()
        assert self._open is not None
        k = self.top_k if top_k is None else top_k
        ranked = ranked_texts(self._open, query, k, reorder=self.reorder, options=None)
        return {
            "documents": [
                Document(
                    id=hit.doc_id,
                    content=hit.text,
                    score=hit.score,
                    meta=described(rank, hit),
                )
                for rank, hit in ranked
            ]
        }

"""An index as a LangChain retriever (langchain-core 1.x)."""

from __future__ import annotations

from typing import Any

from dsi.index import Index
from dsi.integrations.common import described, opened, ranked_texts
from dsi.libraries import requiring
from dsi.search.options import SearchOptions

with requiring("langchain-core", "langchain"):
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import field_validator


class IndexRetriever(BaseRetriever):
    """Retrieves the documents that answer a query for a chain, best first.

    `IndexRetriever(index="index", k=5).invoke("a question")` returns LangChain documents: the text
    as `page_content`, the document's id as `id`, and doc_id, title, score and rank as `metadata`.
    """

    index: Index
    """The index, open or by the path of its folder."""
    k: int = 10
    """How many documents to return."""
    reorder: bool = False
    """Put the best documents at both ends, for long prompts."""
    options: SearchOptions | None = None
    """How to search; default `SearchOptions()`."""

    @field_validator("index", mode="before")
    @classmethod
    def _open(cls, value: Any) -> Index:
        return opened(value)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        ranked = ranked_texts(self.index, query, self.k, reorder=self.reorder, options=self.options)
        return [
            Document(id=hit.doc_id, page_content=hit.text or "", metadata=described(rank, hit))
            for rank, hit in ranked
        ]

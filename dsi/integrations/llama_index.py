"""An index as a LlamaIndex retriever (llama-index-core 0.14)."""

from __future__ import annotations

from dsi.integrations.common import AnyIndex, described, opened, ranked_texts
from dsi.libraries import requiring
from dsi.search.options import SearchOptions

with requiring("llama-index-core", "llama-index"):
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode


class IndexRetriever(BaseRetriever):
    """Retrieves the documents that answer a query for a query engine, best first.

    `IndexRetriever("index", k=5).retrieve("a question")` returns nodes with scores: the document's
    id is the node's, and doc_id, title, score and rank are its `metadata`, of which prompts include
    the title only.

    Args:
        index: An open index, or the path of its folder.
        k: How many documents to return.
        reorder: Put the best documents at both ends, for long prompts.
        options: How to search; default `SearchOptions()`.
    """

    def __init__(
        self,
        index: AnyIndex,
        k: int = 10,
        reorder: bool = False,
        options: SearchOptions | None = None,
    ) -> None:
        self.index = opened(index)
        self.k = k
        self.reorder = reorder
        self.options = options
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = query_bundle.query_str
        ranked = ranked_texts(self.index, query, self.k, reorder=self.reorder, options=self.options)
        hidden = ["doc_id", "score", "rank"]
        return [
            NodeWithScore(
                node=TextNode(
                    id_=hit.doc_id,
                    text=hit.text or "",
                    metadata=described(rank, hit),
                    excluded_llm_metadata_keys=hidden,
                    excluded_embed_metadata_keys=hidden,
                ),
                score=hit.score,
            )
            for rank, hit in ranked
        ]

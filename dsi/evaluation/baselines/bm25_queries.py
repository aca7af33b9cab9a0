"""BM25 over documents and their training queries: a fair baseline for models trained on these."""

from __future__ import annotations

from data_prep.dataset import Dataset
from dsi.evaluation.baselines.base import BASELINES
from dsi.evaluation.baselines.bm25 import Bm25Baseline, document_texts


def texts_with_training_queries(dataset: Dataset) -> list[str]:
    """Returns title, text and labeled training queries of each document."""
    appended: dict[str, list[str]] = {}
    texts = dataset.query_texts()
    for query_id, judgments in dataset.qrels_of("train").items():
        for doc_id, relevance in judgments.items():
            if relevance > 0:
                appended.setdefault(doc_id, []).append(texts[query_id])
    return [
        " ".join([text, *appended.get(doc_id, ())])
        for doc_id, text in zip(dataset.doc_ids, document_texts(dataset), strict=True)
    ]


@BASELINES.register("bm25+queries")
class Bm25QueriesBaseline(Bm25Baseline):
    """BM25 over title, text and training queries of each document."""

    def texts(self, dataset: Dataset) -> list[str]:
        """Returns the indexed text of each document, in corpus order."""
        return texts_with_training_queries(dataset)

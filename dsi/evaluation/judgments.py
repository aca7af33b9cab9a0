"""Maps passages to documents, so that judgments and measures are about whole documents."""

from __future__ import annotations

from collections.abc import Mapping

from data_prep.dataset import Dataset
from data_prep.passages import folded_each
from dsi.search.runs import Run, ranked


def judgments_of(dataset: Dataset, split: str) -> dict[str, dict[str, int]]:
    """Returns the judgments of a split: query_id -> {id of a whole document: relevance}.

    Args:
        dataset: The dataset, of documents or of passages.
        split: "train", "dev" or "test".
    """
    qrels = dataset.qrels_of(split)
    return qrels if dataset.info.passages is None else folded_each(qrels)


def documents_of(dataset: Dataset, run: Mapping[str, Mapping[str, float]], depth: int) -> Run:
    """Converts a run over a dataset to one over whole documents.

    Args:
        dataset: The dataset, of documents or of passages.
        run: query_id -> {document or passage: score}.
        depth: Number of documents kept per query.
    """
    if dataset.info.passages is None:
        return {query_id: dict(scores) for query_id, scores in run.items()}
    return {
        query_id: {doc_id: scores[doc_id] for doc_id in ranked(scores)[:depth]}
        for query_id, scores in folded_each(run).items()
    }

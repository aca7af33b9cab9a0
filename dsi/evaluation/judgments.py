"""Judgments and runs of whole documents, and groups of queries by what was judged in training."""

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


GROUPS = ("all", "seen", "unseen")


def group_queries(
    qrels: Mapping[str, Mapping[str, int]], training_qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, list[str]]:
    """Groups the queries of a split by whether their documents have a training query.

    A query is "seen" if one of its relevant documents is relevant to a labeled query of split
    train, and "unseen" otherwise. A query without a relevant document is in "all" only.

    Args:
        qrels: The split's judgments: query_id -> {doc_id: relevance}; above 0 is relevant.
        training_qrels: Judgments of split train.

    Returns:
        Group -> query ids in the order of `qrels`; every group of `GROUPS`, in that order.
    """
    trained = {
        doc_id
        for judgments in training_qrels.values()
        for doc_id, relevance in judgments.items()
        if relevance > 0
    }
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for query_id, judgments in qrels.items():
        relevant = {doc_id for doc_id, relevance in judgments.items() if relevance > 0}
        groups["all"].append(query_id)
        if relevant:
            groups["seen" if relevant & trained else "unseen"].append(query_id)
    return groups

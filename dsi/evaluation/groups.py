"""Query groups: queries whose documents have a training query, and queries without one."""

from __future__ import annotations

from collections.abc import Mapping

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

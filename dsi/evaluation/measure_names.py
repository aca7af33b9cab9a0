"""Names of measures in papers, and their explanations."""

from __future__ import annotations

SYMBOLS = {
    "Success@1": "Hits@1",
    "Success@10": "Hits@10",
    "Success@100": "Hits@100",
    "RR@10": "MRR@10",
    "nDCG@10": "nDCG@10",
    "R@100": "Recall@100",
    "All@10": "All@10",
}
FULL_NAMES = {
    "Success@1": "fraction of queries whose first document is relevant",
    "Success@10": "fraction of queries with a relevant document among the first 10",
    "Success@100": "fraction of queries with a relevant document among the first 100",
    "RR@10": "mean reciprocal rank of the first relevant document, 0 beyond rank 10",
    "nDCG@10": "normalized discounted cumulative gain of the first 10 documents",
    "R@100": "fraction of the relevant documents among the first 100",
    "All@10": "fraction of queries with all relevant documents among the first 10",
}
COSTS = {
    "training seconds": "wall-clock time of the training",
    "search seconds": "wall-clock time of the search",
    "GiB": "size of the index on disk",
}
"""Costs of a system; lower is better."""

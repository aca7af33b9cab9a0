"""Merges the identifiers found into documents: each once, with one score.

An identifier that several documents share returns all of them, each with its score (SE-DSI, KDD
2023, returns them in random order; here they are in table order). A document with several
identifiers (MINDER; few-shot generative retrieval) gets the logarithm of the sum of the
probabilities of those found. Either may have a document's own score added, which then tells the
documents of one identifier apart.
"""

from __future__ import annotations

import torch

from dsi.search.torch_trie import TorchTrie


def documents_of(
    leaves: torch.Tensor,
    scores: torch.Tensor,
    trie: TorchTrie,
    k: int,
    document_scores: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ranks the documents behind identifiers.

    Args:
        leaves: Leaves of the trie, each at most once per query, -1 for none; int64 [queries,
            found].
        scores: Their log-probabilities, -inf for none; float32 [queries, found].
        trie: The trie.
        k: How many documents to return for each query.
        document_scores: Scores to add to those of the documents; float32 [queries, table rows].

    Returns:
        Table rows, int64 [queries, k], best first, with ties broken by the lower row, and scores,
        float32 [queries, k]; missing ones have row -1 and score -inf.
    """
    queries = len(leaves)
    rows = torch.full((queries, k), -1, dtype=torch.int64, device=leaves.device)
    merged = torch.full((queries, k), -torch.inf, device=leaves.device)
    query, place = torch.nonzero((leaves >= 0) & (scores > -torch.inf), as_tuple=True)
    if not len(query):
        return rows, merged
    document, source = _members(leaves[query, place], trie)
    query, score = query[source], scores[query, place][source]
    # One number per pair of query and document, which sorts the pairs by both.
    most = int(document.max()) + 1
    pair, which = torch.unique(query * most + document, return_inverse=True)
    highest = torch.full((len(pair),), -torch.inf, device=score.device)
    highest.scatter_reduce_(0, which, score, "amax")
    total = torch.zeros_like(highest).scatter_add_(0, which, (score - highest[which]).exp())
    total = highest + total.log()
    query, document = pair // most, pair % most
    if document_scores is not None:
        total += document_scores[query, document]
    order = torch.sort(total, descending=True, stable=True).indices
    order = order[torch.sort(query[order], stable=True).indices]
    query = query[order]
    starts = torch.searchsorted(query, torch.arange(queries, device=query.device))
    rank = torch.arange(len(query), device=query.device) - starts[query]
    top = rank < k
    rows[query[top], rank[top]] = document[order][top]
    merged[query[top], rank[top]] = total[order][top]
    return rows, merged


def _members(leaves: torch.Tensor, trie: TorchTrie) -> tuple[torch.Tensor, torch.Tensor]:
    """Lists the documents at each of some leaves.

    Args:
        leaves: int64 [leaves].
        trie: The trie.

    Returns:
        Table rows, and for each its index into `leaves`; int64 [documents].
    """
    places = torch.arange(len(leaves), device=leaves.device)
    if not len(trie.shared_leaf):
        return trie.row[leaves].long(), places
    group = torch.searchsorted(trie.shared_leaf, leaves).clamp_max(len(trie.shared_leaf) - 1)
    shared = trie.shared_leaf[group] == leaves
    first = trie.shared_first[group]
    count = torch.where(shared, trie.shared_first[group + 1] - first, 1)
    source = places.repeat_interleave(count)
    offset = torch.arange(len(source), device=leaves.device) - (count.cumsum(0) - count)[source]
    at = (first[source] + offset).clamp_max(len(trie.shared_row) - 1)
    document = torch.where(shared[source], trie.shared_row[at], trie.row[leaves[source]].long())
    return document, source

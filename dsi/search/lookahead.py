"""Look-ahead: what the best document that a beam can still lead to scores elsewhere.

The form is that of PAG (Zeng et al., arXiv 2404.14600): a document-level score is computed for
the documents of highest score, and a prefix counts the highest of those that begin with it.
"""

from __future__ import annotations

import torch

from dsi.search.torch_trie import TorchTrie


class LookAhead:
    """Document scores of a batch of queries, looked up by trie node.

    Args:
        trie: The trie that is searched.
        rows: Table rows of the documents that have a score; -1 for none; int64
            [queries, documents].
        scores: Their scores, 0 or more; float32 [queries, documents].
    """

    def __init__(self, trie: TorchTrie, rows: torch.Tensor, scores: torch.Tensor) -> None:
        nodes = trie.leaf_of(rows)
        scores = scores.masked_fill(nodes < 0, 0.0)
        paths, worth = [], []
        nodes = nodes.clamp_min(0)
        parent = trie.parents()
        for _ in range(trie.depth):
            paths.append(nodes)
            worth.append(scores)
            nodes = parent[nodes].long()
        # By node, and the best document of each node first, so that a search from the left finds
        # it. The root, where short paths end, is never looked up.
        keys, values = torch.cat(paths, 1), torch.cat(worth, 1)
        by_worth = values.argsort(dim=1, descending=True, stable=True)
        keys, values = keys.gather(1, by_worth), values.gather(1, by_worth)
        by_node = keys.argsort(dim=1, stable=True)
        self._nodes = keys.gather(1, by_node)
        self._scores = values.gather(1, by_node)

    def of(self, queries: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """Returns the score of the best document below nodes, 0 where none has one.

        Args:
            queries: Whose scores; int64 [some queries].
            nodes: Not the root; int64 [some queries or 1, nodes].

        Returns:
            float32 [some queries, nodes].
        """
        known = self._nodes[queries]
        nodes = nodes.expand(len(queries), -1).contiguous()
        places = torch.searchsorted(known, nodes).clamp_max_(known.shape[1] - 1)
        return (
            self._scores[queries]
            .gather(1, places)
            .masked_fill_(known.gather(1, places) != nodes, 0.0)
        )

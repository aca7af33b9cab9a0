"""Look-ahead: the highest document score below a node of the trie, for all nodes at once.

It follows PAG (Zeng et al., arXiv 2404.14600): a prefix counts the highest score of the documents
that begin with it. PAG keeps the scores of some documents; here every document has one, so that the
maximum is exact.
"""

from __future__ import annotations

import torch

from dsi.search.torch_trie import TorchTrie


class LookAhead:
    """The document scores of a batch of queries, looked up by trie node.

    Args:
        trie: The trie being searched.
        scores: The score of each table row; float32 [queries, table rows].
    """

    def __init__(self, trie: TorchTrie, scores: torch.Tensor) -> None:
        self._slots = slots = trie.slots
        self._first_level = trie.branching[0]
        self._line = scores
        if slots.maxima:
            queries, rows = scores.shape
            self._line = scores.new_empty((queries, slots.maxima + rows))
            self._line[:, slots.maxima :] = scores
        end = slots.maxima
        for members, ends in slots.steps:
            start = end - len(ends) + 1
            self._line[:, start:end] = torch.segment_reduce(
                self._line.index_select(1, members),
                "max",
                offsets=ends.repeat(len(scores), 1),
                axis=1,
                unsafe=True,
            )
            end = start

    @staticmethod
    def elements_per_query(trie: TorchTrie, rows: int) -> int:
        """Estimates the number of elements held for one query, given the number of table rows."""
        # The line and, while maxima are computed, their members; and ranks in addition to scores.
        return 2 * (trie.slots.maxima + rows) + trie.branching[0]

    def of_first_level(self) -> torch.Tensor:
        """Returns the highest scores below the nodes of level 1; float32 [queries, nodes]."""
        if self._slots.first_level is not None:
            return self._line[:, self._slots.first_level]
        return self._line.index_select(1, self._slots.of_node[1 : 1 + self._first_level])

    def of(self, queries: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """Returns the highest score below nodes; float32 [some queries, nodes].

        Args:
            queries: The query of each row; int64 [some queries].
            nodes: Not the root; int64 [some queries, nodes].
        """
        return self._line[queries.unsqueeze(1), self._slots.of_node[nodes]]

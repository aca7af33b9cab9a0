"""Look-ahead: the highest document score below a node of the trie, for all nodes at once.

The form is that of PAG (Zeng et al., arXiv 2404.14600): a prefix counts the highest score of the
documents that begin with it. PAG keeps the scores of some documents; here every document has one,
so that the highest is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from dsi.search.torch_trie import TorchTrie


@dataclass(frozen=True)
class Slots:
    """Where the highest document score below each node of a trie stands in a line of numbers.

    The line is: one slot for each maximum that has to be computed, then the score of each table
    row. A leaf of one document stands at its row, and a node of one child where the child stands.
    Leaves of several documents and nodes of several children have a maximum.

    Attributes:
        of_node: int64 [nodes]; the root, which is never asked for, stands nowhere: -1.
        maxima: How many slots there are before the rows.
        steps: How they are computed, one run of neighbouring slots after the other, the last run
            of the line first. For each run: the slots whose maxima are taken, those of one maximum
            after those of the other, int32 [members], and where each one's begin and the last
            one's end, int64 [maxima of the run + 1].
        first_level: Where the nodes of the first level stand, if they are neighbours in the line.
    """

    of_node: torch.Tensor
    maxima: int
    steps: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    first_level: slice | None

    @classmethod
    def of_trie(cls, trie: TorchTrie) -> Slots:
        """Plans the slots of a trie, level by level from its end; reads each node a few times."""
        # Until their number is known, the slots of maxima count down from -1.
        slots = trie.row.to(torch.int64, copy=True)
        steps = []
        maxima = len(trie.shared_leaf)
        if maxima:
            steps.append((trie.shared_row, trie.shared_first))
            slots[trie.shared_leaf] = torch.arange(-maxima, 0, device=trie.device)
        starts = trie.level_starts
        for level in range(trie.depth - 1, 0, -1):
            nodes = slice(starts[level], starts[level + 1])
            below = slots[starts[level + 1] : starts[level + 2]]
            first = trie.first_child[nodes.start : nodes.stop + 1].long()
            children = first.diff()
            single, several = children == 1, children > 1
            here = slots[nodes]
            here[single] = below[first[:-1][single] - starts[level + 1]]
            count = int(several.sum())
            if count:
                members = below[several.repeat_interleave(children)]
                ends = children[several].cumsum(0)
                steps.append((members, torch.cat([ends.new_zeros(1), ends])))
                here[several] = torch.arange(-maxima - count, -maxima, device=trie.device)
                maxima += count
        slots += maxima
        slots[0] = -1
        return cls(
            slots,
            maxima,
            tuple(((members + maxima).int(), ends) for members, ends in steps),
            neighbours(slots[1 : 1 + trie.branching[0]]),
        )


def neighbours(places: torch.Tensor) -> slice | None:
    """Returns the slice that consecutive places [places] are, None where they are not."""
    start = int(places[0])
    if bool((places.diff() == 1).all()):
        return slice(start, start + len(places))
    return None


class LookAhead:
    """The document scores of a batch of queries, looked up by trie node.

    Args:
        trie: The trie that is searched.
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
        """Estimates how many numbers are held for one query, of so many table rows."""
        # The line and, while maxima are taken, their members; and ranks beside scores.
        return 2 * (trie.slots.maxima + rows) + trie.branching[0]

    def of_first_level(self) -> torch.Tensor:
        """Returns the highest scores below the nodes of level 1; float32 [queries, nodes]."""
        if self._slots.first_level is not None:
            return self._line[:, self._slots.first_level]
        return self._line.index_select(1, self._slots.of_node[1 : 1 + self._first_level])

    def of(self, queries: torch.Tensor, nodes: torch.Tensor) -> torch.Tensor:
        """Returns the highest score below nodes; float32 [some queries, nodes].

        Args:
            queries: Whose scores; int64 [some queries].
            nodes: Not the root; int64 [some queries, nodes].
        """
        return self._line[queries.unsqueeze(1), self._slots.of_node[nodes]]

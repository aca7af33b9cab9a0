"""The trie over the identifiers as tensors on the model's device."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from data_prep.errors import InputError
from docids.trie import Trie


@dataclass(frozen=True)
class Slots:
    """The layout of the highest document score below each trie node, in one line of numbers.

    The line has one slot for each maximum to compute, then the score of each table row. A leaf with
    one document has the slot of its row, and a node with one child that of the child. Leaves with
    several documents and nodes with several children need a maximum.

    Attributes:
        of_node: int64 [nodes]; the root, which is never queried, has none: -1.
        maxima: Number of slots before the rows.
        steps: How they are computed, one run of adjacent slots at a time, from the last run of the
            line to the first. For each run: the slots to take maxima of, grouped by maximum, int32
            [members], and the offsets of the groups, int64 [maxima of the run + 1].
        first_level: The slots of the first-level nodes, if they are adjacent in the line.
    """

    of_node: torch.Tensor
    maxima: int
    steps: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    first_level: slice | None

    @classmethod
    def of_trie(cls, trie: TorchTrie) -> Slots:
        """Assigns the slots of a trie, level by level from its end; reads each node a few times."""
        # Until their number is known, the slots of maxima are numbered down from -1.
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
            slots_here = slots[nodes]
            slots_here[single] = below[first[:-1][single] - starts[level + 1]]
            count = int(several.sum())
            if count:
                members = below[several.repeat_interleave(children)]
                ends = children[several].cumsum(0)
                steps.append((members, torch.cat([ends.new_zeros(1), ends])))
                slots_here[several] = torch.arange(-maxima - count, -maxima, device=trie.device)
                maxima += count
        slots += maxima
        slots[0] = -1
        return cls(
            slots,
            maxima,
            tuple(((members + maxima).int(), ends) for members, ends in steps),
            neighbors(slots[1 : 1 + trie.branching[0]]),
        )


def neighbors(places: torch.Tensor) -> slice | None:
    """Returns consecutive indices [places] as a slice, or None if they are not consecutive."""
    start = int(places[0])
    if bool((places.diff() == 1).all()):
        return slice(start, start + len(places))
    return None


@dataclass(frozen=True)
class TorchTrie:
    """A `docids.trie.Trie` on a device, with the additional arrays that beam search needs.

    Attributes:
        first_child: The children of node n are the nodes `first_child[n]` to
            `first_child[n + 1] - 1`, in ascending order of their codes; integers [nodes + 1].
        code: The code on the edge into a node, -1 at the root; int32 [nodes].
        row: The table row of a leaf, the lowest if there are several, -1 elsewhere; int32 [nodes].
        lowest_row: The lowest table row at or below a node, which orders nodes of equal score;
            int32 [nodes].
        branching: Maximum number of children of a node of each level; one entry per level but the
            last.
        inner: Number of nodes of each level that have children; one entry per level.
        leaves: Number of nodes of each level that are identifiers; one entry per level.
        tail: Number of codes from a node to its only leaf, if nothing branches on the way; 0 at
            leaves and if something branches; int32 [nodes].
        chains: Number of nodes of each level that have such a tail; one entry per level.
        shared_leaf: The leaves with several documents, ascending; int64 [shared leaves].
        shared_first: Where the documents of each of them start in `shared_row`, and the end of the
            last; int64 [shared leaves + 1].
        shared_row: Their table rows; int64 [documents at shared leaves].
        documents: Number of documents that the trie leads to.
    """

    first_child: torch.Tensor
    code: torch.Tensor
    row: torch.Tensor
    lowest_row: torch.Tensor
    branching: tuple[int, ...]
    inner: tuple[int, ...]
    leaves: tuple[int, ...]
    tail: torch.Tensor
    chains: tuple[int, ...]
    shared_leaf: torch.Tensor
    shared_first: torch.Tensor
    shared_row: torch.Tensor
    documents: int

    @classmethod
    def from_trie(cls, trie: Trie, device: torch.device | str = "cpu") -> TorchTrie:
        """Copies a trie to a device.

        Args:
            trie: The trie; a memory-mapped one is read completely.
            device: Device of the model.
        """
        is_leaf = np.asarray(trie.row) >= 0
        starts = np.asarray(trie.level_start)
        leaves = np.add.reduceat(is_leaf, starts[:-1], dtype=np.int64)
        inner = np.diff(starts) - leaves
        tail = _tails(trie)
        chains = np.add.reduceat(tail > 0, starts[:-1], dtype=np.int64)

        def tensor(array: np.ndarray) -> torch.Tensor:
            # Copied because a memory map is read-only, which torch tensors do not support.
            return torch.from_numpy(np.array(array)).to(device)

        return cls(
            first_child=tensor(trie.first_child),
            code=tensor(trie.code),
            row=tensor(trie.row),
            lowest_row=tensor(_lowest_rows(trie)),
            branching=tuple(int(most) for most in trie.max_branching),
            inner=tuple(int(count) for count in inner),
            leaves=tuple(int(count) for count in leaves),
            tail=tensor(tail),
            chains=tuple(int(count) for count in chains),
            shared_leaf=tensor(trie.shared_leaf).long(),
            shared_first=tensor(trie.shared_first).long(),
            shared_row=tensor(trie.shared_row).long(),
            documents=trie.documents,
        )

    def to(self, device: torch.device | str) -> TorchTrie:
        """Moves the trie to a device; returns itself if it is already there."""
        if self.device == torch.device(device):
            return self
        values = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        moved: dict[str, Any] = {
            name: v.to(device) for name, v in values if isinstance(v, torch.Tensor)
        }
        return replace(self, **moved)

    def restricted(self, live: torch.Tensor) -> TorchTrie:
        """Returns the trie of some of its documents, as `from_trie` would without the others.

        A node is kept if a document below it is. Kept nodes keep their order, so nothing is sorted
        or rebuilt: they are counted and copied.

        Args:
            live: Which table rows to keep; bool [table rows].

        Raises:
            InputError: No document is kept.
        """
        is_kept = (self.row >= 0) & live[self.row.clamp_min(0).long()]
        row = self.row.clone()
        # Some documents of a shared leaf may be kept; the lowest of them then represents it.
        stay = live[self.shared_row]
        group = torch.arange(len(self.shared_leaf), device=self.device)
        group = group.repeat_interleave(self.shared_first.diff())
        counts = torch.zeros_like(self.shared_leaf).scatter_add_(0, group, stay.long())
        is_kept[self.shared_leaf] = counts > 0
        lowest = torch.full_like(self.shared_leaf, torch.iinfo(torch.int32).max)
        lowest.scatter_reduce_(0, group[stay], self.shared_row[stay], "amin")
        row[self.shared_leaf] = lowest.to(row.dtype)
        documents = torch.cat([row[is_kept].long(), self.shared_row[stay]]).unique().numel()
        starts = self.level_starts
        for level in range(self.depth - 1, -1, -1):
            first = self.first_child[starts[level] : starts[level + 1] + 1].long()
            below = _counted(is_kept[starts[level + 1] : starts[level + 2]])
            below = below[first.clamp(max=starts[level + 2]) - starts[level + 1]]
            is_kept[starts[level] : starts[level + 1]] |= below[1:] > below[:-1]
        if not is_kept[0]:
            raise InputError(
                "there is no document left to search",
                hint="Choose documents of the index that were not deleted",
            )
        before = _counted(is_kept)
        survivors = is_kept.nonzero().squeeze(1)
        ends = torch.cat([survivors, survivors.new_tensor([len(is_kept)])])
        first_child = before[self.first_child[ends].long()].to(self.first_child.dtype)
        level_start = before[torch.tensor(starts, device=self.device)]
        branches = counts > 1

        def array(tensor: torch.Tensor, kind: type[np.generic]) -> np.ndarray:
            return tensor.cpu().numpy().astype(kind)

        part = Trie(
            first_child.cpu().numpy(),
            array(self.code[survivors], np.int32),
            array(row[survivors], np.int32),
            array(level_start, np.int64),
            np.zeros(0, np.int32),
            array(before[self.shared_leaf[branches]], np.int64),
            array(_counted(counts[branches]), np.int64),
            array(self.shared_row[stay & branches[group]], np.int32),
            documents,
        )
        return TorchTrie.from_trie(_trimmed(part), self.device)

    @property
    def depth(self) -> int:
        """The number of codes of the longest identifier."""
        return len(self.branching)

    @property
    def identifiers(self) -> int:
        """The number of distinct identifiers."""
        return sum(self.leaves)

    @property
    def one_to_one(self) -> bool:
        """Whether every leaf is one document, and every document one leaf."""
        return self.identifiers == self.documents and not len(self.shared_leaf)

    @cached_property
    def level_starts(self) -> tuple[int, ...]:
        """The first node of each level, then the number of nodes; [depth + 2]."""
        return (0, *accumulate(map(sum, zip(self.leaves, self.inner, strict=True))))

    @cached_property
    def rows(self) -> int:
        """A lower bound of the number of table rows: one more than the highest row here."""
        shared = int(self.shared_row.max()) if len(self.shared_row) else 0
        return 1 + max(int(self.row.max()), shared)

    @cached_property
    def first_codes(self) -> slice | None:
        """The codes on the first level, if they are consecutive."""
        return neighbors(self.code[1 : 1 + self.branching[0]])

    @cached_property
    def slots(self) -> Slots:
        """The layout that look-ahead uses to find the best document below each node."""
        return Slots.of_trie(self)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.code.device

    def first_levels(self, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the codes and the parents of the nodes on the first levels, without the root.

        Args:
            levels: Number of levels below the root.

        Returns:
            int64 [nodes] each.
        """
        above, end = self.level_starts[levels], self.level_starts[levels + 1]
        children = self.first_child[: above + 1].long().diff()
        parents = torch.arange(above, device=self.device).repeat_interleave(children)
        return self.code[1:end].long(), parents

    def children(self, nodes: torch.Tensor, branching: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Lists the children of nodes, padded to a common number.

        Args:
            nodes: int64 [...].
            branching: At least the maximum number of children of any of `nodes`.

        Returns:
            Child nodes, int64 [..., branching], and which of them exist, bool [..., branching].
            Missing children are node 1, whose code and row can be looked up.
        """
        places = torch.arange(branching, device=nodes.device)
        children = self.first_child[nodes].long().unsqueeze(-1) + places
        exist = children < self.first_child[nodes + 1].unsqueeze(-1)
        return children.masked_fill(~exist, 1), exist

    def continuations(
        self, nodes: torch.Tensor, branching: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Lists the children of nodes as `children` does, with the codes on the edges.

        Returns:
            Child nodes and codes, int64, and which of them exist, bool; [..., branching].
        """
        children, exist = self.children(nodes, branching)
        return children, self.code[children].long(), exist

    def step(self, nodes: torch.Tensor, codes: torch.Tensor, branching: int) -> torch.Tensor:
        """Follows one edge from each node, by binary search among its children.

        Args:
            nodes: int64 [...]; -1 for a prefix that is not in the trie.
            codes: The code on the edge; int64 [...].
            branching: At least the maximum number of children of any of `nodes`.

        Returns:
            int64 [...]; -1 if there is no such edge.
        """
        safe_nodes = nodes.clamp_min(0)
        low = self.first_child[safe_nodes].long()
        end = self.first_child[safe_nodes + 1].long()
        high = end
        last = len(self.code) - 1
        for _ in range(branching.bit_length()):
            middle = (low + high) // 2
            below = (low < high) & (self.code[middle.clamp_max(last)] < codes)
            low, high = torch.where(below, middle + 1, low), torch.where(below, high, middle)
        reached = (nodes >= 0) & (low < end) & (self.code[low.clamp_max(last)] == codes)
        return low.masked_fill(~reached, -1)


def _counted(numbers: torch.Tensor) -> torch.Tensor:
    """Returns the exclusive cumulative sum, followed by the total; int64 [places + 1]."""
    return torch.cat([numbers.new_zeros(1, dtype=torch.int64), numbers.cumsum(0)])


def _trimmed(trie: Trie) -> Trie:
    """Returns a trie without trailing empty levels, and with its branching computed."""
    levels = np.flatnonzero(np.diff(trie.level_start))[-1]
    children = np.diff(trie.first_child)
    starts = trie.level_start[: levels + 2]
    most = np.maximum.reduceat(children, starts[:-2]).astype(np.int32)
    return replace(trie, level_start=starts, max_branching=most)


def _lowest_rows(trie: Trie) -> np.ndarray:
    """Returns the lowest table row at or below each node; int32 [nodes]."""
    lowest = np.array(trie.row, np.int32)
    first_child = np.asarray(trie.first_child)
    for level in range(trie.depth - 1, -1, -1):
        nodes = np.arange(trie.level_start[level], trie.level_start[level + 1])
        nodes = nodes[first_child[nodes] < first_child[nodes + 1]]
        below = slice(int(trie.level_start[level + 1]), int(trie.level_start[level + 2]))
        # The children of a level's nodes are consecutive and fill the next level.
        lowest[nodes] = np.minimum.reduceat(lowest[below], first_child[nodes] - below.start)
    return lowest


def _tails(trie: Trie) -> np.ndarray:
    """Returns the number of codes from each node to its only document; int32 [nodes]."""
    first_child = np.asarray(trie.first_child)
    tail = np.zeros(len(trie), np.int32)
    is_leaf = np.asarray(trie.row) >= 0
    for level in range(trie.depth - 1, -1, -1):
        nodes = slice(int(trie.level_start[level]), int(trie.level_start[level + 1]))
        first = first_child[nodes]
        single = np.diff(first_child[nodes.start : nodes.stop + 1]) == 1
        # A node without children may be the very last one, with no node after it.
        below = np.minimum(first, len(trie) - 1)
        goes_on = single & (is_leaf[below] | (tail[below] > 0))
        tail[nodes] = np.where(goes_on, tail[below] + 1, 0)
    return tail

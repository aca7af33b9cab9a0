"""The prefix tree over the live identifiers, in arrays that need no loop over documents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.store import open_store, write_store
from docids.table import DocidTable


@dataclass(frozen=True)
class Trie:
    """A trie whose nodes are numbered breadth first, from the root 0.

    The children of node n are the nodes `first_child[n]` to `first_child[n + 1] - 1`, in
    ascending order of their codes, so that one gather lists the codes that may follow a prefix
    and one addition gives the node that each leads to. Every leaf is a document.

    Attributes:
        first_child: int32 (int64 from 2^31 nodes on) [nodes + 1].
        code: The code on the edge into each node, -1 at the root; int32 [nodes].
        row: The table row at a leaf, -1 elsewhere; int32 [nodes].
        level_start: The nodes of level l are `level_start[l]` to `level_start[l + 1] - 1`;
            int64 [depth + 2].
        max_branching: The most children of a node of each level that has any; int32 [depth].
    """

    first_child: np.ndarray
    code: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    level_start: npt.NDArray[np.int64]
    max_branching: npt.NDArray[np.int32]

    @classmethod
    def build(cls, table: DocidTable) -> Trie:
        """Builds the trie of a table's live rows.

        Time is that of sorting the identifiers; memory beside the result is a few integers for
        each row.

        Raises:
            InputError: The table has no live row.
        """
        identifiers = table.identifiers
        rows = identifiers.sort(table.live, table.alphabet_size)
        if not len(rows):
            raise InputError(
                "no document to search: the identifier table has no live row",
                mend="Assign identifiers to at least one document",
            )
        lengths = table.lengths[rows]
        codes = [np.array([-1], np.int32)]
        leaves: list[npt.NDArray[np.int64]] = []
        leaf_rows: list[npt.NDArray[np.int32]] = []
        first_children = []
        level_start = [0, 1]
        # A node is known by the first of the sorted rows below it. A row opens a node of the
        # next level where its prefix differs from that of the row before.
        nodes = np.zeros(1, np.int64)
        differs = np.zeros(len(rows), bool)
        differs[0] = True
        for level in range(int(lengths.max())):
            column = identifiers.column(rows, level)
            differs[1:] |= column[1:] != column[:-1]
            children = np.flatnonzero(differs & (lengths > level))
            first_child = level_start[-1] + np.searchsorted(children, nodes)
            first_children.append(_narrowed(first_child))
            codes.append(column[children].astype(np.int32, copy=False))
            ended = np.flatnonzero(lengths[children] == level + 1)
            leaves.append(level_start[-1] + ended)
            leaf_rows.append(rows[children[ended]].astype(np.int32))
            level_start.append(level_start[-1] + len(children))
            nodes = children
        total = level_start[-1]
        first_children.append(_narrowed(np.full(len(nodes) + 1, total)))
        del nodes, children, differs, column, rows, lengths, ended
        first_child = np.concatenate(first_children)
        first_children.clear()
        code = np.concatenate(codes)
        codes.clear()
        row = np.full(total, -1, np.int32)
        row[np.concatenate(leaves)] = np.concatenate(leaf_rows)
        branching = np.maximum.reduceat(np.diff(first_child), level_start[:-2])
        return cls(
            first_child,
            code,
            row,
            np.array(level_start, np.int64),
            branching.astype(np.int32),
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the trie as `folder`, replacing it as a whole."""
        arrays = {
            "first_child": self.first_child,
            "code": self.code,
            "row": self.row,
            "level_start": self.level_start,
            "max_branching": self.max_branching,
        }
        write_store(folder, "trie", {"nodes": len(self), "depth": self.depth}, arrays)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Trie:
        """Opens a saved trie by memory map.

        Raises:
            InputError: It is not a trie, or a file of it is missing or cut short.
        """
        _, arrays = open_store(folder, "trie")
        try:
            return cls(
                arrays["first_child"],
                arrays["code"],
                arrays["row"],
                arrays["level_start"],
                arrays["max_branching"],
            )
        except KeyError as error:
            raise InputError(f"the trie lacks its {error.args[0]!r}", where=folder) from None

    def __len__(self) -> int:
        """The number of nodes, root and leaves included."""
        return len(self.code)

    @property
    def depth(self) -> int:
        """The number of codes of the longest identifier."""
        return len(self.max_branching)

    def walk(self, codes: Sequence[int]) -> int:
        """Returns the node that a prefix leads to, -1 where no identifier starts with it."""
        node = 0
        for code in codes:
            first, last = int(self.first_child[node]), int(self.first_child[node + 1])
            child = first + int(np.searchsorted(self.code[first:last], code))
            if child == last or self.code[child] != code:
                return -1
            node = child
        return node

    def allowed(self, prefix: Sequence[int]) -> npt.NDArray[np.int32]:
        """Returns the codes that may follow a prefix, ascending; none after a whole identifier.

        Returns:
            int32 [codes]; empty where no identifier starts with `prefix`.
        """
        node = self.walk(prefix)
        if node < 0:
            return np.empty(0, np.int32)
        return self.code[self.first_child[node] : self.first_child[node + 1]]


def _narrowed(nodes: npt.NDArray[np.int64]) -> np.ndarray:
    """Returns ascending node numbers as int32 where the last of them fits."""
    return nodes.astype(np.int32) if nodes[-1] < np.iinfo(np.int32).max else nodes

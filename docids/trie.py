"""The prefix tree over the live identifiers, in arrays built without a loop over documents."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.store import check_offsets, integers, naming, open_store, write_store
from docids.table import MOST_COMPARED, DocidTable

_CHUNK = 1 << 20  # nodes processed at a time; bounds the working memory


@dataclass(frozen=True)
class Trie:
    """A trie whose nodes are numbered breadth-first, from the root, 0.

    The children of node n are the nodes `first_child[n]` to `first_child[n + 1] - 1`, in ascending
    order of their codes, so that one gather lists the codes that may follow a prefix and one
    addition gives the node of each. Every leaf is a complete identifier.

    A leaf leads to the documents that have its identifier: one, unless the table is shared. A
    document has as many leaves as identifiers: one, unless it was given several.

    Attributes:
        first_child: int32 (int64 from 2^31 nodes on) [nodes + 1].
        code: The code on the edge into each node, -1 at the root; int32 [nodes].
        row: The table row of a leaf, the lowest if there are several, -1 elsewhere; int32 [nodes].
        level_start: The nodes of level l are `level_start[l]` to `level_start[l + 1] - 1`;
            int64 [depth + 2].
        max_branching: The maximum number of children of a node, for each level that has any; int32
            [depth].
        shared_leaf: The leaves with several documents, ascending; integers [shared leaves].
        shared_first: The documents of the i-th of them are `shared_row[shared_first[i] :
            shared_first[i + 1]]`; int64 [shared leaves + 1].
        shared_row: Their table rows, ascending inside a leaf; int32 [documents at shared leaves].
        documents: How many documents there are.
    """

    first_child: np.ndarray
    code: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]
    level_start: npt.NDArray[np.int64]
    max_branching: npt.NDArray[np.int32]
    shared_leaf: npt.NDArray[np.int64]
    shared_first: npt.NDArray[np.int64]
    shared_row: npt.NDArray[np.int32]
    documents: int

    @classmethod
    def build(cls, table: DocidTable) -> Trie:
        """Builds the trie of a table's live rows.

        The time is that of sorting the identifiers; beyond the result, it takes a few integers of
        memory per row.

        Raises:
            InputError: The table has no live rows.
        """
        identifiers = table.identifiers
        numbers = identifiers.sort(table.live_identifiers, table.alphabet_size, stable=table.shared)
        if not len(numbers):
            raise InputError(
                "there is no document to search: the identifier table has no live row",
                hint="Assign identifiers to at least one document",
            )
        lengths = table.lengths[numbers].astype(np.int32)
        rows = (numbers if table.one_each else table.owners[numbers]).astype(np.int32)
        numbers = _narrowed(numbers, len(table.offsets))
        codes = [np.array([-1], np.int32)]
        leaves: list[np.ndarray] = []
        first_of_leaf: list[np.ndarray] = []
        first_children = []
        branching = []
        level_start = [0, 1]
        # A node is represented by the first of the sorted identifiers below it. An identifier opens
        # a node of the next level if its prefix differs from that of the previous one.
        nodes: np.ndarray = np.zeros(1, np.int32)
        differs = np.zeros(len(numbers), bool)
        differs[0] = True
        for level in range(int(lengths.max())):
            column = identifiers.column(numbers, level)
            differs[1:] |= column[1:] != column[:-1]
            children = _narrowed(np.flatnonzero(differs & (lengths > level)), len(numbers))
            codes.append(column[children].astype(np.int32, copy=False))
            del column
            first_children.append(_first_children(nodes, children, level_start[-1]))
            # The last node's children end at the end of the level.
            end = level_start[-1] + len(children)
            branching.append(_widest(first_children[-1], end))
            ended = np.flatnonzero(lengths[children] == level + 1)
            leaves.append(_narrowed(level_start[-1] + ended, end))
            first_of_leaf.append(children[ended])
            del ended
            level_start.append(end)
            nodes = children
        total = level_start[-1]
        first_children.append(_narrowed(np.full(len(nodes) + 1, total), total))
        del nodes, children, numbers, lengths
        first_child = np.concatenate(first_children)
        first_children.clear()
        code = np.concatenate(codes)
        codes.clear()
        row = np.full(total, -1, np.int32)
        for leaf, first in zip(leaves, first_of_leaf, strict=True):
            row[leaf] = rows[first]
        return cls(
            first_child,
            code,
            row,
            np.array(level_start, np.int64),
            np.array(branching, np.int32),
            *_shared_leaves(leaves, first_of_leaf, rows, differs),
            documents=len(table.live),
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the trie to `folder`, replacing the whole folder."""
        arrays = {
            "first_child": self.first_child,
            "code": self.code,
            "row": self.row,
            "level_start": self.level_start,
            "max_branching": self.max_branching,
        }
        if len(self.shared_leaf):
            arrays["shared_leaf"] = self.shared_leaf
            arrays["shared_first"] = self.shared_first
            arrays["shared_row"] = self.shared_row
        header = {"nodes": len(self), "depth": self.depth, "documents": self.documents}
        write_store(folder, "trie", header, arrays)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Trie:
        """Opens a saved trie as memory maps.

        The content of its arrays is not validated; see `check`.

        Raises:
            InputError: It is not a trie, or a file of it is missing or truncated.
        """
        header, arrays = open_store(folder, "trie")
        with naming(folder):
            none = np.empty(0, np.int32)
            documents = header.get("documents")
            if documents is None:  # written when every leaf had one document
                documents = int((arrays["row"] >= 0).sum())
            return cls(
                arrays["first_child"],
                arrays["code"],
                arrays["row"],
                arrays["level_start"],
                arrays["max_branching"],
                arrays.get("shared_leaf", none.astype(np.int64)),
                arrays.get("shared_first", np.zeros(1, np.int64)),
                arrays.get("shared_row", none),
                int(documents),
            )

    def check(self, table: DocidTable) -> None:
        """Checks that this is the trie of a table's live rows; reads all of it once.

        Above `MOST_COMPARED` identifiers, the codes on the path to a document are not compared with
        the table, except for the last one.

        Args:
            table: A table that passed its own check.

        Raises:
            InputError: It is damaged, or belongs to another table.
        """
        self._check_form()
        if len(table.live_identifiers) <= MOST_COMPARED:
            same = Trie.build(table)
            for entry in fields(self):
                stored, rebuilt = getattr(self, entry.name), getattr(same, entry.name)
                if not np.array_equal(stored, rebuilt):
                    raise InputError(f"the trie does not match the identifiers ({entry.name})")
            return
        leaves = np.flatnonzero(self.row >= 0)
        rows = np.union1d(self.row[leaves], self.shared_row)
        if len(rows) != len(table.live) or not np.array_equal(rows, table.live):
            raise InputError(f"the trie contains {len(rows)} of {len(table.live)} documents")
        if table.one_each:
            last = table.last_codes(self.row[leaves].astype(np.int64))
            if not np.array_equal(last, self.code[leaves]):
                raise InputError("the trie does not match the identifiers")

    def _check_form(self) -> None:
        """Raises InputError if the arrays do not form a trie."""
        for entry in fields(self):
            if entry.name != "documents":
                integers(getattr(self, entry.name), entry.name)
        nodes, depth = len(self), self.depth
        starts, first = np.asarray(self.level_start), np.asarray(self.first_child)
        if nodes < 2 or depth < 1 or len(self.row) != nodes:
            raise InputError(f"{nodes} nodes, {len(self.row)} rows, {depth} levels")
        if len(starts) != depth + 2 or len(first) != nodes + 1 or len(self.max_branching) != depth:
            raise InputError(
                f"{len(starts)} starts and {len(first)} first children for {depth} levels"
            )
        check_offsets(starts, nodes, "where levels start")
        if bool((np.diff(starts) < 1).any()) or starts[1] != 1:
            raise InputError("a level has no nodes")
        # The children of a level make up the next level, in order.
        check_offsets(np.append(0, first), nodes, "first children")
        if not np.array_equal(first[starts[:-1]], starts[1:]):
            raise InputError("first children are not on the next level")
        children = np.diff(first)
        most = np.maximum.reduceat(children, starts[:-2])
        if not np.array_equal(most, self.max_branching):
            raise InputError("the largest number of children does not match the nodes")
        if not np.array_equal(children == 0, np.asarray(self.row) >= 0):
            raise InputError("a leaf has no document, or a document is not at a leaf")
        code = np.asarray(self.code)
        first_born = np.zeros(nodes, bool)
        first_born[first[:-1][children > 0]] = True
        if (
            code[0] != -1
            or code[1:].min() < 1
            or not bool((first_born[1:] | (code[1:] > code[:-1])).all())
        ):
            raise InputError("codes are not in order")
        check_offsets(self.shared_first, len(self.shared_row), "documents of shared leaves")
        if len(self.shared_first) != len(self.shared_leaf) + 1:
            raise InputError(f"unexpected number of shared leaves: {len(self.shared_leaf)}")
        leaf = np.asarray(self.shared_leaf)
        if len(leaf) and (leaf.min() < 0 or leaf.max() >= nodes or self.row[leaf].min() < 0):
            raise InputError("a shared leaf is not a leaf")

    def __len__(self) -> int:
        """The number of nodes, including root and leaves."""
        return len(self.code)

    @property
    def depth(self) -> int:
        """The length of the longest identifier in codes."""
        return len(self.max_branching)

    def rows_at(self, leaf: int) -> npt.NDArray[np.int32]:
        """Returns the table rows of the documents at a leaf, ascending; none at another node."""
        place = int(np.searchsorted(self.shared_leaf, leaf))
        if place < len(self.shared_leaf) and self.shared_leaf[place] == leaf:
            return self.shared_row[self.shared_first[place] : self.shared_first[place + 1]]
        return np.array(self.row[leaf : leaf + 1][self.row[leaf : leaf + 1] >= 0])

    def walk(self, codes: Sequence[int]) -> int:
        """Returns the node that a prefix leads to, -1 where no identifier starts with it."""
        # Reading single entries of a memory map is slow, and slicing it is slower.
        first_child, code_of = np.asarray(self.first_child), np.asarray(self.code)
        node = 0
        for code in codes:
            first, last = first_child.item(node), first_child.item(node + 1)
            child = bisect_left(code_of, code, first, last)
            if child == last or code_of.item(child) != code:
                return -1
            node = child
        return node

    def allowed(self, prefix: Sequence[int]) -> npt.NDArray[np.int32]:
        """Returns the codes that may follow a prefix, ascending; none after a complete identifier.

        Returns:
            int32 [codes]; empty if no identifier starts with `prefix`.
        """
        node = self.walk(prefix)
        if node < 0:
            return np.empty(0, np.int32)
        return np.asarray(self.code)[self.first_child[node] : self.first_child[node + 1]]


def _narrowed(numbers: npt.NDArray[np.int64], end: int) -> np.ndarray:
    """Returns numbers of at most `end` as int32 if they fit."""
    return numbers.astype(np.int32) if end <= np.iinfo(np.int32).max else numbers


def _first_children(nodes: np.ndarray, children: np.ndarray, start: int) -> np.ndarray:
    """Returns the first child of each node of a level.

    Args:
        nodes: The index of the first identifier below each node; ascending.
        children: The same for the nodes of the next level.
        start: The number of the first of those.
    """
    fits_int32 = start + len(children) <= np.iinfo(np.int32).max
    first = np.empty(len(nodes), np.int32 if fits_int32 else np.int64)
    for begin in range(0, len(nodes), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        first[part] = start + np.searchsorted(children, nodes[part])
    return first


def _widest(first_child: np.ndarray, end: int) -> int:
    """Returns the maximum number of children of a node, from first children and their end."""
    widest = end - int(first_child[-1])
    for begin in range(0, len(first_child), _CHUNK):
        part = first_child[begin : begin + _CHUNK + 1]
        widest = max(widest, int(np.diff(part).max(initial=0)))
    return widest


def _shared_leaves(
    leaves: list[np.ndarray],
    first_of_leaf: list[np.ndarray],
    rows: npt.NDArray[np.int32],
    differs: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Collects the leaves with several documents, and the documents.

    Args:
        leaves: The leaves of each level, ascending; integers [leaves].
        first_of_leaf: The index of the first identifier of each in sorted order; integers [leaves].
        rows: The row of each identifier in sorted order; int32 [identifiers].
        differs: Which identifiers differ from the previous one; bool [identifiers].

    Returns:
        `shared_leaf`, `shared_first` and `shared_row` of `Trie`.
    """
    if differs.all():
        return np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0, np.int32)
    leaf = np.concatenate(leaves).astype(np.int64)
    first = np.concatenate(first_of_leaf).astype(np.int64)
    starts = np.append(np.flatnonzero(differs), len(differs))
    group = np.searchsorted(starts, first)
    sizes = starts[group + 1] - starts[group]
    shared = np.flatnonzero(sizes > 1)
    offsets = np.zeros(len(shared) + 1, np.int64)
    np.cumsum(sizes[shared], out=offsets[1:])
    owner = np.repeat(np.arange(len(shared)), sizes[shared])
    places = np.arange(int(offsets[-1])) - offsets[owner] + first[shared][owner]
    return leaf[shared], offsets, rows[places]

"""Identifiers that spell a path through a tree of clusters, then a number within the leaf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.marks import Advanced, Count, Range
from docids.kinds.base import Built
from docids.ragged import Ragged
from docids.table import FIRST_CODE, DocidTable

NODE_DOCUMENTS = 100_000
"""Largest corpus for which, by default, each branch and document has a code of its own."""


@dataclass(frozen=True)
class TreeOptions(Options):
    """The tree of clusters, and how its paths are written as codes."""

    branching: Advanced[Annotated[int, Range(ge=2)]] = 10
    """Clusters per split"""
    leaf_capacity: Advanced[Count] = 100
    """Maximum documents in a leaf cluster"""
    iterations: Advanced[Count] = 20
    """k-means iterations per split"""
    codes: Advanced[Literal["auto", "shared", "level", "node"]] = "auto"
    """Alphabet of the codes. node: one code per branch and document; level: one digit set per level
    (NCI); shared: one digit set (DSI). auto is node up to 100,000 documents, level above"""

    def resolved(self, documents: int) -> TreeOptions:
        """Returns the options with `codes` resolved for this number of documents."""
        if self.codes != "auto":
            return self
        return replace(self, codes="node" if documents <= NODE_DOCUMENTS else "level")


@dataclass(frozen=True)
class CodedTree:
    """A tree of clusters with the codes of its edges and the fill of its leaves.

    Attributes:
        parent: -1 at the root; a cluster's children are adjacent; int32 [clusters].
        code: The code on the edge into each cluster, 0 at the root; int32 [clusters].
        issued: Numbers issued so far in each leaf, 0 elsewhere; int64 [clusters].
        number_codes: The code of each number within a leaf, -1 if none is reserved; one row for
            each level of the last code, or one row for all levels (shared), or no row (node: each
            document's number is a new code); int32 [levels, numbers].
    """

    parent: npt.NDArray[np.int32]
    code: npt.NDArray[np.int32]
    issued: npt.NDArray[np.int64]
    number_codes: npt.NDArray[np.int32]

    @classmethod
    def plan(
        cls,
        parent: npt.NDArray[np.int32],
        digit: npt.NDArray[np.int32],
        leaf: npt.NDArray[np.int32],
        scheme: str,
    ) -> tuple[CodedTree, int]:
        """Assigns codes to the edges of a tree.

        Args:
            parent: See the class.
            digit: The position of each cluster among its siblings; int32 [clusters].
            leaf: The leaf of each document; int32 [documents].
            scheme: "shared", "level" or "node".

        Returns:
            The tree with no numbers issued, and the size of the alphabet.
        """
        clusters = len(parent)
        issued = np.zeros(clusters, np.int64)
        if scheme == "node":
            code = FIRST_CODE - 1 + np.arange(clusters, dtype=np.int32)
            code[0] = 0
            tree = cls(parent, code, issued, np.empty((0, 0), np.int32))
            return tree, FIRST_CODE + clusters - 1
        depth = _depths(parent)
        sizes = np.bincount(leaf, minlength=clusters)
        widths = np.zeros(int(depth.max()) + 1, np.int64)
        np.maximum.at(widths, depth[1:] - 1, digit[1:] + 1)
        np.maximum.at(widths, depth, sizes)
        if scheme == "shared":
            widths = widths.max(keepdims=True)
        number_codes = np.full((len(widths), int(widths.max())), -1, np.int32)
        first = FIRST_CODE
        for level, width in enumerate(widths.tolist()):
            number_codes[level, :width] = first + np.arange(width)
            first += width
        code = np.zeros(clusters, np.int32)
        level_of = np.minimum(depth[1:] - 1, len(widths) - 1)
        code[1:] = number_codes[level_of, digit[1:]]
        return cls(parent, code, issued, number_codes), first

    def issue(self, leaf: npt.NDArray[np.int64], alphabet_size: int) -> tuple[Ragged, CodedTree]:
        """Assigns documents the next free numbers of their leaves.

        Args:
            leaf: The leaf of each document; integers [documents].
            alphabet_size: The first new code, for numbers that have none yet.

        Returns:
            The identifiers, and the tree with these numbers issued.
        """
        order = np.argsort(leaf, kind="stable")
        added = np.bincount(leaf, minlength=len(self.parent))
        number = np.empty(len(leaf), np.int64)
        firsts = np.cumsum(added) - added
        number[order] = np.arange(len(leaf)) - firsts[leaf[order]]
        number += self.issued[leaf]
        depth = _depths(self.parent)
        if len(self.number_codes):
            level = np.minimum(depth[leaf], len(self.number_codes) - 1)
            number_codes = self._with_codes(level, number, alphabet_size)
            last = number_codes[level, number].astype(np.int64)
        else:
            number_codes = self.number_codes
            last = alphabet_size + np.arange(len(leaf), dtype=np.int64)
        tree = CodedTree(self.parent, self.code, self.issued + added, number_codes)
        return self._paths(leaf, depth, last), tree

    def _with_codes(
        self, level: npt.NDArray[np.int64], number: npt.NDArray[np.int64], first: int
    ) -> npt.NDArray[np.int32]:
        """Returns `number_codes` with a code per level and number, new ones starting at `first`."""
        levels, width = self.number_codes.shape
        wider = np.full((levels, max(width, int(number.max(initial=-1)) + 1)), -1, np.int32)
        wider[:, :width] = self.number_codes
        needed = np.zeros(wider.shape, bool)
        needed[level, number] = True
        missing = needed & (wider < 0)
        wider[missing] = first + np.arange(int(missing.sum()))
        return wider

    def _paths(
        self,
        leaf: npt.NDArray[np.int64],
        depth: npt.NDArray[np.int64],
        last: npt.NDArray[np.int64],
    ) -> Ragged:
        """Returns the codes from the root to each leaf, with `last` after them."""
        offsets = np.zeros(len(leaf) + 1, np.int64)
        np.cumsum(depth[leaf] + 1, out=offsets[1:])
        codes = np.empty(int(offsets[-1]), np.int64)
        codes[offsets[1:] - 1] = last
        starts, cluster = offsets[:-1], leaf
        while (below_root := cluster > 0).any():
            starts, cluster = starts[below_root], cluster[below_root]
            codes[starts + depth[cluster] - 1] = self.code[cluster]
            cluster = self.parent[cluster].astype(np.int64)
        return Ragged(codes, offsets)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the tree as the extras of `Built`."""
        return {
            "parent": self.parent,
            "code": self.code,
            "issued": self.issued,
            "number_codes": self.number_codes,
        }

    @classmethod
    def of(cls, extras: Mapping[str, np.ndarray]) -> CodedTree:
        """Restores the tree from `arrays`.

        Raises:
            InputError: The extras are not those of a tree.
        """
        try:
            return cls(extras["parent"], extras["code"], extras["issued"], extras["number_codes"])
        except KeyError as error:
            raise InputError(
                f"the stored identifiers have no cluster tree ({error.args[0]!r} is missing)",
                hint="Assign them again",
            ) from None


def build_tree(
    doc_ids: Sequence[str],
    parent: npt.NDArray[np.int32],
    digit: npt.NDArray[np.int32],
    leaf: npt.NDArray[np.int32],
    *,
    kind: str,
    options: TreeOptions,
    extras: Mapping[str, np.ndarray],
) -> Built:
    """Builds the table of a tree kind from its clusters.

    Args:
        doc_ids: Ids of the documents.
        parent: Parent of each cluster, -1 at the root; children are adjacent; int32 [clusters].
        digit: Position of each cluster among its siblings; int32 [clusters].
        leaf: The leaf cluster of each document; int32 [documents].
        kind: Name of the kind.
        options: How paths are written.
        extras: Arrays to keep next to the tree's.
    """
    options = options.resolved(len(doc_ids))
    tree, alphabet_size = CodedTree.plan(parent, digit, leaf, options.codes)
    identifiers, tree = tree.issue(leaf.astype(np.int64), alphabet_size)
    table = DocidTable.from_sequences(
        doc_ids,
        identifiers,
        alphabet_size=max(alphabet_size, int(identifiers.codes.max(initial=0)) + 1),
        kind=kind,
        options=asdict(options),
    )
    return Built(table, {**extras, **tree.arrays()})


def add_to_tree(built: Built, doc_ids: Sequence[str], leaf: npt.NDArray[Any]) -> Built:
    """Adds documents to the leaves chosen for them.

    Args:
        built: What `build_tree` or `add_to_tree` returned.
        doc_ids: Ids of the new documents.
        leaf: The leaf cluster of each; integers [documents].
    """
    identifiers, tree = CodedTree.of(built.extras).issue(
        leaf.astype(np.int64), built.table.next_code
    )
    return Built(built.table.append(doc_ids, identifiers), {**built.extras, **tree.arrays()})


def _depths(parent: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Returns the number of edges from the root to each cluster; int64 [clusters]."""
    depth = np.zeros(len(parent), np.int64)
    above = np.asarray(parent)
    while (inside := above >= 0).any():
        depth += inside
        above = np.where(inside, parent[above], -1)
    return depth

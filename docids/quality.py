"""Quality measures of a set of identifiers, the same for every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from docids.table import FIRST_CODE, DocidTable
from docids.trie import Trie

NEIGHBORS = 10
"""Nearest neighbors of a document that purity looks at."""
SAMPLE = 2000
"""Documents whose neighbors are looked for at most, drawn at random."""


@dataclass(frozen=True)
class Level:
    """The nodes of one level of the trie that have children, each weighted by its documents.

    Attributes:
        level: 0 is the root.
        nodes: Nodes with children.
        documents: Documents below them, each counted once for every identifier it has.
        mean_branching: Unweighted mean number of children of a node.
        max_branching: Maximum number of children of a node.
        largest_child: Mean share of a node's documents below its largest child.
        entropy: Entropy of a node's documents over its children, divided by its maximum; mean over
            the nodes with more than one child. 1 is perfect balance; None if there is no such node.
    """

    level: int
    nodes: int
    documents: int
    mean_branching: float
    max_branching: int
    largest_child: float
    entropy: float | None


@dataclass(frozen=True)
class Position:
    """The codes at one position, over the identifiers that are long enough.

    Attributes:
        position: 0 is the first.
        identifiers: How many identifiers have a code there.
        used: Number of distinct codes.
        perplexity: Exponential of their entropy: the effective number of codes in use.
        most_frequent: Share of the most frequent code.
    """

    position: int
    identifiers: int
    used: int
    perplexity: float
    most_frequent: float


@dataclass(frozen=True)
class Purity:
    """Whether similar documents have similar identifiers.

    Attributes:
        value: Of a document's nearest neighbors by cosine, the mean share whose (first) identifier
            has the same first code; None if that is not meaningful.
        shuffled: The same after a random shuffle of the first codes.
        documents: Number of documents whose neighbors were searched.
        reason: Why `value` is None; empty otherwise.
    """

    value: float | None
    shuffled: float | None = None
    documents: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Quality:
    """The report on a table of identifiers; counts live rows only.

    Attributes:
        kind: Name of the kind.
        documents: Live rows.
        identifiers: Their identifiers; more than `documents` if some have several.
        unique: Distinct sequences per identifier; 1 if no two documents share one.
        collisions: Identifiers beyond the first with the same sequence.
        shared_documents: Documents that share an identifier with another.
        resolved: How documents whose first choice was taken were handled -> how many documents;
            empty if the kind makes no choices.
        lengths: Length in codes -> identifiers, ascending.
        levels: One entry for each level of the trie that has children.
        positions: One entry for each position of the longest identifier.
        code_entropy: Entropy of the codes of all identifiers, in bits.
        alphabet_size: Size of the alphabet.
        codes_used: Codes in use, from FIRST_CODE on.
        purity: See `Purity`.
        notes: What the kind chose on the user's behalf, a sentence each.
        vectors: The embedder of the vectors behind purity, such as lsa.
    """

    kind: str
    documents: int
    identifiers: int
    unique: float
    collisions: int
    shared_documents: int
    resolved: dict[str, int]
    lengths: dict[int, int]
    levels: tuple[Level, ...]
    positions: tuple[Position, ...]
    code_entropy: float
    alphabet_size: int
    codes_used: int
    purity: Purity
    notes: tuple[str, ...] = ()
    vectors: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as a JSON object."""
        mean = sum(length * count for length, count in self.lengths.items()) / self.identifiers
        return {
            "kind": self.kind,
            "documents": self.documents,
            "identifiers": self.identifiers,
            "unique": self.unique,
            "collisions": self.collisions,
            "shared_documents": self.shared_documents,
            "resolved": self.resolved,
            "length": {
                "min": min(self.lengths),
                "mean": mean,
                "max": max(self.lengths),
                "histogram": {str(length): count for length, count in self.lengths.items()},
            },
            "levels": [asdict(level) for level in self.levels],
            "positions": [asdict(position) for position in self.positions],
            "alphabet": {
                "size": self.alphabet_size,
                "used": self.codes_used,
                "share_used": self.codes_used / max(self.alphabet_size - FIRST_CODE, 1),
                "entropy_bits": self.code_entropy,
            },
            "purity": self.purity.value,
            "purity_shuffled": self.purity.shuffled,
            "purity_documents": self.purity.documents,
            "purity_reason": self.purity.reason,
            "purity_vectors": self.vectors,
            "notes": list(self.notes),
        }

    def rows(self) -> list[tuple[str, Any]]:
        """Returns the report as rows of a human-readable table: name and value."""
        report = self.to_dict()
        length, alphabet = report["length"], report["alphabet"]
        purity: list[tuple[str, Any]] = [("purity", f"- ({self.purity.reason})")]
        if self.purity.value is not None:
            by = f", {self.vectors} vectors" if self.vectors else ""
            chance = f"{self.purity.value:.3f} (shuffled {self.purity.shuffled:.3f}{by})"
            purity = [("purity of the first code", chance)]
        several: list[tuple[str, Any]] = []
        if self.identifiers > self.documents:
            per = self.identifiers / self.documents
            several = [("identifiers", f"{self.identifiers:,}, {per:.2f} a document")]
        share = self.shared_documents / self.documents
        return [
            ("documents", self.documents),
            *several,
            ("unique", self.unique),
            (
                "collisions",
                f"{self.collisions:,}; {self.shared_documents:,} documents ({share:.1%}) share one",
            ),
            *(
                (f"taken, so {what}", f"{count:,} documents ({count / self.documents:.1%})")
                for what, count in self.resolved.items()
                if count
            ),
            ("length", f"{length['min']} to {length['max']}, mean {length['mean']:.2f}"),
            (
                "alphabet",
                f"{self.alphabet_size:,} codes, {alphabet['share_used']:.1%} used, "
                f"entropy {self.code_entropy:.2f} bits",
            ),
            *(
                (
                    f"level {level.level}",
                    f"{level.nodes:,} nodes, branching {level.mean_branching:.1f} "
                    f"(max {level.max_branching:,}), largest child {level.largest_child:.1%}, "
                    f"balance {'-' if level.entropy is None else f'{level.entropy:.3f}'}, "
                    f"{position.used:,} codes (perplexity {position.perplexity:.1f})",
                )
                for level, position in zip(self.levels, self.positions, strict=True)
            ),
            *purity,
            *(("note", note) for note in self.notes),
        ]


def measure(
    table: DocidTable,
    vectors: Callable[[], npt.NDArray[np.float32]],
    *,
    seed: int,
    resolved: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    named: str = "",
) -> Quality:
    """Measures the identifiers of a table's live rows.

    Args:
        table: The identifiers.
        vectors: Gives a vector for each row of the table, float32 [rows, dimensions], of norm 1 (0:
            has no neighbors); called only if purity is meaningful.
        seed: Seed of the sample and the shuffle behind purity.
        resolved: See `Quality`.
        notes: See `Quality`.
        named: What made the vectors.

    Raises:
        InputError: The table has no live rows.
    """
    trie = Trie.build(table)
    live, numbers = table.live, table.live_identifiers
    distinct = int((trie.row >= 0).sum())
    lengths, length_counts = np.unique(table.lengths[numbers], return_counts=True)
    is_live = np.zeros(len(table.offsets) - 1, bool)
    is_live[numbers] = True
    codes, code_counts = np.unique(
        table.codes[np.repeat(is_live, table.lengths)], return_counts=True
    )
    return Quality(
        kind=table.kind,
        documents=len(live),
        identifiers=len(numbers),
        unique=distinct / len(numbers),
        collisions=len(numbers) - distinct,
        shared_documents=len(np.unique(trie.shared_row)),
        resolved=dict(resolved or {}),
        lengths=dict(zip(lengths.tolist(), length_counts.tolist(), strict=True)),
        levels=tuple(_levels(trie)),
        positions=tuple(_positions(table, numbers)),
        code_entropy=float(_entropy(code_counts / code_counts.sum()).sum() / np.log(2)),
        alphabet_size=table.alphabet_size,
        codes_used=int((codes >= FIRST_CODE).sum()),
        purity=_purity(table, vectors, seed),
        notes=tuple(notes),
        vectors=named,
    )


def _levels(trie: Trie) -> list[Level]:
    """Returns the balance of each level, computed from the leaves up."""
    levels = []
    below = (trie.row >= 0).astype(np.int64)
    below[trie.shared_leaf] = np.diff(trie.shared_first)
    for level in reversed(range(trie.depth)):
        start, stop = int(trie.level_start[level]), int(trie.level_start[level + 1])
        children = below[stop : int(trie.level_start[level + 2])]
        fan_out = np.diff(trie.first_child[start : stop + 1])
        inner = np.flatnonzero(fan_out)
        fan_out = fan_out[inner]
        firsts = np.cumsum(fan_out) - fan_out
        documents = np.add.reduceat(children, firsts)
        below[start + inner] = documents
        shares = children / np.repeat(documents, fan_out)
        entropy = np.add.reduceat(_entropy(shares), firsts)
        split = fan_out > 1
        levels.append(
            Level(
                level=level,
                nodes=len(inner),
                documents=int(documents.sum()),
                mean_branching=float(fan_out.mean()),
                max_branching=int(fan_out.max()),
                largest_child=float(
                    np.average(np.maximum.reduceat(shares, firsts), weights=documents)
                ),
                entropy=float(
                    np.average(entropy[split] / np.log(fan_out[split]), weights=documents[split])
                )
                if split.any()
                else None,
            )
        )
    return levels[::-1]


def _positions(table: DocidTable, numbers: npt.NDArray[np.int64]) -> Iterator[Position]:
    """Yields the code usage of each position."""
    lengths = table.lengths[numbers]
    for position in range(int(lengths.max())):
        column = table.identifiers.column(numbers[lengths > position], position)
        counts = np.unique(column, return_counts=True)[1]
        shares = counts / len(column)
        perplexity = float(np.exp(_entropy(shares).sum()))
        yield Position(position, len(column), len(counts), perplexity, float(shares.max()))


def _entropy(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the contribution of each positive share to the entropy, in nats."""
    return -shares * np.log(shares)


def _purity(table: DocidTable, vectors: Callable[[], npt.NDArray[np.float32]], seed: int) -> Purity:
    rows = table.live
    first = table.codes[table.offsets[table.first_identifier[rows]]]
    if len(np.unique(first)) == len(first):
        return Purity(None, reason="every document has a first code of its own")
    points = vectors()[rows]
    placed = np.flatnonzero(points.any(axis=1))
    if len(placed) < 2:
        return Purity(None, reason="fewer than two documents have a vector")
    points, first = np.ascontiguousarray(points[placed]), first[placed]
    rng = np.random.default_rng([seed, 0])
    asked = np.arange(len(first))
    if len(asked) > SAMPLE:
        asked = np.sort(rng.choice(len(first), SAMPLE, replace=False))
    neighbors = _neighbors(points, asked, min(NEIGHBORS, len(first) - 1))
    shuffled = rng.permutation(first)
    return Purity(
        value=float((first[neighbors] == first[asked, None]).mean()),
        shuffled=float((shuffled[neighbors] == shuffled[asked, None]).mean()),
        documents=len(asked),
    )


def _neighbors(
    points: npt.NDArray[np.float32], asked: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """Returns the nearest other points of each query point by inner product; [asked, count]."""
    import faiss

    _, found = faiss.knn(points[asked], points, count + 1, metric=faiss.METRIC_INNER_PRODUCT)
    itself = found == asked[:, None]
    # With duplicate points, a point need not be first among its own neighbors, or among them at
    # all.
    itself[~itself.any(axis=1), -1] = True
    return found[~itself].reshape(len(asked), count)

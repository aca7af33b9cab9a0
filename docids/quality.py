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
"""Number of nearest neighbors of a document that purity considers."""
SAMPLE = 2000
"""Maximum number of documents, sampled at random, whose neighbors are computed."""


@dataclass(frozen=True)
class Level:
    """The nodes of one level of the trie that have children, each weighted by its documents.

    Attributes:
        level: 0 is the root.
        nodes: Nodes with children.
        documents: Documents below them, each counted once for every identifier it has.
        mean_branching: Unweighted mean number of children of a node.
        max_branching: Maximum number of children of a node.
        largest_child: Mean fraction of a node's documents below its largest child.
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
        most_frequent: Fraction of the most frequent code.
        gini: Gini coefficient of how often codes are used, those of the codebook that are not used
            at all included: 0 if all are used equally often, near 1 if few are used for everything.
    """

    position: int
    identifiers: int
    used: int
    perplexity: float
    most_frequent: float
    gini: float


@dataclass(frozen=True)
class Purity:
    """Whether similar documents have similar identifiers.

    Attributes:
        value: Of a document's nearest neighbors by cosine, the mean share whose (first) identifier
            has the same first code; None if that is not meaningful.
        shuffled: The same after a random shuffle of the first codes.
        documents: Number of documents whose neighbors were searched.
        reason: Why `value` is None; empty otherwise.
        prefixes: The fraction of neighbors with the same first code, with the same first two codes,
            and so on, as long as there are any; the first is `value`.
    """

    value: float | None
    shuffled: float | None = None
    documents: int = 0
    reason: str = ""
    prefixes: tuple[float, ...] = ()


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
        codebooks: How many positions have a codebook of their own.
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
    codebooks: int = 0

    @property
    def gini(self) -> float:
        """The mean Gini coefficient of the positions with a codebook; of all, if none has."""
        positions = self.positions[: self.codebooks or None]
        return sum(position.gini for position in positions) / len(positions)

    def predictors(self) -> dict[str, Any]:
        """Returns the figures that predict retrieval before any training (FORGE, 2025).

        Identifiers of one code have no prefixes, and therefore no such figures.
        """
        if not self.purity.prefixes:
            return {}
        return {"neighbor_hit_rate": list(self.purity.prefixes), "gini": self.gini}

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
            **self.predictors(),
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
            purity = [
                ("purity of first code", chance),
                ("neighbors with the same first codes", _listed(self.purity.prefixes)),
            ]
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
            ("Gini of code use", f"{self.gini:.3f}"),
            *(("note", note) for note in self.notes),
        ]


def _listed(rates: Sequence[float]) -> str:
    """Returns the rate of each prefix length, from 1 code on."""
    return ", ".join(f"{rate:.3f} ({length})" for length, rate in enumerate(rates, 1))


def measure(
    table: DocidTable,
    vectors: Callable[[], npt.NDArray[np.float32]],
    *,
    seed: int,
    resolved: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    named: str = "",
    codebooks: Sequence[int] = (),
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
        codebooks: How many codes the first positions can take, used or not.

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
        positions=tuple(_positions(table, numbers, codebooks)),
        code_entropy=float(_entropy(code_counts / code_counts.sum()).sum() / np.log(2)),
        alphabet_size=table.alphabet_size,
        codes_used=int((codes >= FIRST_CODE).sum()),
        purity=_purity(table, vectors, seed),
        notes=tuple(notes),
        vectors=named,
        codebooks=len(codebooks),
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


def _positions(
    table: DocidTable, numbers: npt.NDArray[np.int64], codebooks: Sequence[int]
) -> Iterator[Position]:
    """Yields the code usage of each position."""
    lengths = table.lengths[numbers]
    for position in range(int(lengths.max())):
        column = table.identifiers.column(numbers[lengths > position], position)
        counts = np.unique(column, return_counts=True)[1]
        shares = counts / len(column)
        perplexity = float(np.exp(_entropy(shares).sum()))
        available = codebooks[position] if position < len(codebooks) else 0
        use = gini(counts, available)
        yield Position(position, len(column), len(counts), perplexity, float(shares.max()), use)


def gini(counts: npt.NDArray[np.int64], available: int = 0) -> float:
    """Returns the Gini coefficient of counts: half their mean absolute difference over their mean.

    Args:
        counts: How often each code is used, above 0; int64 [used].
        available: How many codes there are; those without a count are never used.
    """
    ascending = np.zeros(max(available, len(counts)))
    ascending[len(ascending) - len(counts) :] = np.sort(counts)
    ranks = np.arange(1, len(ascending) + 1)
    weighted = float((ranks * ascending).sum() / ascending.sum())
    return (2 * weighted - len(ascending) - 1) / len(ascending)


def _entropy(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns the contribution of each positive share to the entropy, in nats."""
    return -shares * np.log(shares)


def _purity(table: DocidTable, vectors: Callable[[], npt.NDArray[np.float32]], seed: int) -> Purity:
    rows = table.live
    first = table.codes[table.offsets[table.first_identifier[rows]]]
    if len(np.unique(first)) == len(first):
        return Purity(None, reason="no two documents share a first code")
    points = vectors()[rows]
    placed = np.flatnonzero(points.any(axis=1))
    if len(placed) < 2:
        return Purity(None, reason="fewer than two documents have vectors")
    points, first = np.ascontiguousarray(points[placed]), first[placed]
    rng = np.random.default_rng([seed, 0])
    sampled = np.arange(len(first))
    if len(sampled) > SAMPLE:
        sampled = np.sort(rng.choice(len(first), SAMPLE, replace=False))
    neighbors = _neighbors(points, sampled, min(NEIGHBORS, len(first) - 1))
    shuffled = rng.permutation(first)
    numbers = table.first_identifier[rows][placed]
    return Purity(
        value=float((first[neighbors] == first[sampled, None]).mean()),
        shuffled=float((shuffled[neighbors] == shuffled[sampled, None]).mean()),
        documents=len(sampled),
        prefixes=tuple(_shared_prefixes(table, numbers[sampled], numbers[neighbors])),
    )


def _shared_prefixes(
    table: DocidTable, rows: npt.NDArray[np.int64], others: npt.NDArray[np.int64]
) -> Iterator[float]:
    """Yields the fraction of identifiers that begin with the same 1, 2, ... codes, while above 0.

    Args:
        table: The identifiers.
        rows: Numbers of identifiers; int64 [rows].
        others: Numbers of those that each is compared with; int64 [rows, others].
    """

    def codes(numbers: npt.NDArray[np.int64], place: int) -> npt.NDArray[np.int32]:
        within = table.lengths[numbers] > place
        at = np.where(within, np.asarray(table.offsets)[numbers] + place, 0)
        return np.where(within, np.asarray(table.codes)[at], np.int32(-1))

    same = np.ones(others.shape, bool)
    for place in range(int(table.lengths[rows].max(initial=0))):
        same &= codes(others, place) == codes(rows, place)[:, None]
        if not same.any():
            return
        yield float(same.mean())


def _neighbors(
    points: npt.NDArray[np.float32], queries: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """Returns the nearest other points of each query point by inner product; [queries, count]."""
    import faiss

    _, nearest = faiss.knn(points[queries], points, count + 1, metric=faiss.METRIC_INNER_PRODUCT)
    itself = nearest == queries[:, None]
    # With duplicate points, a point need not be first among its own neighbors, or among them at
    # all.
    itself[~itself.any(axis=1), -1] = True
    return nearest[~itself].reshape(len(queries), count)

"""Appends the training queries of documents to their texts, as far as held-out queries gain by it.

The weights of the layer become (1 - s) W + s E, where W are the weights of the texts and E those of
the texts with their training queries. As with document expansion (Nogueira et al., 2019,
arXiv 1904.08375), words that only queries use find a document, too. It also raises documents with
training queries above those without. So s is selected on held-out queries of both, and is 0 where
the latter lose as much as the former gain.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Document
from data_prep.errors import InputError
from dsi.lexical.features import Scales, Statistics
from dsi.lexical.labeled_queries import LabeledQueries
from dsi.lexical.layer import LexicalLayer, Postings
from dsi.lexical.lexicon import PAIR_SHIFT, Lexicon
from dsi.lexical.weighting import Weighting, entry_weights
from dsi.lexical.words import Vocabulary

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Candidates for the share of the expanded weights."""
_FEWEST = 10
"""Minimum number of held-out queries of documents with training queries."""
_FEW_UNLABELED = 0.05
"""Fraction of documents without labeled queries below which they do not influence the choice."""
_LEAST_UNLABELED = 2 / 3
"""Least weight of documents without labeled queries in the choice: losses count twice."""
_SIGNIFICANT = 2.0
"""Standard errors by which held-out queries have to gain."""
_MOST_SCORES = 1 << 24
"""Maximum number of scores in memory."""


@dataclass(frozen=True)
class Corpus:
    """The documents, with their counts and the weighting of their words.

    Attributes:
        documents: In row order.
        lexicon: Counts of titles and texts.
        vocabulary: Maps words to numbers; never changed here.
        weighting: The trained parameters; never changed here.
        scales: Scales of the features.
    """

    documents: Sequence[Document]
    lexicon: Lexicon
    vocabulary: Vocabulary
    weighting: Weighting
    scales: Scales

    def __len__(self) -> int:
        return len(self.lexicon)

    def layer(self) -> LexicalLayer:
        """Returns the layer without expansion."""
        statistics = Statistics.of(self.lexicon, self.vocabulary.words, len(self))
        return LexicalLayer(
            self.vocabulary, Postings.of(self.weighting, self.lexicon, statistics, self.scales)
        )


@dataclass(frozen=True)
class Expansion:
    """Documents whose training queries are appended.

    Attributes:
        share: Share of the expanded weights, between 0 and 1.
        rows: The row of each of these documents, ascending; int64 [documents].
        lexicon: Counts of their titles, texts and queries.
        scales: Scales of the features of the expanded corpus at training time.
    """

    share: float
    rows: npt.NDArray[np.int64]
    lexicon: Lexicon
    scales: Scales

    @classmethod
    def of(
        cls, share: float, corpus: Corpus, queries: LabeledQueries
    ) -> tuple[Expansion, Vocabulary, Weighting]:
        """Appends queries to the texts of their documents.

        Args:
            share: Share of the expanded weights.
            corpus: The documents.
            queries: The queries to append.

        Returns:
            The expansion, and vocabulary and weighting with the words that only queries have.
        """
        appended: dict[int, list[str]] = {}
        for row, text in zip(queries.rows.tolist(), queries.texts, strict=True):
            appended.setdefault(row, []).append(text)
        rows = np.array(sorted(appended), np.int64)
        vocabulary = corpus.vocabulary.copy()
        lexicon = Lexicon.count(
            [_appended(corpus.documents[row], appended[row]) for row in rows.tolist()],
            vocabulary,
            pairs=len(corpus.lexicon.pair_keys) > 0,
        )
        counted = cls(share, rows, lexicon, corpus.scales)
        whole = counted.expanded(corpus.lexicon)
        statistics = Statistics.of(whole, vocabulary.words, len(corpus))
        weighting = copy.deepcopy(corpus.weighting).lengthened(len(vocabulary))
        return replace(counted, scales=Scales.of(whole, statistics)), vocabulary, weighting

    def expanded(self, lexicon: Lexicon) -> Lexicon:
        """Returns the counts of all documents, with these expanded.

        Args:
            lexicon: The counts without expansion.
        """
        order = np.arange(len(lexicon))
        order[self.rows] = len(lexicon) + np.arange(len(self.rows))
        return lexicon.merged_in_order(self.lexicon, order)

    def postings(
        self,
        weighting: Weighting,
        lexicon: Lexicon,
        words: Sequence[str],
        documents: int,
        scales: Scales,
    ) -> Postings:
        """Computes the weights of all documents.

        Args:
            weighting: The trained parameters.
            lexicon: The counts without expansion.
            words: All words, in the order of their numbers.
            documents: How many documents are live.
            scales: Scales of the features without expansion.
        """
        whole = self.expanded(lexicon)
        plain_statistics = Statistics.of(lexicon, list(words), documents)
        statistics = Statistics.of(whole, list(words), documents)
        plain = entry_weights(weighting, lexicon, plain_statistics, scales)
        mixed = entry_weights(weighting, whole, statistics, self.scales)
        places = _places(lexicon, whole, statistics.pairs)
        for weights, added, where in zip(mixed, plain, places, strict=True):
            weights *= self.share
            weights[where] += (1 - self.share) * added
        return Postings.weighted(whole, statistics, *mixed)

    def changed(self, rows: npt.NDArray[np.int64], live: npt.NDArray[np.bool_]) -> Expansion | None:
        """Returns the expansion without the documents that have changed or are gone.

        Args:
            rows: Rows of changed documents; int64 [documents].
            live: Which rows are live; bool [rows].
        """
        kept = np.flatnonzero(live[self.rows] & ~np.isin(self.rows, rows))
        if not len(kept):
            return None
        return replace(
            self, rows=self.rows[kept], lexicon=self.lexicon.merged_in_order(self.lexicon, kept)
        )

    def placed(self, rows: npt.NDArray[np.int64]) -> Expansion:
        """Returns the expansion with all documents moved to other rows; int64 [documents]."""
        moved = rows[self.rows]
        order = np.argsort(moved)
        return replace(
            self, rows=moved[order], lexicon=self.lexicon.merged_in_order(self.lexicon, order)
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all arrays by name, for a store."""
        return {
            "share": np.array([self.share]),
            "rows": self.rows,
            **self.lexicon.arrays(),
            **self.scales.arrays(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], words: int, plain: Lexicon) -> Expansion:
        """Restores what `arrays` returned.

        Args:
            arrays: As `arrays` returned them.
            words: Number of known words.
            plain: The counts of all documents without expansion.

        Raises:
            InputError: They are inconsistent.
            KeyError: One is missing.
        """
        share, expanded = np.array(arrays["share"], float), np.array(arrays["rows"], np.int64)
        if share.shape != (1,) or not 0 <= share[0] <= 1:
            raise InputError("the share of expanded weights is not a number between 0 and 1")
        if arrays["rows"].dtype.kind not in "iu" or arrays["rows"].ndim != 1:
            raise InputError("the rows of expanded documents are not whole numbers")
        lexicon, rows = Lexicon.of(arrays, words), len(plain)
        if len(expanded) != len(lexicon) or (expanded[1:] <= expanded[:-1]).any():
            raise InputError(f"{len(lexicon)} expanded documents in other rows than they should be")
        if len(expanded) and not 0 <= expanded[0] <= expanded[-1] < rows:
            raise InputError(f"an expanded document is beyond the {rows} documents")
        _check_contained(plain.merged_in_order(plain, expanded), lexicon)
        return cls(float(share[0]), expanded, lexicon, Scales.from_arrays(arrays))


def _appended(document: Document, queries: Sequence[str]) -> Document:
    """Returns a document with queries as further paragraphs."""
    return replace(document, text="\n\n".join([document.text, *queries]))


def _places(
    part: Lexicon, whole: Lexicon, pairs: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns the entry of `whole` for each word entry, and each pair entry, of `part`.

    Args:
        part: Counts of documents.
        whole: Counts of the same documents, with more words.
        pairs: The pairs of `whole`, ascending; int64 [pairs].
    """
    return (
        np.searchsorted(_word_keys(whole), _word_keys(part)),
        np.searchsorted(_pair_keys(whole, pairs), _pair_keys(part, pairs)),
    )


def _word_keys(lexicon: Lexicon) -> npt.NDArray[np.int64]:
    """Returns a number for document and word of each entry, which ascends; int64 [entries]."""
    return lexicon.rows << PAIR_SHIFT | lexicon.words


def _pair_keys(lexicon: Lexicon, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns a number for document and pair of each entry, which ascends; int64 [entries]."""
    return lexicon.pair_rows << PAIR_SHIFT | np.searchsorted(pairs, lexicon.pair_keys)


def _check_contained(part: Lexicon, whole: Lexicon) -> None:
    """Refuses counts of documents that lack words or pairs of `part`, or are out of order."""
    pairs = np.unique(np.concatenate([part.pair_keys, whole.pair_keys]))
    for contained, keys in (
        (_word_keys(part), _word_keys(whole)),
        (_pair_keys(part, pairs), _pair_keys(whole, pairs)),
    ):
        if (keys[1:] <= keys[:-1]).any() or not np.isin(contained, keys).all():
            raise InputError("expanded documents lack words of their texts")


def choose_expansion(
    corpus: Corpus, labeled: LabeledQueries, dev: LabeledQueries, *, holdout: float, seed: int
) -> tuple[Expansion, Vocabulary, Weighting] | None:
    """Selects the share of the expanded weights.

    Queries of documents with training queries are those of the dev split or, if it has few, one of
    each document with several. Queries of documents without are simulated by holding out all
    queries of some documents; they count in proportion to the documents without, at least twice as
    much as the others, but not at all if there are hardly any such documents. Among the candidates
    within one standard error of the best, the smallest share wins; there is no expansion unless the
    best is significantly better than none.

    Args:
        corpus: The documents.
        labeled: Labeled training queries.
        dev: Labeled queries that are not appended; may be empty.
        holdout: Fraction of the labeled documents whose queries are held out.
        seed: Seed of the choice of held-out queries.

    Returns:
        The expansion with all labeled queries, with vocabulary and weighting; None for none.
    """
    rng = np.random.default_rng([seed, 22])
    split = _Split.of(labeled, dev, len(corpus), holdout, rng)
    if split is None:
        return None
    made, vocabulary, weighting = Expansion.of(1.0, corpus, split.appended)
    postings = made.postings(
        weighting, corpus.lexicon, vocabulary.words, len(corpus), corpus.scales
    )
    layers = corpus.layer(), LexicalLayer(vocabulary, postings)
    ranks = [reciprocal_ranks(*layers, group) for group in split.groups]
    share = SHARES[_choice(ranks, split.importance)]
    return Expansion.of(share, corpus, labeled) if share else None


@dataclass(frozen=True)
class _Split:
    """Queries to append, and held-out queries of documents with and without appended queries."""

    appended: LabeledQueries
    groups: tuple[LabeledQueries, ...]
    importance: tuple[float, ...]

    @classmethod
    def of(
        cls,
        labeled: LabeledQueries,
        dev: LabeledQueries,
        documents: int,
        holdout: float,
        rng: np.random.Generator,
    ) -> _Split | None:
        labeled_rows = np.unique(labeled.rows)
        unlabeled = 1 - len(labeled_rows) / max(documents, 1)
        held_rows = np.zeros(0, np.int64)
        if unlabeled >= _FEW_UNLABELED:
            count = round(holdout * len(labeled_rows))
            held_rows = rng.choice(labeled_rows, count, replace=False)
        held = np.isin(labeled.rows, held_rows)
        appended, without = labeled.part(np.flatnonzero(~held)), labeled.part(np.flatnonzero(held))
        with_queries = dev.part(np.flatnonzero(np.isin(dev.rows, appended.rows)))
        if len(with_queries) < _FEWEST:
            appended, with_queries = _one_of_several(appended, rng)
        if len(with_queries) < _FEWEST:
            return None
        with_queries = with_queries.sample(rng)
        if unlabeled < _FEW_UNLABELED:
            return cls(appended, (with_queries,), (1.0,))
        if not len(without):
            return None
        weight = max(_LEAST_UNLABELED, unlabeled)
        return cls(appended, (with_queries, without.sample(rng)), (1 - weight, weight))


def _one_of_several(
    labeled: LabeledQueries, rng: np.random.Generator
) -> tuple[LabeledQueries, LabeledQueries]:
    """Separates one query of each document that has several; returns the others, and these."""
    order = rng.permutation(len(labeled))
    _, firsts, counts = np.unique(labeled.rows[order], return_index=True, return_counts=True)
    taken = np.zeros(len(labeled), bool)
    taken[order[firsts[counts > 1]]] = True
    return labeled.part(np.flatnonzero(~taken)), labeled.part(np.flatnonzero(taken))


def reciprocal_ranks(
    plain: LexicalLayer, expanded: LexicalLayer, queries: LabeledQueries
) -> npt.NDArray[np.float64]:
    """Returns the reciprocal rank of the relevant document with each share of expanded weights.

    Equal scores count as ahead.

    Args:
        plain: The layer without expansion.
        expanded: The layer with full expansion.
        queries: The queries.

    Returns:
        float64 [shares, queries].
    """
    found = np.zeros((len(SHARES), len(queries)))
    size = max(1, _MOST_SCORES // max(len(plain), 1))
    for start in range(0, len(queries), size):
        part = slice(start, start + size)
        texts, rows = queries.texts[part], queries.rows[part]
        scores, other = plain.scores(texts), expanded.scores(texts)
        for place, share in enumerate(SHARES):
            mixed = (1 - share) * scores + share * other
            target_scores = mixed[np.arange(len(rows)), rows]
            found[place, part] = 1 / (mixed >= target_scores[:, None]).sum(1)
    return found


def _choice(ranks: Sequence[npt.NDArray[np.float64]], importance: Sequence[float]) -> int:
    """Returns the first candidate within one standard error of the best.

    The first candidate of all is also returned if the best is not significantly better.

    Args:
        ranks: Reciprocal ranks of each group of queries; float64 [candidates, queries].
        importance: The weight of the mean of each group.
    """

    def gain(candidate: int, other: int) -> tuple[float, float]:
        """Returns how much better a candidate is than another, and the standard error."""
        mean = variance = 0.0
        for weight, each in zip(importance, ranks, strict=True):
            difference = each[candidate] - each[other]
            mean += weight * float(difference.mean())
            variance += weight**2 * float(difference.var()) / len(difference)
        return mean, variance**0.5

    best = max(range(len(SHARES)), key=lambda candidate: (gain(candidate, 0)[0], -candidate))
    mean, error = gain(best, 0)
    if mean <= _SIGNIFICANT * error:
        return 0
    for candidate in range(best):
        mean, error = gain(best, candidate)
        if mean <= error:
            return candidate
    return best

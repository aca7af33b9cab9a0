"""Trains the weighting of the lexical layer on labeled queries.

The loss is the softmax of the relevant document among the documents that rank highest, which are
looked up again every 20 steps (as in ANCE, Xiong et al., ICLR 2021): the weights that training
reaches also raise documents that were not among them. The number of steps is selected on queries
held out from training, by their ranks among all documents: those of the dev split, and all queries
of a part of the labeled documents, which represent documents without queries. Then all labeled
queries train for that many steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from data_prep.progress import track
from dsi.lexical.features import Scales, Statistics
from dsi.lexical.labeled_queries import LabeledQueries
from dsi.lexical.layer import LexicalLayer, Postings, QueryTerms, query_terms
from dsi.lexical.lexicon import PAIR_SHIFT, Lexicon
from dsi.lexical.options import LexicalOptions
from dsi.lexical.weighting import Entries, PairEntries, Weighting
from dsi.lexical.words import Vocabulary

_MOST_QUERIES = 50_000
"""Maximum number of labeled queries to train on, sampled at random."""
_MOST_SCORES = 1 << 25
"""Maximum number of scores in memory during the search for candidates."""
_START_TEMPERATURE = 0.8
_EVERY = 10
"""Steps between two evaluations on the held-out queries."""
_ROUND = 20
"""Steps between two searches for candidates."""


@dataclass(frozen=True)
class Outcome:
    """What training selected.

    Attributes:
        steps: The best number of steps.
        before: Mean reciprocal rank of the held-out queries, among all documents, before training;
            averaged over the two groups.
        after: The same after the best number of steps.
    """

    steps: int
    before: float
    after: float


def train(
    weighting: Weighting,
    lexicon: Lexicon,
    statistics: Statistics,
    scales: Scales,
    vocabulary: Vocabulary,
    *,
    labeled: LabeledQueries,
    dev: LabeledQueries,
    options: LexicalOptions,
    seed: int,
) -> Outcome:
    """Trains a weighting in place.

    Args:
        weighting: The parameters before training.
        lexicon: The counts of the corpus.
        statistics: Statistics of the corpus.
        scales: Scales of the features.
        vocabulary: Maps words to numbers.
        labeled: Queries to train on.
        dev: Queries that only select the number of steps; may be empty.
        options: Options of the lexical layer.
        seed: Seed of the choice of held-out documents, and of queries if there are many.

    Returns:
        What was selected.
    """
    rng = np.random.default_rng([seed, 21])
    labeled = labeled.sample(rng, _MOST_QUERIES)
    documents = np.unique(labeled.rows)
    count = round(options.holdout * len(documents))
    held = np.isin(labeled.rows, rng.choice(documents, count, replace=False))
    training_queries = labeled.part(np.flatnonzero(~held))
    judges = [
        group.sample(rng) for group in (dev, labeled.part(np.flatnonzero(held))) if len(group)
    ]
    corpus = _Corpus(lexicon, statistics, scales, vocabulary)
    if not judges or not len(training_queries):
        _descend(weighting, labeled, corpus, options, options.steps)
        return Outcome(options.steps, float("nan"), float("nan"))
    start = {name: weight.detach().clone() for name, weight in weighting.state_dict().items()}
    figures = _descend(weighting, training_queries, corpus, options, options.steps, judges)
    best = max(figures, key=lambda step: (figures[step], -step))
    weighting.load_state_dict(start)
    _descend(weighting, labeled, corpus, options, best)
    return Outcome(best, figures[0], figures[best])


class _Corpus:
    """The corpus whose terms are weighted."""

    def __init__(
        self, lexicon: Lexicon, statistics: Statistics, scales: Scales, vocabulary: Vocabulary
    ) -> None:
        self.parts = (lexicon, statistics, scales)
        self.places = _Places(lexicon, statistics)
        self._vocabulary = vocabulary

    def __len__(self) -> int:
        return len(self.parts[0])

    def layer(self, weighting: Weighting) -> LexicalLayer:
        """Returns the layer with the weights as they are now."""
        return LexicalLayer(self._vocabulary, Postings.of(weighting, *self.parts))


class _Places:
    """Finds the entries of words and pairs in documents."""

    def __init__(self, lexicon: Lexicon, statistics: Statistics) -> None:
        self._words = lexicon.rows << PAIR_SHIFT | lexicon.words
        columns = np.searchsorted(statistics.pairs, lexicon.pair_keys)
        self._pairs = lexicon.pair_rows << PAIR_SHIFT | columns
        self._vocabulary = len(statistics.idf)

    def of(self, terms: QueryTerms, candidates: npt.NDArray[np.int64]) -> tuple[_Matches, _Matches]:
        """Finds the terms that queries share with their candidates.

        Args:
            terms: Terms of the queries.
            candidates: Rows of documents; int64 [queries, candidates].
        """
        queries, columns = terms.owners, terms.terms
        is_word = columns < self._vocabulary
        return (
            _match(
                self._words, queries[is_word], columns[is_word], terms.counts[is_word], candidates
            ),
            _match(
                self._pairs,
                queries[~is_word],
                columns[~is_word] - self._vocabulary,
                terms.counts[~is_word],
                candidates,
            ),
        )


@dataclass(frozen=True)
class _Matches:
    """Entries shared by queries and candidates.

    Attributes:
        slots: query * candidates + candidate of each; int64 [matches].
        entries: The distinct entries, ascending; int64 [entries].
        which: Index into these of each match; int64 [matches].
        counts: How often the query has the term; float32 [matches].
    """

    slots: torch.Tensor
    entries: npt.NDArray[np.int64]
    which: torch.Tensor
    counts: torch.Tensor


def _match(
    keys: npt.NDArray[np.int64],
    queries: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    counts: npt.NDArray[np.float32],
    candidates: npt.NDArray[np.int64],
) -> _Matches:
    width = candidates.shape[1]
    pair_keys = (candidates[queries] << PAIR_SHIFT | columns[:, None]).ravel()
    places = np.searchsorted(keys, pair_keys)
    places[places == len(keys)] = 0
    matches = keys[places] == pair_keys if len(keys) else np.zeros(len(pair_keys), bool)
    slots = (queries[:, None] * width + np.arange(width)).ravel()[matches]
    entries, which = np.unique(places[matches], return_inverse=True)
    return _Matches(
        torch.from_numpy(slots),
        entries,
        torch.from_numpy(which),
        torch.from_numpy(np.repeat(counts, width)[matches].astype(np.float32)),
    )


@dataclass(frozen=True)
class _Batch:
    """Queries with their candidates, the relevant document first."""

    rows: npt.NDArray[np.int64]
    words: _Matches
    pairs: _Matches
    width: int

    @classmethod
    def of(
        cls, queries: LabeledQueries, weighting: Weighting, corpus: _Corpus, width: int
    ) -> _Batch:
        """Finds the documents that rank highest now."""
        layer = corpus.layer(weighting)
        found = np.empty((len(queries), width), np.int64)
        for part, scores, target_columns in _scored(queries, layer):
            scores[torch.arange(len(scores)), target_columns] = torch.inf
            found[part] = scores.topk(width).indices.numpy()
        terms = query_terms(queries.texts, layer.vocabulary, layer.postings.pairs)
        return cls(queries.rows, *corpus.places.of(terms, found), width)


def _scored(
    queries: LabeledQueries, layer: LexicalLayer
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Yields queries in parts: where, the scores of all documents, and the relevant rows."""
    size = max(1, _MOST_SCORES // max(len(layer), 1))
    for start in range(0, len(queries), size):
        part = slice(start, start + size)
        scores = torch.from_numpy(layer.scores(queries.texts[part]))
        yield part, scores, torch.from_numpy(queries.rows[part])


_Parts = tuple[Lexicon, Statistics, Scales]


class _Scores:
    """Scores the candidates of a batch with a weighting."""

    def __init__(self, batch: _Batch, parts: _Parts) -> None:
        self._batch = batch
        self._words = Entries(*parts, batch.words.entries)
        self._pairs = PairEntries(*parts, batch.pairs.entries)

    def of(self, weighting: Weighting) -> torch.Tensor:
        """Returns scores, with the relevant document first; float32 [queries, candidates]."""
        batch = self._batch
        scores = torch.zeros(len(batch.rows) * batch.width)
        words = weighting.words(self._words)[batch.words.which] * batch.words.counts
        scores = scores.index_add(0, batch.words.slots, words)
        pairs = weighting.pairs(self._pairs)[batch.pairs.which]
        scores = scores.index_add(0, batch.pairs.slots, pairs)
        return scores.view(-1, batch.width)


def _descend(
    weighting: Weighting,
    labeled: LabeledQueries,
    corpus: _Corpus,
    options: LexicalOptions,
    steps: int,
    judges: Sequence[LabeledQueries] = (),
) -> dict[int, float]:
    """Runs training steps; returns the held-out results after some of them, by step."""
    width = min(options.candidates, len(corpus))
    temperature = torch.nn.Parameter(torch.tensor(_START_TEMPERATURE).log())
    optimizer = torch.optim.Adam([*weighting.parameters(), temperature], lr=options.lr)
    right = torch.zeros(len(labeled), dtype=torch.int64)
    figures = {0: _reciprocal_rank(corpus.layer(weighting), judges)} if judges else {}
    for step in track(range(1, steps + 1), "training the lexical layer"):
        if step % _ROUND == 1:
            batch = _Batch.of(labeled, weighting, corpus, width)
            scores = _Scores(batch, corpus.parts)
        optimizer.zero_grad()
        logits = temperature.exp() * scores.of(weighting)
        loss = functional.cross_entropy(logits, right)
        loss = loss + weighting.penalty(options.word_decay / len(right))
        loss.backward()
        optimizer.step()
        if judges and (step % _EVERY == 0 or step == steps):
            figures[step] = _reciprocal_rank(corpus.layer(weighting), judges)
    return figures


def _reciprocal_rank(layer: LexicalLayer, judges: Sequence[LabeledQueries]) -> float:
    """Returns the mean reciprocal rank among all documents, averaged over groups of queries."""
    figures = []
    for group in judges:
        total = 0.0
        for _, scores, target_columns in _scored(group, layer):
            ranks = (scores >= scores.gather(1, target_columns[:, None])).sum(1)
            total += float((1 / ranks).sum())
        figures.append(total / len(group))
    return sum(figures) / len(figures)

"""From counts to weights: BM25 with parameters trained on labeled queries.

The weight of word w in document d is

    idf(w) tf / (tf + k1 (1 - b + b length(d) / mean)) * exp(theta . F(d, w) + phi . G(w) + gain(w))

with tf the number of occurrences, where those in the title count `title_weight` times, and F and G
the features of `dsi.lexical.features`. The weight of an ordered pair of neighbors has the same
form, with its own k1, scale and features. If every parameter but k1, b and the weights of title and
pairs is 0, it is BM25 (Lucene's variant).

All parameters but the gains are shared by all documents: labels also benefit documents without
queries, and scores of documents with and without labels stay comparable.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from data_prep.errors import InputError
from dsi.lexical.features import (
    IN_DOCUMENT,
    OF_PAIR,
    OF_WORD,
    Scales,
    Statistics,
    in_document,
)
from dsi.lexical.lexicon import Lexicon

_SHARED = 1e-3
"""L2 penalty on the shared parameters."""
_CHUNK = 1 << 20
"""Entries that are weighted at a time: bounds the working memory."""


class Weighting(nn.Module):
    """The parameters.

    Args:
        words: How many words there are.
        k1: Saturation of the term frequency.
        b: Length normalization, between 0 and 1.
        pairs: Weight of pairs; 0 for none.
        title_weight: How often an occurrence in the title counts.
    """

    def __init__(
        self, words: int, *, k1: float, b: float, pairs: float, title_weight: float
    ) -> None:
        super().__init__()
        self.log_k1 = nn.Parameter(torch.tensor(k1).log())
        self.b = nn.Parameter(torch.tensor(b).logit())
        self.log_title = nn.Parameter(torch.tensor(title_weight).log())
        self.in_document = nn.Parameter(torch.zeros(len(IN_DOCUMENT)))
        self.of_word = nn.Parameter(torch.zeros(len(OF_WORD)))
        self.gains = nn.Parameter(torch.zeros(words))
        self.log_pairs = nn.Parameter(torch.tensor(pairs).log())
        self.log_pair_k1 = nn.Parameter(torch.tensor(k1).log())
        self.of_pair = nn.Parameter(torch.zeros(len(OF_PAIR)))

    def penalty(self, gains: float) -> torch.Tensor:
        """Returns the L2 penalty, with a factor for the gains; a scalar."""
        shared = (self.in_document, self.of_word, self.of_pair)
        total = sum(each.square().sum() for each in shared)
        return _SHARED * total + gains * self.gains.square().sum()

    def words(self, entries: Entries) -> torch.Tensor:
        """Returns the weights of words; float32 [entries]."""
        counts = entries.counts + self.log_title.expm1() * entries.title_counts
        factor = (
            entries.features @ self.in_document
            + entries.of_word @ self.of_word
            + self.gains[entries.words]
        )
        return entries.idf * self._saturated(counts, self.log_k1, entries.lengths) * factor.exp()

    def pairs(self, entries: PairEntries) -> torch.Tensor:
        """Returns the weights of pairs; float32 [entries]."""
        weight = self._saturated(entries.counts, self.log_pair_k1, entries.lengths)
        factor = self.log_pairs + entries.features @ self.of_pair
        return entries.idf * weight * factor.exp()

    def _saturated(
        self, counts: torch.Tensor, log_k1: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        b = self.b.sigmoid()
        return counts / (counts + log_k1.exp() * (1 - b + b * lengths))

    def lengthened(self, words: int) -> Weighting:
        """Returns the same weighting for more words; new ones have gain 0."""
        more = words - len(self.gains)
        if more > 0:
            self.gains = nn.Parameter(torch.cat([self.gains.detach(), torch.zeros(more)]))
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the parameters by name, for a store."""
        return {
            name: np.atleast_1d(weight.detach().numpy()) for name, weight in self.named_parameters()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], words: int) -> Weighting:
        """Restores what `arrays` returned.

        Raises:
            InputError: A parameter has the wrong shape, or is not finite.
            KeyError: One is missing.
        """
        weighting = cls(words, k1=1.0, b=0.5, pairs=1.0, title_weight=1.0)
        with torch.no_grad():
            for name, weight in weighting.named_parameters():
                values = np.array(arrays[name], np.float32)
                if values.shape != (weight.numel(),):
                    raise InputError(f"{name} has shape {list(values.shape)}")
                # The logarithm of a weight of 0, which means no pairs, is not finite.
                if not np.isfinite(values).all() and name != "log_pairs":
                    raise InputError(f"{name} is not a finite number")
                weight.copy_(torch.from_numpy(values).view(weight.shape))
        return weighting


class Entries:
    """Words in documents: the input of `Weighting.words`.

    Args:
        lexicon: The counts.
        statistics: Statistics of the corpus.
        scales: Scales of the features.
        places: Indices of the entries; int64 [entries].
    """

    def __init__(
        self,
        lexicon: Lexicon,
        statistics: Statistics,
        scales: Scales,
        places: npt.NDArray[np.int64],
    ) -> None:
        rows = np.searchsorted(lexicon.offsets, places, side="right") - 1
        words = np.asarray(lexicon.words[places], np.int64)
        lengths = statistics.lengths[rows]
        absolute = lengths * np.float32(statistics.mean_length)
        self.words = torch.from_numpy(words)
        self.counts = _floats(lexicon.counts[places])
        self.title_counts = _floats(lexicon.title_counts[places])
        self.lengths = torch.from_numpy(lengths)
        self.idf = torch.from_numpy(statistics.idf[words])
        self.features = torch.from_numpy(scales.in_document(in_document(lexicon, places, absolute)))
        self.of_word = torch.from_numpy(scales.of_word(statistics.of_word[words]))


class PairEntries:
    """Pairs in documents: the input of `Weighting.pairs`; arguments as in `Entries`."""

    def __init__(
        self,
        lexicon: Lexicon,
        statistics: Statistics,
        scales: Scales,
        places: npt.NDArray[np.int64],
    ) -> None:
        rows = np.searchsorted(lexicon.pair_offsets, places, side="right") - 1
        pairs = np.searchsorted(statistics.pairs, lexicon.pair_keys[places])
        self.counts = _floats(lexicon.pair_counts[places])
        self.lengths = torch.from_numpy(statistics.lengths[rows])
        self.idf = torch.from_numpy(statistics.pair_idf[pairs])
        self.features = torch.from_numpy(scales.of_pair(statistics.of_pair[pairs]))


def entry_weights(
    weighting: Weighting, lexicon: Lexicon, statistics: Statistics, scales: Scales
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Returns the weights of all entries of words and of pairs; float32 [entries] each."""
    words = np.empty(len(lexicon.words), np.float32)
    pairs = np.empty(len(lexicon.pair_keys), np.float32)
    with torch.no_grad():
        for start in range(0, len(words), _CHUNK):
            places = np.arange(start, min(start + _CHUNK, len(words)))
            entries = Entries(lexicon, statistics, scales, places)
            words[places] = weighting.words(entries).numpy()
        for start in range(0, len(pairs), _CHUNK):
            places = np.arange(start, min(start + _CHUNK, len(pairs)))
            pair_entries = PairEntries(lexicon, statistics, scales, places)
            pairs[places] = weighting.pairs(pair_entries).numpy()
    return words, pairs


def _floats(counts: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(counts, np.float32))

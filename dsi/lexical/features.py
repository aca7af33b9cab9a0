"""Features, besides the count, for the weight of a word in a document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from dsi.lexical.lexicon import PAIR_SHIFT, Lexicon

IN_DOCUMENT = (
    "position", "in title", "first sentence", "last sentence", "capitals", "count", "length",
)  # fmt: skip
"""Features of a word in a document."""
OF_WORD = ("idf", "idf squared", "capitals", "digits", "letters", "burstiness", "in titles")
"""Features of a word."""
OF_PAIR = ("lower idf", "higher idf", "idf")
"""Features of a pair of words."""
_LEAST = 1e-6
_SAMPLE = 1_000_000


def idf(documents: int, frequencies: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Returns ln(1 + (n - df + 0.5) / (df + 0.5)), Lucene's inverse document frequency."""
    return np.log1p((documents - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of the features at training time; float32 [features] each.

    Later documents use the same scale, so that trained weights keep their meaning.
    """

    mean: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32]

    @classmethod
    def of(cls, features: npt.NDArray[np.float32]) -> Scale:
        """Computes the scale of features; float32 [entries, features]."""
        if not len(features):
            zeros = np.zeros(features.shape[1], np.float32)
            return cls(zeros, zeros)
        wide = features.astype(np.float64)
        return cls(wide.mean(0).astype(np.float32), wide.std(0).astype(np.float32))

    def __call__(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Standardizes features to mean 0 and deviation 1; constant ones become 0."""
        varies = self.deviation > _LEAST
        return (features - self.mean) / (self.deviation + _LEAST) * varies


@dataclass(frozen=True)
class Statistics:
    """Statistics of words and pairs over the live documents of a corpus.

    Attributes:
        documents: How many documents there are.
        mean_length: Mean number of words in a document.
        lengths: Words of each document divided by that mean; float32 [documents].
        idf: Inverse document frequency of each word; float32 [words].
        of_word: Features of each word, in the order of `OF_WORD`; float32 [words, 7].
        pairs: The pairs that occur, ascending; int64 [pairs].
        pair_idf: float32 [pairs].
        of_pair: Features of each pair, in the order of `OF_PAIR`; float32 [pairs, 3].
    """

    documents: int
    mean_length: float
    lengths: npt.NDArray[np.float32]
    idf: npt.NDArray[np.float32]
    of_word: npt.NDArray[np.float32]
    pairs: npt.NDArray[np.int64]
    pair_idf: npt.NDArray[np.float32]
    of_pair: npt.NDArray[np.float32]

    @classmethod
    def of(cls, lexicon: Lexicon, words: list[str], documents: int) -> Statistics:
        """Counts over a lexicon.

        Args:
            lexicon: The documents; those without an entry are not counted.
            words: All words, in the order of their numbers.
            documents: How many documents of the lexicon are live.
        """
        size = len(words)

        def per_word(values: np.ndarray | None = None) -> np.ndarray:
            return np.bincount(lexicon.words, weights=values, minlength=size)

        frequency = per_word().astype(np.int64)
        occurrences = per_word(lexicon.counts)
        present = np.maximum(frequency, 1)
        weight = idf(documents, frequency)
        relative = weight / np.float32(np.log1p(max(documents, 1)))
        lengths = lexicon.lengths()
        mean = float(lengths.sum() / max(documents, 1)) or 1.0
        of_word = np.stack(
            [
                relative,
                relative**2,
                per_word(lexicon.capitals) / np.maximum(occurrences, 1),
                np.array([any(map(str.isdigit, word)) for word in words], np.float32),
                np.log([max(len(word), 1) for word in words]),
                np.log(np.maximum(occurrences, 1) / present),
                per_word(lexicon.title_counts > 0) / present,
            ],
            axis=1,
        ).astype(np.float32)
        pairs, occurs = np.unique(lexicon.pair_keys, return_counts=True)
        pair_idf = idf(documents, occurs)
        first, second = weight[pairs >> PAIR_SHIFT], weight[pairs & 0xFFFFFFFF]
        of_pair = np.stack([np.minimum(first, second), np.maximum(first, second), pair_idf], axis=1)
        return cls(
            documents, mean, lengths / np.float32(mean), weight, of_word, pairs, pair_idf, of_pair
        )


def in_document(
    lexicon: Lexicon, places: slice | npt.NDArray[np.int64], lengths: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Returns the features of some entries, in the order of `IN_DOCUMENT`.

    Args:
        lexicon: The counts.
        places: Indices of the entries; int64 [entries], or a slice.
        lengths: Number of words in the document of each entry; float32 [entries].

    Returns:
        float32 [entries, 7].
    """
    counts = np.asarray(lexicon.counts[places], np.float32)
    return np.stack(
        [
            np.log1p(np.asarray(lexicon.positions[places], np.float32)),
            np.asarray(lexicon.title_counts[places] > 0, np.float32),
            np.asarray(lexicon.first_sentence[places], np.float32),
            np.asarray(lexicon.last_sentence[places], np.float32),
            np.asarray(lexicon.capitals[places], np.float32) / counts,
            np.log(counts),
            np.log1p(lengths),
        ],
        axis=1,
    )


@dataclass(frozen=True)
class Scales:
    """The scales of all features."""

    in_document: Scale
    of_word: Scale
    of_pair: Scale

    @classmethod
    def of(cls, lexicon: Lexicon, statistics: Statistics) -> Scales:
        """Computes the scales of a corpus; a word counts once for each document that has it.

        For a large corpus, a million evenly spaced entries are used.
        """
        entries = len(lexicon.words)
        places = np.linspace(0, entries - 1, min(entries, _SAMPLE)).astype(np.int64)
        rows = np.searchsorted(lexicon.offsets, places, side="right") - 1
        lengths = statistics.lengths[rows] * np.float32(statistics.mean_length)
        return cls(
            Scale.of(in_document(lexicon, places, lengths)),
            Scale.of(statistics.of_word[lexicon.words[places]]),
            Scale.of(statistics.of_pair),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the scales by name, for a store."""
        return {
            f"{name}_{part}": getattr(getattr(self, name), part)
            for name in ("in_document", "of_word", "of_pair")
            for part in ("mean", "deviation")
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Scales:
        """Restores what `arrays` returned.

        Raises:
            InputError: They have another dtype or shape, or are not finite.
            KeyError: One is missing.
        """
        sizes = {"in_document": len(IN_DOCUMENT), "of_word": len(OF_WORD), "of_pair": len(OF_PAIR)}
        for name, size in sizes.items():
            for part in (f"{name}_mean", f"{name}_deviation"):
                array = arrays[part]
                if array.dtype.kind != "f" or array.shape != (size,):
                    raise InputError(f"{part} is {array.dtype} {list(array.shape)}")
                if not np.isfinite(array).all() or (part.endswith("deviation") and array.min() < 0):
                    raise InputError(f"{part} has values that are not finite, or negative ones")
        return cls(
            *(
                Scale(np.array(arrays[f"{name}_mean"]), np.array(arrays[f"{name}_deviation"]))
                for name in sizes
            )
        )

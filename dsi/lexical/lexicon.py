"""How often each word, and each pair of neighboring words, occurs in each document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.progress import track
from docids.store import check_offsets
from dsi.lexical.words import Tokens, Vocabulary

_CHUNK = 4096
"""Documents per batch of counting, which bounds the working memory."""
_MOST = np.iinfo(np.uint16).max
PAIR_SHIFT = 32
"""The key of a pair is first << 32 | second."""


@dataclass(frozen=True)
class Lexicon:
    """Word counts of a corpus. The entries of a document are adjacent, with words ascending.

    Attributes:
        offsets: Where the entries of each document start, and the end of the last; int64 [documents
            + 1].
        words: The word of each entry; int32 [entries].
        counts: Occurrences in title and text; uint16 [entries].
        title_counts: Occurrences in the title; uint16 [entries].
        capitals: Occurrences that begin with a capital letter; uint16 [entries].
        positions: Number of words before the first occurrence; int32 [entries].
        first_sentence: Whether it occurs in the first sentence of the text; bool [entries].
        last_sentence: Whether it occurs in the last sentence; bool [entries].
        pair_offsets: Where the pairs of each document start, and the end of the last; int64
            [documents + 1].
        pair_keys: first << 32 | second of each ordered pair of neighbors within a sentence, without
            stop words, ascending within a document; int64 [pair entries].
        pair_counts: Occurrences; uint16 [pair entries].
    """

    offsets: npt.NDArray[np.int64]
    words: npt.NDArray[np.int32]
    counts: npt.NDArray[np.uint16]
    title_counts: npt.NDArray[np.uint16]
    capitals: npt.NDArray[np.uint16]
    positions: npt.NDArray[np.int32]
    first_sentence: npt.NDArray[np.bool_]
    last_sentence: npt.NDArray[np.bool_]
    pair_offsets: npt.NDArray[np.int64]
    pair_keys: npt.NDArray[np.int64]
    pair_counts: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        """The number of documents, including those without words."""
        return len(self.offsets) - 1

    @classmethod
    def count(
        cls,
        documents: Sequence[Document],
        vocabulary: Vocabulary,
        *,
        pairs: bool = True,
        grow: bool = True,
    ) -> Lexicon:
        """Counts the words of documents.

        Args:
            documents: The documents, in row order.
            vocabulary: Maps words to numbers.
            pairs: Whether pairs are counted.
            grow: Whether new words get numbers; otherwise they are skipped.
        """
        parts = []
        for start in track(range(0, max(len(documents), 1), _CHUNK), "counting words"):
            chunk = documents[start : start + _CHUNK]
            titles = [document.title for document in chunk]
            texts = [document.text for document in chunk]
            parts.append(_count(vocabulary.split(titles, texts, grow=grow), pairs))
        return _joined(parts)

    def merged_in_order(self, other: Lexicon, rows: npt.NDArray[np.int64]) -> Lexicon:
        """Merges the documents of two lexicons in a given order.

        Args:
            other: Another lexicon of the same vocabulary.
            rows: The source of each document: an index into this lexicon, or from `len(self)` on
                into the other; -1 for one without words; int64 [documents].
        """
        both = _joined([self, other])
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for name, columns in (("offsets", _WORD_COLUMNS), ("pair_offsets", _PAIR_COLUMNS)):
            offsets: npt.NDArray[np.int64] = getattr(both, name)
            starts = np.where(rows < 0, 0, offsets[rows])
            lengths = np.where(rows < 0, 0, np.diff(offsets)[rows])
            ends = np.concatenate([[0], np.cumsum(lengths)])
            places = np.arange(ends[-1]) + np.repeat(starts - ends[:-1], lengths)
            arrays[name] = ends.astype(np.int64)
            for column in columns:
                arrays[column] = np.asarray(getattr(both, column))[places]
        return Lexicon(**arrays)  # type: ignore[arg-type]

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """The document of each entry; int64 [entries]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def pair_rows(self) -> npt.NDArray[np.int64]:
        """The document of each pair entry; int64 [pair entries]."""
        return np.repeat(np.arange(len(self)), np.diff(self.pair_offsets))

    def lengths(self) -> npt.NDArray[np.float32]:
        """Returns how many words each document has; float32 [documents]."""
        totals = np.concatenate([[0], np.cumsum(np.asarray(self.counts, np.int64))])
        return np.diff(totals[self.offsets]).astype(np.float32)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns all arrays by name, for a store."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], words: int) -> Lexicon:
        """Checks arrays from a store.

        Args:
            arrays: As `arrays` returned them.
            words: Number of known words.

        Raises:
            InputError: They are inconsistent.
            KeyError: One is missing.
        """
        lexicon = cls(**{entry.name: arrays[entry.name] for entry in fields(cls)})
        for columns, offsets in (
            (_WORD_COLUMNS, lexicon.offsets),
            (_PAIR_COLUMNS, lexicon.pair_offsets),
        ):
            for column in columns:
                array = getattr(lexicon, column)
                if array.ndim != 1 or array.dtype.kind not in "iub":
                    raise InputError(f"{column} is {array.dtype} {list(array.shape)}")
                check_offsets(offsets, len(array), f"the offsets of {column}")
        if len(lexicon.pair_offsets) != len(lexicon.offsets):
            raise InputError(
                f"{len(lexicon.offsets) - 1} documents have words, but "
                f"{len(lexicon.pair_offsets) - 1} have pairs"
            )
        if len(lexicon.words) and not 0 <= lexicon.words.min() <= lexicon.words.max() < words:
            raise InputError(f"a word is not one of the {words} known words")
        for counts in (lexicon.counts, lexicon.pair_counts):
            if len(counts) and not counts.min() > 0:
                raise InputError("a word that occurs 0 times")
        for column in _WORD_COLUMNS:
            array = getattr(lexicon, column)
            if len(array) and array.min() < 0:
                raise InputError(f"{column} has negative numbers")
        if len(lexicon.pair_keys):
            first, second = lexicon.pair_keys >> PAIR_SHIFT, lexicon.pair_keys & _SECOND
            if not 0 <= first.min() <= first.max() < words or not second.max() < words:
                raise InputError(f"a word of a pair is not one of the {words} known words")
        return lexicon


_SECOND = (1 << PAIR_SHIFT) - 1
_WORD_COLUMNS = (
    "words", "counts", "title_counts", "capitals", "positions", "first_sentence", "last_sentence",
)  # fmt: skip
_PAIR_COLUMNS = ("pair_keys", "pair_counts")


def _joined(parts: Sequence[Lexicon]) -> Lexicon:
    """Concatenates the documents of several lexicons."""
    if len(parts) == 1:
        return parts[0]
    joined: dict[str, np.ndarray] = {}
    for entry in fields(Lexicon):
        arrays = [np.asarray(getattr(part, entry.name)) for part in parts]
        if entry.name.endswith("offsets"):
            ends = np.cumsum([0, *(array[-1] for array in arrays)])
            arrays = [array[1:] + end for array, end in zip(arrays, ends, strict=False)]
            arrays.insert(0, np.zeros(1, np.int64))
        joined[entry.name] = np.concatenate(arrays)
    return Lexicon(**joined)


def _count(tokens: Tokens, pairs: bool) -> Lexicon:
    in_vocabulary = tokens.words >= 0
    texts, words = tokens.texts[in_vocabulary], tokens.words[in_vocabulary]
    keys, entry = np.unique(texts << PAIR_SHIFT | words, return_inverse=True)
    size = len(keys)

    def total(values: np.ndarray) -> npt.NDArray[np.uint16]:
        sums = np.bincount(entry, weights=values, minlength=size)
        return np.minimum(sums, _MOST).astype(np.uint16)

    def some(values: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        return np.bincount(entry, weights=values, minlength=size) > 0

    places = tokens.sentences[in_vocabulary]
    in_text = ~tokens.titles[in_vocabulary] & (places >= 0)
    first = np.full(tokens.count, np.iinfo(np.int64).max)
    last = np.full(tokens.count, -1)
    np.minimum.at(first, texts[in_text], places[in_text])
    np.maximum.at(last, texts[in_text], places[in_text])
    starts = np.searchsorted(texts, np.arange(tokens.count))
    positions = np.full(size, np.iinfo(np.int32).max, np.int32)
    np.minimum.at(positions, entry, (np.arange(len(texts)) - starts[texts]).astype(np.int32))
    pair_keys, pair_counts, pair_offsets = _pairs(tokens, pairs)
    return Lexicon(
        offsets=np.searchsorted(keys, np.arange(tokens.count + 1) << PAIR_SHIFT).astype(np.int64),
        words=(keys & 0xFFFFFFFF).astype(np.int32),
        counts=total(np.ones(len(entry))),
        title_counts=total(tokens.titles[in_vocabulary]),
        capitals=total(tokens.capitals[in_vocabulary]),
        positions=positions,
        first_sentence=some(in_text & (places == first[texts])),
        last_sentence=some(in_text & (places == last[texts])),
        pair_offsets=pair_offsets,
        pair_keys=pair_keys,
        pair_counts=pair_counts,
    )


def neighbors(tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs of neighboring known words, first << 32 | second, and their texts.

    Args:
        tokens: The words. An unknown word separates its neighbors, and so does the end of a
            sentence; a stop word does not.

    Returns:
        Keys and texts; int64 [pairs] each.
    """
    parts = tokens.sentences >= 0  # the whole identifier comes in addition to its parts
    words, texts, places = tokens.words[parts], tokens.texts[parts], tokens.sentences[parts]
    first, second = words[:-1], words[1:]
    near = (texts[:-1] == texts[1:]) & (places[:-1] == places[1:])
    near &= (first >= 0) & (second >= 0) & (first != second)
    return (first << PAIR_SHIFT | second)[near], texts[:-1][near]


def _pairs(tokens: Tokens, enabled: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns keys, counts and offsets of the pairs of each text."""
    if not enabled:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing.astype(np.uint16), np.zeros(tokens.count + 1, np.int64)
    keys, texts = neighbors(tokens)
    order = np.lexsort((keys, texts))
    keys, texts = keys[order], texts[order]
    fresh = np.ones(len(keys), bool)
    fresh[1:] = (keys[1:] != keys[:-1]) | (texts[1:] != texts[:-1])
    starts = np.flatnonzero(fresh)
    counts = np.minimum(np.diff(np.append(starts, len(keys))), _MOST).astype(np.uint16)
    offsets = np.searchsorted(texts[starts], np.arange(tokens.count + 1)).astype(np.int64)
    return keys[starts], counts, offsets

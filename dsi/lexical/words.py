"""Splits texts into numbered words, with the context of each occurrence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.text_processing import (
    IN_WORDS,
    as_typed,
    fold,
    sentences,
    snowball,
    spaced,
    stopwords,
)

_WORD = re.compile(rf"(?<![{IN_WORDS}])[{IN_WORDS}]{{2,}}(?![{IN_WORDS}])")
_CODE = re.compile(rf"[{IN_WORDS}]+(?:\.[{IN_WORDS}]+)*")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_IDENTIFIER = re.compile(r"[a-z\d]_[a-z\d]|\b[a-z]+[A-Z][a-z]|\w\(\)")
_SHARE_WITH_CODE = 0.05

STOPPED = -1
"""Number of a stop word."""
UNKNOWN = -2
"""Number of a word that no document has."""


@dataclass(frozen=True)
class Tokens:
    """The words of many texts, concatenated.

    Attributes:
        words: The number of each word, `UNKNOWN` if it has none; int64 [tokens].
        texts: The text of each word; int64 [tokens].
        sentences: The sentence of each word, numbered over all texts; a title is one. -1 for a
            whole identifier that is split into parts as well; int64 [tokens].
        titles: Whether each word is in a title; bool [tokens].
        capitals: Whether each word begins with a capital letter; bool [tokens].
        count: Number of texts.
    """

    words: npt.NDArray[np.int64]
    texts: npt.NDArray[np.int64]
    sentences: npt.NDArray[np.int64]
    titles: npt.NDArray[np.bool_]
    capitals: npt.NDArray[np.bool_]
    count: int


def has_code(texts: Sequence[str]) -> bool:
    """Returns whether at least a twentieth of the texts contain a program identifier."""
    if not texts:
        return False
    with_code = sum(_IDENTIFIER.search(text) is not None for text in texts)
    return with_code >= max(1.0, _SHARE_WITH_CODE * len(texts))


class Vocabulary:
    """Numbers the words of a corpus, without stop words and after stemming.

    A word has at least two letters; in scripts without spaces, it is any two adjacent characters.

    Args:
        language: Of stop words and stemmer; "none" for neither.
        code: Whether program identifiers are also split into words.
        words: The known words, in the order of their numbers.
    """

    def __init__(self, language: str, code: bool = False, words: Iterable[str] = ()) -> None:
        self.language = language
        self.code = code
        self._stop = stopwords(language)
        stem = snowball(language)
        self._stem = stem.stemWord if stem is not None else str
        self._numbers = {word: number for number, word in enumerate(words)}
        self._seen: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def words(self) -> list[str]:
        """The words in the order of their numbers."""
        return list(self._numbers)

    def copy(self) -> Vocabulary:
        """Returns a vocabulary of the same words, to add others to."""
        return Vocabulary(self.language, self.code, self._numbers)

    def number(self, word: str, *, grow: bool) -> int:
        """Returns the number of a lower-case word; `STOPPED` or `UNKNOWN` if it has none.

        Args:
            word: The word, not stemmed.
            grow: Whether a new word gets a number.
        """
        existing = self._seen.get(word)
        if existing is not None:
            return existing
        if word in self._stop:
            number = STOPPED
        else:
            stemmed = self._stem(word)
            number = self._numbers.get(stemmed, UNKNOWN)
            if number == UNKNOWN:
                if not grow:
                    return UNKNOWN
                number = self._numbers[stemmed] = len(self._numbers)
        self._seen[word] = number
        return number

    def split(self, titles: Sequence[str], texts: Sequence[str], *, grow: bool) -> Tokens:
        """Splits texts into numbered words.

        Args:
            titles: The title of each text; empty for none.
            texts: The texts.
            grow: Whether new words get numbers.
        """
        words: list[int] = []
        owners: list[int] = []
        places: list[int] = []
        in_title: list[bool] = []
        capitals: list[bool] = []
        sentence = 0
        for owner, (title, text) in enumerate(zip(titles, texts, strict=True)):
            pieces = [(title, True)] if title.strip() else []
            pieces += [(piece, False) for piece in sentences(text)]
            for piece, is_title in pieces:
                sentence += 1
                for word, is_whole in self._surface(piece):
                    lower = fold(word)
                    number = self.number(lower, grow=grow)
                    if number == STOPPED:
                        continue
                    words.append(number)
                    owners.append(owner)
                    places.append(-1 if is_whole else sentence)
                    in_title.append(is_title)
                    capitals.append(word[0] != lower[0])
        return Tokens(
            np.array(words, np.int64),
            np.array(owners, np.int64),
            np.array(places, np.int64),
            np.array(in_title, bool),
            np.array(capitals, bool),
            len(texts),
        )

    def _surface(self, text: str) -> Iterable[tuple[str, bool]]:
        """Yields the words of a text as written, and whether each is a whole identifier."""
        text = spaced(as_typed(text))
        if not self.code:
            for word in _WORD.findall(text):
                yield word, False
            return
        for word in _CODE.findall(text):
            parts = [part for part in _PART.findall(word) if len(part) > 1]
            if len(parts) > 1:
                yield word, True
                for part in parts:
                    yield part, False
            elif len(word) > 1:
                yield word, False

"""Words and sentences: the one place that says how text is taken apart."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

from data_prep.errors import InputError

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\Wa-z])|\n\s*\n|(?<=[。！？])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Z]|[Ee]\.g|[Ii]\.e|[Ee]tc|[Vv]s|[Cc]f|[Ff]ig|[Nn]o|St|Mr|Mrs|Ms|Dr|Prof|Jr|Sr))\.$"
)


def normalise(text: str) -> str:
    """Returns `text` in Unicode form NFKC, lower case, with white space folded to one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def one_line(text: str) -> str:
    """Returns `text` with white space folded to one blank, and none at its ends."""
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """Returns the words of `text` in order, normalised: runs of letters and digits."""
    return _WORD.findall(normalise(text))


def surface_words(text: str) -> list[str]:
    """Returns the words of `text` in order and in the case they are written in."""
    return _WORD.findall(unicodedata.normalize("NFKC", text))


def sentences(text: str) -> list[str]:
    """Splits `text` into sentences, in order and without the white space between them.

    A sentence ends at `.`, `!` or `?` before white space and something other than a lower-case
    letter, at an empty line, or at a full-width end mark (Chinese, Japanese). Initials and
    common abbreviations do not end one.
    """
    pieces: list[str] = []
    start = 0
    for end in _SENTENCE_END.finditer(text):
        piece = text[start : end.start()].strip()
        if _ABBREVIATION.search(piece) and not end.group().strip(" \t").startswith("\n"):
            continue
        if piece:
            pieces.append(" ".join(piece.split()))
        start = end.end()
    rest = text[start:].strip()
    if rest:
        pieces.append(" ".join(rest.split()))
    return pieces


@functools.cache
def stopwords(language: str = "english") -> frozenset[str]:
    """Returns the stop words of a language as bm25s lists them.

    Args:
        language: "english", "german", ... or "none" for an empty set.

    Raises:
        InputError: bm25s has no list for that language.
    """
    if language == "none":
        return frozenset()
    from bm25s import stopwords as lists

    name = "STOPWORDS_EN" if language == "english" else f"STOPWORDS_{language.upper()}"
    if not hasattr(lists, name):
        known = sorted(
            entry[10:].lower()
            for entry in vars(lists)
            if entry.startswith("STOPWORDS_") and not entry.startswith("STOPWORDS_EN")
        )
        raise InputError(
            f"no stop words for language {language!r}",
            mend=f"Choose from: english, none, {', '.join(known)}",
        )
    return frozenset(getattr(lists, name))


def stemmer(language: str = "english") -> Callable[[list[str]], list[str]]:
    """Returns a function that gives the stem of each word of a list (Snowball, by PyStemmer).

    Args:
        language: "english", "german", ... or "none" for words as they are.

    Raises:
        InputError: PyStemmer has none for that language.
    """
    if language == "none":
        return list
    import Stemmer

    if language not in Stemmer.algorithms():
        raise InputError(
            f"no stemmer for language {language!r}",
            mend=f"Choose from: none, {', '.join(Stemmer.algorithms())}",
        )
    stem: Callable[[list[str]], list[str]] = Stemmer.Stemmer(language).stemWords
    return stem

"""Text normalization, and splitting into words and sentences."""

from __future__ import annotations

import functools
import importlib.util
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from data_prep.errors import InputError
from data_prep.limits import LONGEST_SENTENCE, LONGEST_WORD

# Vowel signs and points (Hindi, Thai, Arabic, Hebrew, ...), which `\w` does not match.
_MARKS = "".join(
    chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc")
)
IN_WORDS = rf"\w{_MARKS}"
"""Characters of words, including underscores, for a regular-expression character class."""
APOSTROPHES = "\u2018\u2019\u201b\u02bb\u02bc\u02bd\u02b9\u2032\u05f3\uff07\ua78c"
"""What stands for U+0027 in a word: O\u2019Brien is O'Brien."""
INVISIBLE = (
    # Soft hyphens, joiners, direction marks, variation selectors, and the Arabic tatweel.
    "\u00ad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200c-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff"
)
"""Invisible characters, for a regular-expression character class."""
_APOSTROPHE = re.compile(rf"[{APOSTROPHES}]|(?<=\w)[`\u00b4](?=\w)")
# A soft hyphen at the end of a line joins the two halves of its word.
_UNSEEN = re.compile(rf"\u00ad[ \t]*\r?\n[ \t]*|[{INVISIBLE}]")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
# In Arabic script it separates the parts of a word, and people type a space instead.
_PERSIAN_GAP = re.compile(r"(?<=[\u0600-\u06ff])\u200c(?=[\u0600-\u06ff])")
# Not text; the last two are sentencepiece's own markers, and it rejects lines that contain them.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\ud800-\udfff\u2581\u2585]")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD}}}(?=\S)")
_WORD = re.compile(rf"[{IN_WORDS}]+(?:['’][{IN_WORDS}]+)*")
# Arabic, Urdu, Hindi, Ethiopic and Armenian have their own sentence-final punctuation.
_SENTENCE_END = re.compile(
    r"(?<=[.!?…؟۔।॥።։])[\"'”’»)\]]*\s+(?=[\"'“‘«(\[¿¡]*[^\Wa-z])"
    r"|\n\s*\n"
    r"|(?<=[。！？｡])(?![。！？｡」』）】》〉〕”’\"')\]])"
)
# Han, kana, Thai, Lao, Burmese, Khmer: written without spaces between words.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Z]|[Ee]\.g|[Ii]\.e|[Ee]tc|[Vv]s|[Cc]f|[Ff]ig|[Nn]o|St|Mr|Mrs|Ms|Dr|Prof|Jr|Sr))\.$"
)


def as_typed(text: str) -> str:
    """Returns `text` as people would type it, in Unicode form NFKC.

    Apostrophes become U+0027; soft hyphens and other zero-width characters are removed; control
    characters and non-characters become spaces. Case and white space are kept.
    """
    if not text.isascii() or "`" in text:
        text = _PERSIAN_GAP.sub(" ", _APOSTROPHE.sub("'", text))
        # Composed forms may contain them, too.
        text = _UNSEEN.sub("", unicodedata.normalize("NFKC", _UNSEEN.sub("", text)))
    return _NO_TEXT.sub(_blank, text)


def _blank(character: re.Match[str]) -> str:
    return character.group() if character.group().isspace() else " "


def fold(text: str) -> str:
    """Returns `text` in lower case, with one spelling of what has several.

    Straße is strasse (as STRASSE is), İzmir is izmir, and decimal digits of all scripts are 0 to 9.
    """
    text = text.lower()
    if text.isascii():
        return text
    # Python lower-cases a capital dotted I to an i with a combining dot.
    text = text.replace("i\u0307", "i").replace("ß", "ss")
    text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit.group())), text)
    return unicodedata.normalize("NFKC", text)


def normalize(text: str) -> str:
    """Returns `text` in its typed form, folded (`fold`), with white space collapsed.

    Words of documents and queries are always compared in this form; see `as_typed`.
    """
    return " ".join(fold(as_typed(text)).split())


def as_number(text: str) -> float | None:
    """Returns the number that `text` is in plain decimal notation, such as `-1.5e3`; else None.

    `float` also reads `1_0` as 10, digits of other scripts, `nan` and `inf`.
    """
    return float(text) if _NUMBER.fullmatch(text.strip()) else None


def one_line(text: str) -> str:
    """Returns `text` with white space collapsed and stripped."""
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """Returns the words of `text` in order, normalized: runs of letters and digits."""
    return _cut(_WORD.findall(normalize(text).replace("_", " ")))


def surface_words(text: str) -> list[str]:
    """Returns the words of `text` in order, in their original case."""
    return _cut(_WORD.findall(as_typed(text).replace("_", " ")))


def _cut(words: list[str]) -> list[str]:
    """Returns words, splitting those that are longer than LONGEST_WORD."""
    if max(map(len, words), default=0) <= LONGEST_WORD:
        return words
    return [part for word in words for part in short_words(word).split()]


def short_words(text: str) -> str:
    """Returns `text` with a space inserted after every LONGEST_WORD characters without one."""
    return _LONG_WORD.sub(r"\g<0> ", text) if len(text) > LONGEST_WORD else text


def training_lines(texts: Iterable[str]) -> Iterator[str]:
    """Yields texts as training lines for sentencepiece, without empty ones.

    Sentencepiece silently skips long lines, and lines with its own markers. Long texts are split at
    spaces where possible, and markers become spaces.
    """
    for text in texts:
        rest = _NO_TEXT.sub(_blank, text).strip()
        while len(rest) > LONGEST_SENTENCE:
            end = rest.rfind(" ", 0, LONGEST_SENTENCE)
            end = end if end > 0 else LONGEST_SENTENCE
            yield rest[:end]
            rest = rest[end:].strip()
        if rest:
            yield rest


def spaced(text: str) -> str:
    """Returns `text` with spaces between terms, also in scripts without them.

    A run of characters of such a script becomes its character bigrams, which match wherever the run
    begins; a single character is kept. Other text is unchanged.
    """
    return UNSPACED.sub(_in_pairs, text)


def _in_pairs(run: re.Match[str]) -> str:
    characters = run.group()
    pairs = [characters[at : at + 2] for at in range(max(1, len(characters) - 1))]
    return f" {' '.join(pairs)} "


def terms(text: str) -> list[str]:
    """Returns the words of `text`, or character bigrams in scripts that do not separate words.

    Use these to compare texts; in Chinese, `words` returns whole clauses.
    """
    return words(spaced(as_typed(text)))


def sentences(text: str) -> list[str]:
    """Splits `text` into sentences, in order and stripped.

    A sentence ends at `.`, `!` or `?` (or the equivalent of Arabic, Urdu, Hindi, Ethiopic and
    Armenian) followed by white space and no lower-case letter, at an empty line, or at full-width
    punctuation (Chinese, Japanese) that does not close a quotation. Initials and common
    abbreviations do not end a sentence. Thai, which has no sentence punctuation, is split into
    paragraphs.
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
    """Returns the stop words of a language as bm25s lists them, normalized.

    Args:
        language: "english", "german", ... or "none" for an empty set.

    Raises:
        InputError: bm25s has no list for that language.
    """
    if language == "none":
        return frozenset()
    lists = _lists_of_stop_words()
    name = "STOPWORDS_EN" if language == "english" else f"STOPWORDS_{language.upper()}"
    if not hasattr(lists, name):
        languages = sorted(
            entry[10:].lower()
            for entry in vars(lists)
            if entry.startswith("STOPWORDS_") and not entry.startswith("STOPWORDS_EN")
        )
        raise InputError(
            f"no stop words for language {language!r}",
            hint=f"Choose from: english, none, {', '.join(languages)}",
        )
    return frozenset(map(normalize, getattr(lists, name)))


@functools.cache
def _lists_of_stop_words() -> ModuleType:
    """Imports `bm25s.stopwords`, which holds only lists, without bm25s, which imports scipy."""
    package = importlib.util.find_spec("bm25s")
    paths = package.submodule_search_locations if package is not None else None
    spec = PathFinder.find_spec("stopwords", paths)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("No module named 'bm25s.stopwords'", name="bm25s")
    lists = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lists)
    return lists


def stemmer(language: str = "english") -> Callable[[list[str]], list[str]]:
    """Returns a function that stems a list of words (Snowball, by PyStemmer).

    Args:
        language: "english", "german", ... or "none" for no stemming.

    Raises:
        InputError: PyStemmer does not support that language.
    """
    algorithm = snowball(language)
    if algorithm is None:
        return list
    stem: Callable[[list[str]], list[str]] = algorithm.stemWords
    return stem


def snowball(language: str) -> Any:
    """Returns PyStemmer's stemmer of a language; None for "none".

    Raises:
        InputError: PyStemmer does not support that language.
    """
    if language == "none":
        return None
    import Stemmer

    if language not in Stemmer.algorithms():
        raise InputError(
            f"no stemmer for language {language!r}",
            hint=f"Choose from: none, {', '.join(Stemmer.algorithms())}",
        )
    return Stemmer.Stemmer(language)

"""Words and sentences: the one place that says how text is taken apart."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from data_prep.errors import InputError
from data_prep.limits import LONGEST_SENTENCE, LONGEST_WORD

# Vowel signs and points (Hindi, Thai, Arabic, Hebrew, ...), which `\w` leaves out.
_MARKS = "".join(
    chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc")
)
IN_WORDS = rf"\w{_MARKS}"
"""What words are made of, underscores included, to stand in a class of a regular expression."""
APOSTROPHES = "\u2018\u2019\u201b\u02bb\u02bc\u02bd\u02b9\u2032\u05f3\uff07\ua78c"
"""What stands for U+0027 in a word: O\u2019Brien is O'Brien."""
INVISIBLE = (
    # Soft hyphens, joiners, direction marks, variation selectors, and the Arabic stretch of lines.
    "\u00ad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200c-\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff"
)
"""What no one types and no one sees, for a class of a regular expression."""
_APOSTROPHE = re.compile(rf"[{APOSTROPHES}]|(?<=\w)[`\u00b4](?=\w)")
# A soft hyphen at the end of a line joins the two halves of its word.
_UNSEEN = re.compile(rf"\u00ad[ \t]*\r?\n[ \t]*|[{INVISIBLE}]")
# In Arabic script it parts what is one word elsewhere, and is typed as a blank.
_PERSIAN_GAP = re.compile(r"(?<=[\u0600-\u06ff])\u200c(?=[\u0600-\u06ff])")
# Of no text; the last two are sentencepiece's own marks, which it takes no line with.
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\ud800-\udfff\u2581\u2585]")
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD}}}(?=\S)")
_WORD = re.compile(rf"[{IN_WORDS}]+(?:['’][{IN_WORDS}]+)*")
# Arabic, Urdu, Hindi, Ethiopic and Armenian have end marks of their own before the white space.
_SENTENCE_END = re.compile(
    r"(?<=[.!?…؟۔।॥።։])[\"'”’»)\]]*\s+(?=[\"'“‘«(\[¿¡]*[^\Wa-z])"
    r"|\n\s*\n"
    r"|(?<=[。！？｡])(?![。！？｡」』）】》〉〕”’\"')\]])"
)
# Han, kana, Thai, Lao, Burmese, Khmer: written without blanks between words.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Z]|[Ee]\.g|[Ii]\.e|[Ee]tc|[Vv]s|[Cc]f|[Ff]ig|[Nn]o|St|Mr|Mrs|Ms|Dr|Prof|Jr|Sr))\.$"
)


def as_typed(text: str) -> str:
    """Returns `text` in the characters that people type, in Unicode form NFKC.

    Apostrophes are U+0027; soft hyphens and other characters without a width are gone; control
    characters, and what is no character, are blanks. Case and white space stay.
    """
    if not text.isascii() or "`" in text:
        text = _PERSIAN_GAP.sub(" ", _APOSTROPHE.sub("'", text))
        # Composed forms may hold them, too.
        text = _UNSEEN.sub("", unicodedata.normalize("NFKC", _UNSEEN.sub("", text)))
    return _NO_TEXT.sub(_blank, text)


def _blank(character: re.Match[str]) -> str:
    return character.group() if character.group().isspace() else " "


def normalise(text: str) -> str:
    """Returns `text` as people type it, in lower case, with white space folded to one blank.

    This is how words of documents and queries are compared everywhere; see `as_typed`.
    """
    return " ".join(as_typed(text).lower().split())


def one_line(text: str) -> str:
    """Returns `text` with white space folded to one blank, and none at its ends."""
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """Returns the words of `text` in order, normalised: runs of letters and digits."""
    return _cut(_WORD.findall(normalise(text).replace("_", " ")))


def surface_words(text: str) -> list[str]:
    """Returns the words of `text` in order and in the case they are written in."""
    return _cut(_WORD.findall(as_typed(text).replace("_", " ")))


def _cut(found: list[str]) -> list[str]:
    """Returns words, those that are longer than LONGEST_WORD in several parts."""
    if max(map(len, found), default=0) <= LONGEST_WORD:
        return found
    return [part for word in found for part in short_words(word).split()]


def short_words(text: str) -> str:
    """Returns `text` with a blank after LONGEST_WORD characters that have none between them."""
    return _LONG_WORD.sub(r"\g<0> ", text) if len(text) > LONGEST_WORD else text


def training_lines(texts: Iterable[str]) -> Iterator[str]:
    """Yields texts as lines that sentencepiece learns from, without the empty ones.

    It passes over long lines, and those with one of its own marks, without a word: a long text is
    cut at blanks, where it has any, and a mark is a blank.
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
    """Returns `text` with blanks between its terms where its script has none.

    A run of such characters becomes all pairs of neighbours in it, which match wherever a run
    begins; a run of one stays. Other text is left as it is.
    """
    return UNSPACED.sub(_in_pairs, text)


def _in_pairs(run: re.Match[str]) -> str:
    characters = run.group()
    pairs = [characters[at : at + 2] for at in range(max(1, len(characters) - 1))]
    return f" {' '.join(pairs)} "


def terms(text: str) -> list[str]:
    """Returns the words of `text` as `words` does, in scripts without blanks pairs of characters.

    What is counted to compare texts: in Chinese, `words` are whole clauses.
    """
    return words(spaced(as_typed(text)))


def sentences(text: str) -> list[str]:
    """Splits `text` into sentences, in order and without the white space between them.

    A sentence ends at `.`, `!` or `?` before white space and something other than a lower-case
    letter (or at the like of Arabic, Urdu, Hindi, Ethiopic and Armenian), at an empty line, or
    at a full-width end mark (Chinese, Japanese) that closes no quotation. Initials and common
    abbreviations do not end one. Thai, which marks no end, is one sentence a paragraph.
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
            hint=f"Choose from: english, none, {', '.join(known)}",
        )
    return frozenset(getattr(lists, name))


def stemmer(language: str = "english") -> Callable[[list[str]], list[str]]:
    """Returns a function that gives the stem of each word of a list (Snowball, by PyStemmer).

    Args:
        language: "english", "german", ... or "none" for words as they are.

    Raises:
        InputError: PyStemmer has none for that language.
    """
    made = snowball(language)
    if made is None:
        return list
    stem: Callable[[list[str]], list[str]] = made.stemWords
    return stem


def snowball(language: str) -> Any:
    """Returns PyStemmer's stemmer of a language; None for "none".

    Raises:
        InputError: PyStemmer has none for that language.
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

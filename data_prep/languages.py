"""The languages of texts, by py3langid if it is installed, and otherwise their scripts."""

from __future__ import annotations

import importlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

_READ = 1000
"""Characters of a text that are read."""
_FEWEST_LETTERS = 20
"""Minimum number of letters in a text for its language to be detected."""
TOO_SHORT = "too short"


def detector() -> tuple[str, Callable[[str], str]]:
    """Returns a name for what is detected, and a function from a text to it.

    py3langid (extra `languages`) tells 97 languages apart, as ISO 639-1 codes, without a network;
    its models are those of Lui and Baldwin, langid.py (ACL 2012). Without it, the function returns
    the script of most letters, such as Latin.
    """
    try:
        classify = importlib.import_module("py3langid").classify
    except ImportError:
        return "scripts", lambda text: script_of(_start(text))
    return (
        "languages",
        lambda text: (
            str(classify(_start(text))[0])
            if _letters(_start(text)) >= _FEWEST_LETTERS
            else TOO_SHORT
        ),
    )


def shares(texts: Iterable[str], detect: Callable[[str], str]) -> dict[str, float]:
    """Returns language or script -> its fraction of the texts, the most common first."""
    counts = Counter(detect(text) for text in texts)
    total = counts.total()
    return {name: count / total for name, count in counts.most_common()}


def script_of(text: str) -> str:
    """Returns the script of most letters: the first word of their names in Unicode."""
    scripts = Counter(
        unicodedata.name(letter, "unknown").partition(" ")[0] for letter in text if letter.isalpha()
    )
    return scripts.most_common(1)[0][0].capitalize() if scripts else TOO_SHORT


def _start(text: str) -> str:
    return text[:_READ]


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))

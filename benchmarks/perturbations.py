"""Queries as people really write them: with typos, fewer words, other orders, other cases.

Every change is drawn from the seed, its own name and the query's text, so that all systems read the
same queries, whatever is measured with them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

_SHORTEST = 4
"""Letters of a word that is misspelt at least."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _misspell(word: str, draw: random.Random) -> str:
    """Swaps two neighboring letters, or leaves out, doubles or replaces one, never the first."""
    place = draw.randrange(1, len(word) - 1)
    before, letter, after = word[:place], word[place], word[place + 1 :]
    return draw.choice(
        [
            before + after[0] + letter + after[1:],
            before + after,
            before + letter + letter + after,
            before + draw.choice(_LETTERS) + after,
        ]
    )


def _typos(share: float) -> Callable[[str, random.Random], str]:
    def change(text: str, draw: random.Random) -> str:
        words = text.split()
        long = [place for place, word in enumerate(words) if len(word) >= _SHORTEST]
        count = min(len(long), max(1, round(share * len(long))))
        for place in draw.sample(long, count):
            words[place] = _misspell(words[place], draw)
        return " ".join(words)

    return change


def _dropped(share: float) -> Callable[[str, random.Random], str]:
    def change(text: str, draw: random.Random) -> str:
        words = text.split()
        kept = max(1, len(words) - max(1, round(share * len(words))))
        places = sorted(draw.sample(range(len(words)), min(kept, len(words))))
        return " ".join(words[place] for place in places)

    return change


def _shuffled(text: str, draw: random.Random) -> str:
    words = text.split()
    draw.shuffle(words)
    return " ".join(words)


PERTURBATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "as they are": lambda text, draw: text,
    "one typo": _typos(0.0),
    "typos in half the words": _typos(0.5),
    "a quarter of the words dropped": _dropped(0.25),
    "half of the words dropped": _dropped(0.5),
    "words in any order": _shuffled,
    "upper case": lambda text, draw: text.upper(),
    "lower case": lambda text, draw: text.lower(),
}
"""What is done to a query -> how, with a source of randomness of its own."""


def perturbed(text: str, name: str, seed: int) -> str:
    """Returns a query as `name` in `PERTURBATIONS` changes it; the same for the same arguments."""
    return PERTURBATIONS[name](text, random.Random(f"{seed} {name} {text}"))

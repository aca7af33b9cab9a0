"""Titles as identifiers (GENRE, De Cao et al., ICLR 2021)."""

from __future__ import annotations

from collections.abc import Iterator

from docids.kinds.base import KINDS, Documents
from docids.kinds.text import TextKind, TextOptions
from docids.term_weights import TermWeights

_DISTINGUISHING = 3


class Title(TextKind):
    """The title; where another document has it, with one, two or three of its keywords.

    A document without a title is named by its heaviest terms alone.
    """

    def phrases(
        self, documents: Documents, options: TextOptions, weights: TermWeights, seed: int
    ) -> Iterator[list[str]]:
        """Yields the title, then the title with ever more keywords."""
        for title, text in zip(documents.titles, documents.texts, strict=True):
            said = set(weights.ranked(title, len(title)))
            keywords = weights.ranked(text, _DISTINGUISHING + len(said))
            keywords = [term for term in keywords if term not in said][:_DISTINGUISHING]
            several = [" ".join([title, *keywords[:n]]) for n in range(len(keywords) + 1)]
            yield several if title.strip() else several[:0:-1]


KINDS.register("title")(Title("title"))

"""Titles as identifiers (GENRE, De Cao et al., ICLR 2021)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from data_prep.text_processing import normalize
from docids.kinds.base import KINDS, Documents
from docids.kinds.text import TextKind, TextOptions
from docids.term_weights import TermWeights

_DISTINGUISHING = 3


class Title(TextKind):
    """The title; if other documents have the same title, the title followed by keywords.

    All documents that share a title get keywords: a bare title is a shorter identifier and would
    outrank every other document of that title. A document without a title is named by its heaviest
    terms.
    """

    def phrases(
        self, documents: Documents, options: TextOptions, weights: TermWeights, seed: int
    ) -> Iterator[list[str]]:
        """Yields the title, then the title with ever more keywords; most first if it is shared."""
        having = Counter(map(normalize, documents.titles))
        for title, text in zip(documents.titles, documents.texts, strict=True):
            title_terms = set(weights.ranked(title, len(title)))
            keywords = weights.ranked(text, _DISTINGUISHING + len(title_terms))
            keywords = [term for term in keywords if term not in title_terms][:_DISTINGUISHING]
            several = [" ".join([title, *keywords[:n]]) for n in range(len(keywords) + 1)]
            alone = having[normalize(title)] == 1 or options.collisions == "share"
            yield several if title.strip() and alone else several[:0:-1] or several


KINDS.register("title")(Title("title"))

"""Keywords as identifiers: a document's heaviest terms (Ultron, GLEN's first phase)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from data_prep.marks import Advanced, Count
from docids.kinds.base import KINDS, Documents
from docids.kinds.text import TextKind, TextOptions
from docids.term_weights import TermWeights

_SPARE = 3


@dataclass(frozen=True)
class KeywordOptions(TextOptions, group="keywords"):
    """How many keywords identify a document, and how they are written."""

    count: Advanced[Count] = 3
    """Keywords per identifier (GLEN: 3); more where needed to tell documents apart"""


class Keywords(TextKind):
    """The terms of highest BM25 weight, in descending order.

    Zhou et al., Ultron, arXiv 2208.09257 (term sets); Lee et al., GLEN, EMNLP 2023, section 3.2.
    """

    Options = KeywordOptions

    def phrases(
        self, documents: Documents, options: KeywordOptions, weights: TermWeights, seed: int
    ) -> Iterator[list[str]]:
        """Yields the top keywords, then one more each time, then variants of the last one."""
        for text in documents.texts:
            terms = weights.ranked(text, options.count + options.identifiers - 1 + _SPARE)
            first, spare = terms[: options.count], terms[options.count :]
            swapped = [[*first[:-1], term] for term in spare]
            longer = [first + spare[:n] for n in range(1, len(spare) + 1)]
            # Several identifiers of a document must differ in content, not in length.
            order = [*swapped, *longer] if options.identifiers > 1 else [*longer, *swapped]
            yield [" ".join(chosen) for chosen in [first, *order]]


KINDS.register("keywords")(Keywords("keywords"))

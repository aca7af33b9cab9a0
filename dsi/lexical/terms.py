"""The contribution of one query word to the score of a document."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """The contribution of one query word, or pair of neighbors, to the score of a document.

    Attributes:
        term: The word as the lexical layer counts it (a stem), or two words.
        count: How often the query has it.
        weight: Its weight in the document; 0 if the document does not have it.
        adds: `count` times `weight`.
    """

    term: str
    count: int
    weight: float
    adds: float

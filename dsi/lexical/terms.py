"""What one word of a query adds to the score of a document."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """What one word of the query, or a pair of neighbors, adds to the score of a document.

    Attributes:
        term: The word as the lexical layer counts it (a stem), or two of them.
        count: How often the query has it.
        weight: Its weight in the document; 0 where the document has it not.
        adds: `count` times `weight`.
    """

    term: str
    count: int
    weight: float
    adds: float

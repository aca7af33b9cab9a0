"""The order of documents in a long prompt.

Language models make best use of the beginning and the end of a long prompt. With the best documents
at both ends, additional documents do less harm: retrieval reordering, Jin et al., "Long-Context
LLMs Meet RAG", 2024, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def at_both_ends(ranked: Sequence[T]) -> list[T]:
    """Returns ranked items with the best at both ends: ranks 1, 3, 5, ... 6, 4, 2.

    Args:
        ranked: The items, best first.
    """
    return [*ranked[0::2], *reversed(ranked[1::2])]

"""Interfaces of document scorers that complement the model of an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from dsi.lexical.layer import Term


class DocumentScores(Protocol):
    """A score of every document for a query, added to the log-probability of its identifier."""

    def scores(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Scores all documents.

        Args:
            texts: The queries, unprocessed.

        Returns:
            Finite numbers, including those of retired documents; float32 [texts, table rows].
        """
        ...


@runtime_checkable
class ExplainedScores(Protocol):
    """Document scores that are sums over words and can list them."""

    def terms_of(self, text: str, rows: Sequence[int]) -> list[list[Term]]:
        """Returns the parts of the scores of some documents.

        Args:
            text: A query.
            rows: Table rows.

        Returns:
            The parts for each row; added up in float32 in this order, they give its score.
        """
        ...

"""What scores the documents of an index beside the model that writes identifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt


class DocumentScores(Protocol):
    """A score of every document for a query, added to the log-probability of its identifier."""

    def scores(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Scores all documents.

        Args:
            texts: Queries, as they were asked.

        Returns:
            Finite numbers, of retired documents too; float32 [texts, table rows].
        """
        ...

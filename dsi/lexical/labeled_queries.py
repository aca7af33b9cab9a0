"""Queries whose relevant documents are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_MOST_JUDGED = 2_000
"""Maximum number of held-out queries of a group to rank."""


@dataclass(frozen=True)
class LabeledQueries:
    """Queries with one relevant document each.

    Attributes:
        texts: The queries.
        rows: The row of the relevant document of each; int64 [queries].
    """

    texts: Sequence[str]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    def part(self, places: npt.NDArray[np.int64]) -> LabeledQueries:
        """Returns a subset."""
        return LabeledQueries([self.texts[place] for place in places.tolist()], self.rows[places])

    def sample(self, rng: np.random.Generator, most: int = _MOST_JUDGED) -> LabeledQueries:
        """Returns the queries, or `most` of them at random if there are more."""
        if len(self) <= most:
            return self
        return self.part(np.sort(rng.choice(len(self), most, replace=False)))

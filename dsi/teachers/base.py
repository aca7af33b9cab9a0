"""The interface and the registry of teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from data_prep.registry import Registry

Ranked = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]


class Teacher(Protocol):
    """Ranks the documents of a corpus for queries."""

    batch: ClassVar[int]
    """Number of queries per batch."""

    def rank(self, queries: Sequence[str], rows: npt.NDArray[np.int64], candidates: int) -> Ranked:
        """Scores the right document of each query, and the best others.

        Args:
            queries: Texts.
            rows: The row of each query's right document; int64 [queries].
            candidates: Number of others.

        Returns:
            Rows, int64, and scores, float32, both [queries, 1 + candidates]: the right document,
            then the others, best first, with ties broken by the lower row; row -1 and score -inf
            for missing ones.
        """
        ...


TEACHERS: Registry[Callable[[Sequence[str], str | None, str], Teacher]] = Registry("teacher")
"""Name -> what makes a teacher, given the texts of the documents in row order, the hub id or
folder of a model (None for teachers that are none), and the language of stemmer and stop words."""


def arrange_candidates(
    rows: npt.NDArray[np.int64],
    right: npt.NDArray[np.float32],
    others: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]],
    candidates: int,
) -> Ranked:
    """Arranges the result of `Teacher.rank`.

    Args:
        rows: The right document of each query.
        right: Its score.
        others: Rows and scores of the other candidates, in any order; the right document may be
            among them.
        candidates: Number of others.
    """
    ranked = np.full((len(rows), 1 + candidates), -1, np.int64)
    scores = np.full(ranked.shape, -np.inf, np.float32)
    ranked[:, 0], scores[:, 0] = rows, right
    for line, (members, values) in enumerate(others):
        negatives = members != rows[line]
        members, values = members[negatives], values[negatives]
        if len(members) > candidates:
            least = np.partition(values, len(values) - candidates)[len(values) - candidates]
            members, values = members[values >= least], values[values >= least]
        best = np.lexsort((members, -values))[:candidates]
        ranked[line, 1 : 1 + len(best)] = members[best]
        scores[line, 1 : 1 + len(best)] = values[best]
    return ranked, scores

"""BM25 over the documents themselves: a teacher without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.bm25 import Bm25
from dsi.teachers.base import TEACHERS, Ranked, arrange_candidates


@TEACHERS.register("bm25")
class Bm25Teacher:
    """BM25 as in `dsi evaluate`; documents that share no word with a query are not candidates.

    Args:
        texts: Texts of the documents, in row order.
        model: None.
        language: Language of the stemmer and stop words.
    """

    batch: ClassVar[int] = 2048

    def __init__(self, texts: Sequence[str], model: str | None, language: str) -> None:
        self._search = Bm25(list(texts), language)

    def rank(self, queries: Sequence[str], rows: npt.NDArray[np.int64], candidates: int) -> Ranked:
        """Scores the right document of each query, and the best others; see `Teacher.rank`."""
        scores = self._search.score_matrix(list(queries))
        lines = [slice(*scores.indptr[line : line + 2]) for line in range(len(rows))]
        others = [(scores.indices[line].astype(np.int64), scores.data[line]) for line in lines]
        right = np.zeros(len(rows), np.float32)
        for line, (members, values) in enumerate(others):
            right[line] = values[members == rows[line]].sum()
        return arrange_candidates(rows, right, others, candidates)

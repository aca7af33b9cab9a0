"""A cross-encoder, which reads query and document together, on BM25's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.cross_encoder import CrossEncoder
from dsi.teachers.base import TEACHERS, Ranked, arrange_candidates
from dsi.teachers.bm25 import Bm25Teacher


@TEACHERS.register("cross-encoder")
class CrossEncoderTeacher:
    """Scores the documents that BM25 finds by a model's logit.

    Args:
        texts: Texts of the documents, in row order.
        model: Hub id or folder of a cross-encoder with one output.
        language: Language of BM25's stemmer and stop words.

    Raises:
        InputError: The package sentence-transformers, or the model, is not available.
    """

    batch: ClassVar[int] = 64

    def __init__(self, texts: Sequence[str], model: str | None, language: str) -> None:
        assert model is not None  # ensured by `TeacherOptions`
        self._model = CrossEncoder(model, "--objectives.teacher.model")
        self._texts = texts
        self._first = Bm25Teacher(texts, None, language)

    def rank(self, queries: Sequence[str], rows: npt.NDArray[np.int64], candidates: int) -> Ranked:
        """Scores the right document and BM25's best others; see `Teacher.rank`."""
        ranked, _ = self._first.rank(queries, rows, candidates)
        lines, places = (axis.tolist() for axis in np.nonzero(ranked >= 0))
        scores = np.full(ranked.shape, -np.inf, np.float32)
        scores[lines, places] = self._model.score(
            [queries[line] for line in lines],
            [self._texts[row] for row in ranked[lines, places].tolist()],
        )
        others = [
            (ranked[line, 1:][ranked[line, 1:] >= 0], scores[line, 1:][ranked[line, 1:] >= 0])
            for line in range(len(ranked))
        ]
        return arrange_candidates(rows, scores[:, 0], others, candidates)

"""Similarities from a pretrained encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from docids.sentence_encoder import SentenceEncoder
from dsi.teachers.base import TEACHERS, Ranked, arrange_candidates


@TEACHERS.register("embeddings")
class EmbeddingTeacher:
    """Ranks by the similarity of the vectors of query and document, a cosine for most models.

    Args:
        texts: Texts of the documents, in row order.
        model: Hub id or folder of an encoder; see `docids.sentence_encoder`.
        language: Unused.

    Raises:
        InputError: The package sentence-transformers, or the model, is not available.
    """

    batch: ClassVar[int] = 256

    def __init__(self, texts: Sequence[str], model: str | None, language: str) -> None:
        assert model is not None  # ensured by `TeacherOptions`
        self._encoder = SentenceEncoder(model, where="--objectives.teacher.model")
        self._documents = self._encoder.encode_documents(texts)

    def rank(self, queries: Sequence[str], rows: npt.NDArray[np.int64], candidates: int) -> Ranked:
        """Scores the right document of each query, and the best others; see `Teacher.rank`."""
        scores = self._encoder.encode_queries(queries) @ self._documents.T
        everything = np.arange(scores.shape[1])
        return arrange_candidates(
            rows,
            scores[np.arange(len(rows)), rows],
            [(everything, line) for line in scores],
            candidates,
        )

"""Cosines of a sentence-transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.progress import track
from dsi.teachers.base import TEACHERS, Ranked, right_then_best

_CHUNK = 1024


@TEACHERS.register("embeddings")
class EmbeddingTeacher:
    """Ranks by the cosine of the vectors of query and document.

    Args:
        texts: What the documents say, in row order.
        model: Hub id or folder of a sentence-transformers model.
        language: Not looked at.

    Raises:
        InputError: The package, or the model, is not to be had.
    """

    batch: ClassVar[int] = 256

    def __init__(self, texts: Sequence[str], model: str | None, language: str) -> None:
        self._model = load("SentenceTransformer", model)
        starts: Sequence[int] = range(0, len(texts), _CHUNK)
        self._documents = np.concatenate(
            [
                self._encode(texts[start : start + _CHUNK])
                for start in (track(starts, "document vectors") if len(starts) > 1 else starts)
            ]
        )

    def rank(self, queries: Sequence[str], rows: npt.NDArray[np.int64], candidates: int) -> Ranked:
        """Scores the right document of each query, and the best others; see `Teacher.rank`."""
        scores = self._encode(queries) @ self._documents.T
        everything = np.arange(scores.shape[1])
        return right_then_best(
            rows,
            scores[np.arange(len(rows)), rows],
            [(everything, line) for line in scores],
            candidates,
        )

    def _encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectors = self._model.encode(
            list(texts), normalize_embeddings=True, show_progress_bar=False
        )
        return np.asarray(vectors, np.float32)


def load(kind: str, model: str | None) -> Any:
    """Returns a model of the package sentence-transformers.

    Args:
        kind: The name of its class there.
        model: Hub id or folder.

    Raises:
        InputError: The package, or the model, is not to be had.
    """
    try:
        import sentence_transformers
    except ImportError:
        raise InputError(
            f"the teacher {model!r} needs the package sentence-transformers",
            where="--objectives.teacher.model",
            mend="pip install 'dsi-toolkit[embeddings]', or take --objectives.teacher.kind bm25",
        ) from None
    try:
        return getattr(sentence_transformers, kind)(model)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no {kind} {model!r} ({str(error).splitlines()[0]})",
            where="--objectives.teacher.model",
            mend="Give a hub id that this machine can reach, or the folder of a downloaded model",
        ) from None

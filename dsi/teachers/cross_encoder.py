"""A cross-encoder, which reads query and document together, on BM25's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.remote_code import never_ask
from dsi.teachers.base import TEACHERS, Ranked, right_then_best
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
        self._model = _load(model)
        self._texts = texts
        self._first = Bm25Teacher(texts, None, language)

    def rank(self, queries: Sequence[str], rows: npt.NDArray[np.int64], candidates: int) -> Ranked:
        """Scores the right document and BM25's best others; see `Teacher.rank`."""
        import torch

        found, _ = self._first.rank(queries, rows, candidates)
        lines, places = (axis.tolist() for axis in np.nonzero(found >= 0))
        pairs = [
            (queries[line], self._texts[int(found[line, place])])
            for line, place in zip(lines, places, strict=True)
        ]
        values = self._model.predict(
            pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
        scores = np.full(found.shape, -np.inf, np.float32)
        scores[lines, places] = np.asarray(values, np.float32).reshape(len(pairs))
        others = [
            (found[line, 1:][found[line, 1:] >= 0], scores[line, 1:][found[line, 1:] >= 0])
            for line in range(len(found))
        ]
        return right_then_best(rows, scores[:, 0], others, candidates)


def _load(model: str | None) -> Any:
    """Returns a sentence-transformers cross-encoder."""
    try:
        from sentence_transformers import CrossEncoder
    except ImportError:
        raise InputError(
            f"the teacher {model!r} needs the package sentence-transformers",
            where="--objectives.teacher.model",
            hint="pip install 'dsi-toolkit[embeddings]', or take --objectives.teacher.kind bm25",
        ) from None
    never_ask()
    try:
        return CrossEncoder(model, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no CrossEncoder {model!r} ({str(error).splitlines()[0]})",
            where="--objectives.teacher.model",
            hint="Give a hub id that this machine can reach, or the folder of a downloaded model",
        ) from None

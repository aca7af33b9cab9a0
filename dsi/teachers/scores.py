"""Candidates and scores of a teacher for every training query, on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.progress import track
from docids.store import open_store, write_store
from dsi.teachers.base import Ranked, Teacher


@dataclass(frozen=True, eq=False)
class TeacherScores:
    """The teacher's candidates for each training query, in the order of `Batch.numbers`.

    Attributes:
        rows: Table rows, the right document first, -1 for none; int32 [queries, documents].
        scores: The teacher's scores, -inf for none; float32, same shape.
        temperature: Divisor of the scores.
        first: The number of the first query: examples before these queries and after them, those
            of the indexing task, have no candidates.
    """

    rows: np.ndarray
    scores: np.ndarray
    temperature: float = 1.0
    first: int = 0

    def of(self, numbers: npt.NDArray[np.int64]) -> Ranked:
        """Returns rows, int64, and scores divided by the temperature, float32, of some examples."""
        rows = np.full((len(numbers), self.rows.shape[1]), -1, np.int64)
        scores = np.full(rows.shape, -np.inf, np.float32)
        has_scores = (numbers >= self.first) & (numbers < self.first + len(self.rows))
        rows[has_scores] = self.rows[numbers[has_scores] - self.first]
        scores[has_scores] = self.scores[numbers[has_scores] - self.first] / np.float32(
            self.temperature
        )
        return rows, scores

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], temperature: float = 1.0, first: int = 0
    ) -> TeacherScores:
        """Memory-maps what `write_teacher_scores` wrote."""
        _, arrays = open_store(folder, "teacher_scores")
        return cls(arrays["rows"], arrays["scores"], temperature, first)


def write_teacher_scores(
    folder: str | os.PathLike[str],
    teacher: Teacher,
    queries: Sequence[str],
    rows: npt.NDArray[np.int64],
    candidates: int,
) -> None:
    """Scores candidates for every training query with a teacher, and saves them.

    Args:
        folder: The folder to create.
        teacher: The teacher.
        queries: The texts of the queries.
        rows: The row of each query's document; int64 [queries].
        candidates: Number of candidates per query besides the relevant document.
    """
    ranked = np.full((len(queries), 1 + candidates), -1, np.int32)
    scores = np.full(ranked.shape, -np.inf, np.float32)
    starts: Sequence[int] = range(0, len(queries), teacher.batch)
    for start in track(starts, "asking the teacher") if len(starts) > 1 else starts:
        part = slice(start, start + teacher.batch)
        ranked[part], scores[part] = teacher.rank(queries[part], rows[part], candidates)
    write_store(folder, "teacher_scores", {}, {"rows": ranked, "scores": scores})

"""Fusion of BM25 and a pretrained dense encoder: a baseline without training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Dataset
from dsi.evaluation.baselines.base import BASELINES, Baseline
from dsi.evaluation.baselines.bm25 import Bm25Baseline
from dsi.evaluation.baselines.dense import DenseBaseline

_WEIGHTS = np.linspace(0, 1, 21, dtype=np.float32)
_QUERIES = 2000
"""Maximum number of evenly spaced dev queries used to choose the weight."""


@BASELINES.register("fusion")
class FusionBaseline(Baseline):
    """A weighted sum of BM25 and the similarity of vectors, each standardized for each query.

    The scores of a query over all documents are standardized to mean 0 and standard deviation 1.
    The weight of BM25 is the one with the best RR@10 on split dev, ties broken toward 0.5; it is
    0.5 if there is no dev split.

    Args:
        dataset: The documents, and the queries of split dev.
        model: Hub id or folder of an encoder; see `docids.sentence_encoder`.
        language: Language of BM25's stemmer and stop words.

    Attributes:
        weight: Weight of BM25, 0 to 1; the encoder has the rest.

    Raises:
        InputError: As `Bm25Baseline` and `DenseBaseline`.
    """

    takes_model: ClassVar[bool] = True

    def __init__(self, dataset: Dataset, model: str, language: str) -> None:
        super().__init__(dataset, model, language)
        self._parts = (
            Bm25Baseline(dataset, "", language),
            DenseBaseline(dataset, model, language),
        )
        self.weight, chosen = self._choose_weight(dataset)
        self.remarks.append(
            f"fusion:{model} is {self.weight:.2f} BM25 and {1 - self.weight:.2f} vectors, {chosen}."
        )

    def scores(self, queries: Sequence[str]) -> Iterator[npt.NDArray[np.float32]]:
        """Yields the scores of all documents for each query; see `Baseline.scores`."""
        weight = np.float32(self.weight)
        for words, vectors in self._standardized(queries):
            yield weight * words + (1 - weight) * vectors

    def _standardized(
        self, queries: Sequence[str]
    ) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
        for words, vectors in zip(*(part.scores(queries) for part in self._parts), strict=True):
            yield standardized(words), standardized(vectors)

    def _choose_weight(self, dataset: Dataset) -> tuple[float, str]:
        """Returns the weight of BM25, and how it was chosen."""
        judged = dataset.qrels_of("dev")
        row_of = {doc_id: row for row, doc_id in enumerate(dataset.doc_ids)}
        relevant = {query_id: _rows(judgments, row_of) for query_id, judgments in judged.items()}
        query_ids = [query_id for query_id, rows in relevant.items() if rows]
        query_ids = query_ids[:: -(-len(query_ids) // _QUERIES)] if query_ids else []
        if not query_ids:
            return 0.5, "because there are no dev queries"
        texts = dataset.query_texts()
        total = np.zeros(len(_WEIGHTS))
        pairs = self._standardized([texts[query_id] for query_id in query_ids])
        for query_id, (words, vectors) in zip(query_ids, pairs, strict=True):
            for place, weight in enumerate(_WEIGHTS):
                scores = weight * words + (1 - weight) * vectors
                total[place] += reciprocal_rank(scores, relevant[query_id])
        ties = np.flatnonzero(total >= total.max() - 1e-9)
        place = ties[np.abs(_WEIGHTS[ties] - 0.5).argmin()]
        return float(
            _WEIGHTS[place]
        ), f"the best of {len(_WEIGHTS)} on {len(query_ids):,} dev queries"


def standardized(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns scores with mean 0 and standard deviation 1; zeros if all are equal."""
    centerd = scores - scores.mean(dtype=np.float64)
    deviation = np.sqrt(np.mean(centerd * centerd))
    if deviation <= 1e-6 * np.abs(scores).max(initial=0):  # rounding error of equal scores
        return np.zeros(len(scores), np.float32)
    return (centerd / deviation).astype(np.float32)


def reciprocal_rank(scores: npt.NDArray[np.float32], relevant: Sequence[int]) -> float:
    """Returns 1 over the rank of the first relevant row, ties by the lower row; 0 beyond 10."""
    ranks = [
        1 + int((scores > scores[row]).sum() + (scores[:row] == scores[row]).sum())
        for row in relevant
    ]
    return 1 / min(ranks) if min(ranks) <= 10 else 0.0


def _rows(judgments: Mapping[str, int], row_of: Mapping[str, int]) -> list[int]:
    return [row_of[doc_id] for doc_id, grade in judgments.items() if grade > 0 and doc_id in row_of]

"""BM25 as the document-level score that a search looks ahead to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Dataset
from data_prep.errors import InputError
from docids.table import DocidTable
from dsi.evaluation.baselines import baseline_run
from dsi.search.options import GuidanceOptions


@dataclass(frozen=True)
class Guide:
    """The documents that look ahead, for each query.

    Attributes:
        rows: Their table rows, -1 where there are fewer; int64 [queries, documents].
        scores: What each adds to the log-probability of its identifier, 0 or more; float32
            [queries, documents].
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    @classmethod
    def of_dataset(cls, options: GuidanceOptions, table: DocidTable, queries: list[str]) -> Guide:
        """Ranks the documents of a dataset by BM25; those without an identifier have no say.

        Raises:
            InputError: There is no such dataset, or the index has none of its documents.
        """
        assert options.dataset is not None
        dataset = Dataset.open(options.dataset)
        doc_ids = list(dataset.doc_ids)
        row_of = dict(zip(doc_ids, table.find(doc_ids).tolist(), strict=True))
        if max(row_of.values(), default=-1) < 0:
            raise InputError(
                "the index has none of its documents",
                where=f"--guidance.dataset {options.dataset}",
                mend="Give the dataset that the index was trained on",
            )
        run = baseline_run(
            "bm25",
            dataset,
            {str(place): text for place, text in enumerate(queries)},
            k=options.documents,
        )
        rows = np.full((len(queries), options.documents), -1, np.int64)
        scores = np.zeros((len(queries), options.documents), np.float32)
        for query, found in enumerate(run.values()):
            rows[query, : len(found)] = [row_of[doc_id] for doc_id in found]
            scores[query, : len(found)] = list(found.values())
        return cls(rows, scores * np.float32(options.weight))

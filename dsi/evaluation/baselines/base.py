"""The baseline interface, the registry, and the conversion of scores to a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Dataset
from data_prep.errors import InputError
from data_prep.progress import track
from data_prep.registry import Registry
from dsi.search.runs import Run


class Baseline(ABC):
    """Scores the documents of a dataset for queries.

    Args:
        dataset: The documents; each baseline documents what else it reads.
        model: Hub id or folder of an encoder; "" for baselines without one.
        language: Language of stemmer and stop words; "none" for neither.

    Attributes:
        takes_model: Whether its name includes that of an encoder: "dense:NAME_OR_PATH".
        positive: Whether documents with a score of 0 or less are excluded.
        remarks: Notes for readers of its results, one line each.
    """

    takes_model: ClassVar[bool] = False
    positive: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, dataset: Dataset, model: str, language: str) -> None:
        self.doc_ids = dataset.doc_ids
        self.remarks: list[str] = []

    @abstractmethod
    def scores(self, queries: Sequence[str]) -> Iterator[npt.NDArray[np.float32]]:
        """Yields the scores of all documents for each query, float32 [documents]."""

    def run(self, queries: Mapping[str, str], k: int = 100, description: str = "") -> Run:
        """Ranks the documents for queries.

        Args:
            queries: query_id -> text.
            k: Maximum documents per query.
            description: Label of the progress bar.

        Returns:
            query_id -> {doc_id: score}, best first, ties in corpus order.
        """
        scores = self.scores(list(queries.values()))
        return rank(queries, scores, self.doc_ids, k, self.positive, description)


BASELINES: Registry[type[Baseline]] = Registry("baseline")
"""Name, without an encoder's -> class."""


def make_baseline(name: str, dataset: Dataset, language: str = "english") -> Baseline:
    """Creates a baseline by its full name, such as "bm25" or "dense:NAME_OR_PATH".

    Raises:
        InputError: The baseline is unknown, an encoder cannot be loaded, or a language has no
            stemmer or stop words.
    """
    kind, model = parse(name)
    return BASELINES[kind](dataset, model, language)


def parse(name: str) -> tuple[str, str]:
    """Returns the name of a baseline in `BASELINES`, and that of its encoder or "".

    Raises:
        InputError: The baseline is unknown, or an encoder is missing or superfluous.
    """
    kind, colon, model = name.partition(":")
    if BASELINES[kind].takes_model and not model:
        raise InputError(
            f"the baseline {kind!r} needs an encoder",
            where="--baselines",
            hint=f"Give {kind}:NAME_OR_PATH",
        )
    if colon and not BASELINES[kind].takes_model:
        raise InputError(
            f"the baseline {kind!r} does not take an encoder, but {model!r} was given",
            where="--baselines",
            hint=f"Give {kind}",
        )
    return kind, model


def baseline_run(
    name: str,
    dataset: Dataset,
    queries: Mapping[str, str],
    *,
    k: int = 100,
    language: str = "english",
) -> Run:
    """Ranks the documents of a dataset with a baseline.

    Args:
        name: A name in `BASELINES`, with an encoder if it needs one.
        dataset: The documents.
        queries: query_id -> text.
        k: Maximum documents per query.
        language: Language of stemmer and stop words; "none" for neither.

    Returns:
        query_id -> {doc_id: score}, best first, ties in corpus order.

    Raises:
        InputError: As `make_baseline`.
    """
    return make_baseline(name, dataset, language).run(queries, k, name)


def rank(
    queries: Iterable[str],
    scores: Iterable[npt.NDArray[np.float32]],
    doc_ids: Sequence[str],
    k: int,
    positive: bool,
    description: str,
) -> Run:
    """Converts scores to a run.

    Args:
        queries: Query ids.
        scores: Scores of all documents for each query; float32 [documents].
        doc_ids: Ids of the documents.
        k: Maximum documents per query.
        positive: Whether scores of 0 or less are excluded.
        description: Label of the progress bar.

    Returns:
        query_id -> {doc_id: score}, best first, ties in the order of `doc_ids`.
    """
    queries = list(queries)
    lines = track(scores, description, len(queries))
    return {
        query_id: {doc_ids[row]: float(line[row]) for row in best(line, k, positive)}
        for query_id, line in zip(queries, lines, strict=True)
    }


def best(scores: npt.NDArray[np.float32], k: int, positive: bool) -> npt.NDArray[np.int64]:
    """Returns the rows of the k highest scores, best first, ties by the lower row.

    Args:
        scores: float32 [rows].
        k: Maximum number of rows.
        positive: Whether scores of 0 or less are excluded.
    """
    rows = np.flatnonzero(scores > 0) if positive else np.arange(len(scores))
    if len(rows) > k:
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    return rows[np.argsort(-scores[rows], kind="stable")][:k]

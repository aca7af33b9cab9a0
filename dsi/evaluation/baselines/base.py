"""What every baseline is: the interface, the registry, and how scores become a run."""

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
        dataset: The documents; the baseline says what else it reads.
        model: Hub id or folder of an encoder; "" for baselines without one.
        language: Of stemmer and stop words; "none" for neither.

    Attributes:
        takes_model: Whether its name goes on with an encoder's: "dense:NAME_OR_PATH".
        positive: Whether documents of score 0 or less are no results.
        remarks: What a reader of its figures should know, a line each.
    """

    takes_model: ClassVar[bool] = False
    positive: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, dataset: Dataset, model: str, language: str) -> None:
        self.doc_ids = dataset.doc_ids
        self.remarks: list[str] = []

    @abstractmethod
    def scores(self, queries: Sequence[str]) -> Iterator[npt.NDArray[np.float32]]:
        """Yields for each query the scores of all documents, float32 [documents]."""

    def run(self, queries: Mapping[str, str], k: int = 100, description: str = "") -> Run:
        """Ranks the documents for queries.

        Args:
            queries: query_id -> text.
            k: The most documents to return for a query.
            description: What the progress bar says.

        Returns:
            query_id -> {doc_id: score}, best first, ties in corpus order.
        """
        scores = self.scores(list(queries.values()))
        return rank(queries, scores, self.doc_ids, k, self.positive, description)


BASELINES: Registry[type[Baseline]] = Registry("baseline")
"""Name, without an encoder's -> class."""


def make_baseline(name: str, dataset: Dataset, language: str = "english") -> Baseline:
    """Returns a baseline by its full name, such as "bm25" or "dense:NAME_OR_PATH".

    Raises:
        InputError: Unknown baseline; an encoder that cannot be loaded; a language without stemmer
            or stop words.
    """
    kind, model = parse(name)
    return BASELINES[kind](dataset, model, language)


def parse(name: str) -> tuple[str, str]:
    """Returns the name of a baseline in `BASELINES`, and its encoder's or "".

    Raises:
        InputError: Unknown baseline; an encoder is missing, or one too many.
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
            f"the baseline {kind!r} takes no encoder, and {model!r} was given",
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
        name: A name in `BASELINES`, and an encoder where it needs one.
        dataset: The documents.
        queries: query_id -> text.
        k: The most documents to return for a query.
        language: Of stemmer and stop words; "none" for neither.

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
    """Makes a run of scores.

    Args:
        queries: Their ids.
        scores: Of each query, those of all documents; float32 [documents].
        doc_ids: Of the documents.
        k: The most documents to return for a query.
        positive: Whether scores of 0 or less are left out.
        description: What the progress bar says.

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
        k: How many at most.
        positive: Whether scores of 0 or less are left out.
    """
    rows = np.flatnonzero(scores > 0) if positive else np.arange(len(scores))
    if len(rows) > k:
        least = np.partition(scores[rows], len(rows) - k)[len(rows) - k]
        rows = rows[scores[rows] >= least]
    return rows[np.argsort(-scores[rows], kind="stable")][:k]

"""The measures, and the evaluation of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ir_measures
from ir_measures import RR, R, Success, nDCG

from dsi.search.runs import ranked

MEASURES: tuple[ir_measures.Measure, ...] = (
    Success @ 1,
    Success @ 10,
    Success @ 100,
    RR @ 10,
    nDCG @ 10,
    R @ 100,
)
"""Success@k is called Hits@k in papers on generative retrieval: 1 if a relevant document is among
the first k, otherwise 0. R@k is the fraction of the relevant documents among the first k."""
ALL = "All@10"
"""1 if all relevant documents are among the first 10, otherwise 0: retrieval in several hops is
measured by it. Where no query has several relevant documents it is Success@10, and left out."""


@dataclass(frozen=True)
class Evaluation:
    """The measures of a run.

    Attributes:
        per_query: query_id -> {measure: value}, for every query with a judgment, in their order;
            measures have the names of ir-measures, in the order of `MEASURES`; `ALL` follows them
            if a query has several relevant documents.
    """

    per_query: dict[str, dict[str, float]]

    @property
    def mean(self) -> dict[str, float]:
        """The mean over all queries: measure -> value."""
        return self.mean_of(self.per_query)

    def mean_of(self, query_ids: Iterable[str]) -> dict[str, float]:
        """Returns the mean over some of the queries: measure -> value; empty for no query."""
        lines = [self.per_query[query_id] for query_id in query_ids]
        if not lines:
            return {}
        return {name: sum(line[name] for line in lines) / len(lines) for name in lines[0]}


def evaluate_run(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Mapping[str, float]]
) -> Evaluation:
    """Evaluates a run.

    Every query with a judgment counts; one without documents in the run scores 0. Queries of the
    run without a judgment are ignored. Ties are ranked as in `dsi.search.runs.ranked`, for all
    measures.

    Args:
        qrels: query_id -> {doc_id: relevance}; above 0 is relevant.
        run: query_id -> {doc_id: score}.
    """
    names = names_of(qrels)
    per_query = {query_id: dict.fromkeys(names, 0.0) for query_id in qrels}
    # The backends of ir-measures break ties differently: they get ranks instead, which never tie.
    ranks = {
        query_id: {doc_id: -float(rank) for rank, doc_id in enumerate(ranked(run[query_id]))}
        for query_id in qrels
        if run.get(query_id)
    }
    # ir-measures returns no value, or warns, if either side is empty.
    if ranks:
        judged = {query_id: dict(qrels[query_id]) for query_id in ranks}
        for metric in ir_measures.iter_calc(MEASURES, judged, ranks):
            per_query[metric.query_id][str(metric.measure)] = float(metric.value)
    if ALL in names:
        for query_id, ranking in ranks.items():
            first = list(ranking)[: int(ALL.partition("@")[2])]
            relevant = _relevant(qrels[query_id])
            per_query[query_id][ALL] = float(bool(relevant) and relevant.issubset(first))
    return Evaluation(per_query)


def names_of(qrels: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Returns the names of the measures of a split, in order.

    Args:
        qrels: query_id -> {doc_id: relevance}; above 0 is relevant.
    """
    several = any(len(_relevant(judged)) > 1 for judged in qrels.values())
    return [*map(str, MEASURES), *([ALL] if several else [])]


def _relevant(judged: Mapping[str, int]) -> set[str]:
    return {doc_id for doc_id, relevance in judged.items() if relevance > 0}

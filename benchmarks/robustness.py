"""How well does a ranking hold when queries are not written as those it was made for?

    python benchmarks/robustness.py --dataset squad-dev=PATH/TO/BEIR --encoder PATH --seeds 3
    python benchmarks/robustness.py --dataset limit=46 --encoder PATH
    python benchmarks/robustness.py --dataset limit=1000 --encoder PATH

An index with `dsi train`'s defaults stands beside BM25, BM25 with training queries, and, with
`--encoder` (a folder of sentence-transformers, such as all-MiniLM-L6-v2), vectors and their fusion
with BM25. They answer the same test queries as these are, and with typos, dropped words, other
orders and other cases, see `perturbations.py`. `limit=DOCUMENTS` is a corpus in the manner of
LIMIT, where single vectors cannot tell combinations apart, see `limit.py`; its queries have two
relevant documents each, and are asked as they are.

A cell is one change of one seed, which is that of the training, too; the index of a seed is trained
for the first cell that is missing. Cells that are in `results/robustness.jsonl` are not measured
again, so that a grid continues where it stopped; remove a line to measure its cell again.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import limit
from perturbations import PERTURBATIONS, perturbed
from record import cell, show

LIMIT = "limit"
UNCHANGED = "as they are"
DEPTH = 100
GROUPS = ("all", "seen", "unseen")
MEASURES = ("Success@1", "Success@10", "RR@10", "R@2", "R@10", "R@20", "R@100")
SHOWN = {LIMIT: ("R@2", "R@10", "R@20")}
"""What the table shows of a dataset, where that is not the usual."""
Run = dict[str, dict[str, float]]


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--encoder", metavar="PATH", help="of dense and fusion; default: neither")
    parser.add_argument("--changes", help="with commas between; default: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=None, help="default: those of dsi train")
    parser.add_argument("--queries", type=int, default=None, help="a sample, for small machines")
    parser.add_argument("--variant", default="default", help="name of other settings")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    changes = arguments.changes.split(",") if arguments.changes else list(PERTURBATIONS)
    if unknown := [change for change in changes if change not in PERTURBATIONS]:
        parser.error(f"unknown change {unknown[0]!r}; choose from: {', '.join(PERTURBATIONS)}")
    if name == LIMIT:
        changes = [UNCHANGED]
    measured: dict[str, list[dict[str, Any]]] = {change: [] for change in changes}
    for seed in range(arguments.seeds):
        with TemporaryDirectory() as folder:
            systems = Systems(Path(folder), name, source, arguments, seed)
            for change in changes:
                file = _cell_name(name, source, change, arguments, seed)
                measure = functools.partial(systems.measure, change)
                measured[change].append(cell("robustness", file, measure))
    label = f"{name}-{source}" if name == LIMIT else name
    rows = [
        {"dataset": label, "queries": change, "system": system, **_mean(cells, system)}
        for change, cells in measured.items()
        for system in cells[0]["systems"]
    ]
    columns = ["dataset", "queries", "system"]
    for group in GROUPS:
        for measure in SHOWN.get(name, MEASURES[:3]):
            columns += [f"{group} {measure}", f"{group} {measure} sd"]
    show(rows, [column for column in columns if any(column in row for row in rows)])


def _cell_name(
    name: str, source: str, change: str, arguments: argparse.Namespace, seed: int
) -> str:
    words = [f"{name}-{source}" if name == LIMIT else name, change.replace(" ", "_")]
    words.append(Path(arguments.encoder).name if arguments.encoder else "words")
    if arguments.steps is not None:
        words.append(f"{arguments.steps}steps")
    if arguments.queries is not None:
        words.append(f"{arguments.queries}queries")
    if arguments.variant != "default":
        words.append(arguments.variant)
    return "-".join([*words, f"seed{seed}"])


class Systems:
    """The dataset, the index and its opponents, each made when it is first asked.

    Args:
        folder: For dataset and index.
        name: Of the dataset.
        source: What `dsi prepare` takes; for `limit` the number of documents.
        arguments: Of the command line.
        seed: Of the training, of LIMIT's corpus and of what is done to queries.
    """

    def __init__(
        self, folder: Path, name: str, source: str, arguments: argparse.Namespace, seed: int
    ) -> None:
        self._folder, self._name, self._source = folder, name, source
        self._arguments, self._seed = arguments, seed

    @functools.cached_property
    def dataset(self) -> Any:
        """The dataset, prepared."""
        from data_prep.dataset import Dataset
        from data_prep.dataset_writer import write_dataset
        from dsi.commands.prepare import prepare

        path = self._folder / "dataset"
        if self._name == LIMIT:
            return write_dataset(path, limit.limit_source(int(self._source), self._seed))
        prepare(self._source, out=path)
        return Dataset.open(path)

    @functools.cached_property
    def opponents(self) -> dict[str, Any]:
        """The baselines by the names that cells give them."""
        from dsi.evaluation.baselines import make_baseline

        names = {"bm25": "bm25", "bm25+queries": "bm25+queries"}
        if "train" not in self.dataset.info.qrels:
            del names["bm25+queries"]
        if self._arguments.encoder:
            names |= {kind: f"{kind}:{self._arguments.encoder}" for kind in ("dense", "fusion")}
        return {label: make_baseline(name, self.dataset) for label, name in names.items()}

    @functools.cached_property
    def index(self) -> Any:
        """The index, trained with the seed."""
        from dataclasses import replace

        from dsi import Index
        from dsi.indexing.build import train_index
        from dsi.indexing.options import TrainingOptions
        from dsi.training.options import LoopOptions

        loop = LoopOptions()
        if self._arguments.steps is not None:
            loop = replace(loop, steps=self._arguments.steps)
        options = TrainingOptions(seed=self._seed, loop=loop)
        train_index(self.dataset, self._folder / "index", options)
        return Index.open(self._folder / "index")

    def measure(self, change: str) -> dict[str, Any]:
        """Asks every system the test queries as `change` leaves them."""
        texts, qrels = self.dataset.query_texts(), self.dataset.qrels_of("test")
        asked = list(qrels)
        if self._arguments.queries is not None:
            asked = asked[:: max(1, len(asked) // self._arguments.queries)]
        queries = {query_id: perturbed(texts[query_id], change, self._seed) for query_id in asked}
        judged = {query_id: qrels[query_id] for query_id in asked}
        runs: dict[str, Callable[[], Run]] = {"index": lambda: self._search(queries)}
        for label, baseline in self.opponents.items():
            runs[label] = functools.partial(baseline.run, queries, DEPTH, label)
        # Results name an encoder by its folder: where that lies is this machine's own affair.
        path = self._arguments.encoder or ""
        remarks = [
            line.replace(path, Path(path).name)
            for each in self.opponents.values()
            for line in each.remarks
        ]
        return {
            "settings": {
                "dataset": self._name if self._name != LIMIT else f"{LIMIT}-{self._source}",
                "change": change,
                "encoder": Path(path).name or None,
                "steps": self._arguments.steps,
                "seed": self._seed,
            },
            "systems": {
                label: figures(judged, self.dataset.qrels_of("train"), run())
                for label, run in runs.items()
            },
            "queries": len(queries),
            "examples": list(queries.values())[:3],
            "remarks": remarks,
        }

    def _search(self, queries: dict[str, str]) -> Run:
        k = min(DEPTH, len(self.dataset.doc_ids))
        found = self.index.search(list(queries.values()), k)
        return {
            query_id: {hit.doc_id: hit.score for hit in hits}
            for query_id, hits in zip(queries, found, strict=True)
        }


def figures(
    qrels: dict[str, dict[str, int]], training: dict[str, dict[str, int]], run: Run
) -> dict[str, dict[str, float]]:
    """Returns group -> measure -> mean; groups without a query are left out."""
    import ir_measures

    from dsi.evaluation.judgments import group_queries
    from dsi.search.runs import ranked

    # Ranks for scores: equal scores are then ordered alike by every measure.
    ranks = {
        query_id: {doc_id: -float(rank) for rank, doc_id in enumerate(ranked(found))}
        for query_id, found in run.items()
        if found
    }
    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    values: dict[str, dict[str, float]] = {
        query_id: dict.fromkeys(MEASURES, 0.0) for query_id in qrels
    }
    if ranks:
        judged = {query_id: dict(qrels[query_id]) for query_id in ranks}
        for metric in ir_measures.iter_calc(measures, judged, ranks):
            values[metric.query_id][str(metric.measure)] = float(metric.value)
    groups = group_queries(qrels, training)
    return {
        group: {
            name: statistics.fmean(values[query_id][name] for query_id in members)
            for name in MEASURES
        }
        for group, members in groups.items()
        if members
    }


def _mean(cells: list[dict[str, Any]], system: str) -> dict[str, float]:
    """The mean over seeds of a system's figures, and their deviation where there are several."""
    merged: dict[str, float] = {}
    for group, values in cells[0]["systems"][system].items():
        for name in values:
            each = [one["systems"][system][group][name] for one in cells]
            merged[f"{group} {name}"] = statistics.mean(each)
            if len(each) > 1:
                merged[f"{group} {name} sd"] = statistics.stdev(each)
    return merged


if __name__ == "__main__":
    main()

"""How much does BM25 gain when titles count several times, as in the spectral warm start?

    python benchmarks/titles.py --dataset squad-dev=PATH/TO/BEIR
    python benchmarks/titles.py --dataset quickstart=docstrings

An index that counts titles twice or three times should be ahead of this BM25 too before its lead
is put down to learning. Results are kept in `results/titles.jsonl`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, show

WEIGHTS = (1, 2, 3)
MEASURES = ("Success@1", "Success@10", "RR@10", "nDCG@10")


def main() -> None:
    """Measures the dataset, unless it has been measured, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    name, source = parser.parse_args().dataset.split("=", 1)
    result = cell("titles", name, lambda: _measure(source))
    rows = [
        {"system": f"BM25, titles x {weight}", **result["systems"][str(weight)]}
        for weight in WEIGHTS
    ]
    show(rows, ["system", *MEASURES])


def _measure(source: str) -> dict[str, Any]:
    from data_prep.dataset import Dataset
    from dsi.commands.prepare import prepare
    from dsi.evaluation.baselines.bm25 import bm25_run
    from dsi.evaluation.report import evaluate_systems

    with TemporaryDirectory() as folder:
        prepare(source, out=Path(folder) / "dataset")
        dataset = Dataset.open(Path(folder) / "dataset")
        texts = dataset.query_texts()
        queries = {query_id: texts[query_id] for query_id in dataset.qrels_of("test")}
        runs = {
            str(weight): bm25_run(
                [
                    f"{(document.title + ' ') * weight}{document.text}"
                    for document in dataset.documents()
                ],
                dataset.doc_ids,
                queries,
            )
            for weight in WEIGHTS
        }
        report = evaluate_systems(dataset, "test", runs, seconds={}, remarks=[], seed=0)
    return {
        "content hash": dataset.info.content_hash,
        "systems": {
            name: {measure: groups["all"][measure] for measure in MEASURES}
            for name, groups in report.data["systems"].items()
        },
    }


if __name__ == "__main__":
    main()

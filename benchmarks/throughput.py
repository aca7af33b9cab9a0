"""How many queries a second does an index answer, beside bm25s in the same process?

    python benchmarks/throughput.py --dataset debian-20k=PATH/TO/BEIR

Trains the default index, opens it, and answers the test queries in batches of `--batch`, by turns
with bm25s over the same texts (Lucene variant, English stems and stop words; its tokenizer
included, as ours is). Each figure is the median of `--rounds` rounds, on as many threads as torch
has been given. Results are kept in `results/throughput.jsonl`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, show


def main() -> None:
    """Measures the cell that is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    found = cell(
        "throughput", f"{name}-batch{arguments.batch}", lambda: _measure(source, arguments)
    )
    rows = [
        {"system": system, "queries a second": found["queries a second"][system]}
        for system in ("index", "bm25s")
    ]
    show(rows, ["system", "queries a second"])
    print(f"index / bm25s: {found['ratio']:.2f}")


def _measure(source: str, arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from data_prep.dataset import Dataset
    from dsi.commands.prepare import prepare
    from dsi.index import Index
    from dsi.indexing.build import train_index
    from dsi.indexing.options import TrainingOptions

    with TemporaryDirectory() as folder:
        dataset, out = Path(folder) / "dataset", Path(folder) / "index"
        prepare(source, out=dataset)
        opened = Dataset.open(dataset)
        train_index(opened, out, TrainingOptions())
        index = Index.open(out, "cpu")
        asked = opened.qrels_of("test")
        queries = [text for each, text in opened.query_texts().items() if each in asked]
        texts = [f"{document.title} {document.text}" for document in opened.documents()]
        size = arguments.batch
        systems: dict[str, Callable[[list[str]], Any]] = {
            "index": lambda batch: index.search(batch, k=10, batch_size=size),
            "bm25s": _bm25s(texts),
        }
        batches = [queries[start : start + size] for start in range(0, len(queries), size)]
        seconds: dict[str, list[float]] = {system: [] for system in systems}
        for number in range(arguments.rounds + 1):
            for system, search in systems.items():
                began = time.perf_counter()
                for batch in batches:
                    search(batch)
                if number:  # the first round warms up
                    seconds[system].append(time.perf_counter() - began)
    speeds = {system: len(queries) / statistics.median(found) for system, found in seconds.items()}
    return {
        "settings": {"queries": len(queries), "batch": size, "threads": torch.get_num_threads()},
        "queries a second": speeds,
        "ratio": speeds["index"] / speeds["bm25s"],
    }


def _bm25s(texts: list[str]) -> Callable[[list[str]], Any]:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    index = bm25s.BM25(method="lucene")
    index.index(
        bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False),
        show_progress=False,
    )

    def search(queries: list[str]) -> Any:
        tokens = bm25s.tokenize(queries, stopwords="en", stemmer=stemmer, show_progress=False)
        return index.retrieve(tokens, k=10, show_progress=False)

    return search


if __name__ == "__main__":
    main()

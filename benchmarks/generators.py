"""How often do the pseudo-queries of each generator find their own document by BM25?

    python benchmarks/generators.py --dataset squad-dev=PATH/TO/BEIR
    python benchmarks/generators.py --dataset squad-dev=PATH --generators memory --memory-steps 200
    python benchmarks/generators.py --dataset squad-dev=PATH --generators seq2seq --seq2seq PATH

What an index learns from them is measured by `effectiveness.py --suite generators`. Labeled
training queries are asked too, as a mark to read the others by. Cells that are in
`results/generators.jsonl` are not measured again.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, show

LABELED = "labelled"


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--generators", default=f"{LABELED},extractive,selective,memory")
    parser.add_argument("--per-doc", type=int, default=5)
    parser.add_argument("--memory-steps", type=int, default=None, help="default: that of dsi")
    parser.add_argument("--seq2seq", metavar="PATH", help="checkpoint of the generator seq2seq")
    arguments = parser.parse_args()
    if (arguments.seq2seq is None) == ("seq2seq" in arguments.generators.split(",")):
        parser.error("seq2seq among --generators and --seq2seq PATH go together")
    name, source = arguments.dataset.split("=", 1)
    rows = []
    for generator in arguments.generators.split(","):
        words = [name, generator, f"{arguments.per_doc}each"]
        if generator == "memory" and arguments.memory_steps is not None:
            words.append(f"{arguments.memory_steps}steps")
        if generator == "seq2seq":
            words.append(Path(arguments.seq2seq).name)
        found = cell(
            "generators",
            "-".join(words),
            lambda generator=generator: _measure(source, generator, arguments),
        )
        rows.append({"dataset": name, "generator": generator, **found["round trip"], **found})
    columns = ["dataset", "generator", "queries", "Success@1", "Success@10", "RR", "seconds"]
    show(rows, columns)


def _measure(source: str, generator: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from data_prep.dataset import Dataset
    from data_prep.generate import generate_queries
    from data_prep.generators import GENERATORS
    from data_prep.round_trip import measure_round_trip
    from dsi.commands.prepare import prepare
    from dsi.generation import MemoryOptions, train_memory

    settings = {
        "dataset": arguments.dataset.split("=", 1)[0],
        "generator": generator,
        "per_doc": arguments.per_doc,
    }
    with TemporaryDirectory() as folder:
        prepare(source, out=Path(folder) / "dataset")
        dataset = Dataset.open(Path(folder) / "dataset")
        if generator == LABELED:
            trip = _round_trip_of_labeled(dataset)
            return {"settings": settings, "round trip": trip, "seconds": None}
        options: Any = GENERATORS[generator].options_class(per_doc=arguments.per_doc)
        if generator == "seq2seq":
            options = replace(options, model=arguments.seq2seq)
        started = time.perf_counter()
        if isinstance(options, MemoryOptions):
            if arguments.memory_steps is not None:
                options = replace(options, steps=arguments.memory_steps)
            train_memory(dataset, options)
        generate_queries(dataset, generator, options)
        seconds = time.perf_counter() - started
        texts = list(dataset.pseudo_queries(generator)["text"][:20])
        trip = measure_round_trip(dataset, generator, sample=5000)
        return {"settings": settings, "round trip": trip, "seconds": seconds, "examples": texts}


def _round_trip_of_labeled(dataset: Any) -> dict[str, float]:
    from data_prep.bm25 import Bm25
    from data_prep.round_trip import read_by

    texts = dataset.query_texts()
    row_of = {doc_id: row for row, doc_id in enumerate(dataset.doc_ids)}
    pairs = [
        (texts[query_id], row_of[doc_id])
        for query_id, judged in dataset.qrels_of("train").items()
        for doc_id in judged
    ]
    bm25 = Bm25([read_by(document) for document in dataset.documents()])
    ranks = bm25.ranks([query for query, _ in pairs], [row for _, row in pairs])
    found = ranks > 0
    return {
        "queries": len(pairs),
        "Success@1": float((ranks == 1).mean()),
        "Success@10": float((found & (ranks <= 10)).mean()),
        "RR": float((found / ranks.clip(min=1)).mean()),
    }


if __name__ == "__main__":
    main()

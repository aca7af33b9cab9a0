"""What does an index gain from pseudo-queries that a small language model writes?

    python benchmarks/language_model.py --dataset squad-dev=PATH/TO/BEIR --model MODEL.gguf
    python benchmarks/language_model.py --dataset quickstart=docstrings --model MODEL.gguf

Of the documents that have no training query, a sample is a corpus of its own: nobody has asked for
any of it. The index stands as `dsi train` makes it by default, without a pseudo-query, beside one
that is trained on extractive ones, and one trained on those of the model that find their document
among ten by BM25 (lexical layer and network). The model is instruction-tuned and asked in its chat
format. Cells in `results/language_model.jsonl` are not measured again; with `--work FOLDER`, a
stopped run goes on after the last queries that it has written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, differing, show

SYSTEMS = ("none", "extractive", "seq2seq+round_trip")
TEMPERATURE = 0.6


def main() -> None:
    """Measures the cells that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--model", required=True, type=Path, help="causal model, GGUF or folder")
    parser.add_argument("--documents", type=int, default=432)
    parser.add_argument("--per-doc", type=int, default=2)
    parser.add_argument("--work", type=Path, help="where queries are kept; default: nowhere")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    rows = []
    with _working_folder(arguments.work) as root:
        for system in SYSTEMS:
            words = [name, f"{arguments.documents}documents", system]
            if system.startswith("seq2seq"):
                words.append(arguments.model.stem)
            found = cell(
                "language_model",
                "-".join(words),
                lambda system=system: _measure(root / system, source, system, arguments),
            )
            every = found["systems"]["index"]["all"]
            trip = found.get("round trip") or {}
            rows.append(
                {
                    "dataset": name,
                    "trained on": system,
                    "Success@1": every["Success@1"],
                    "Success@10": every["Success@10"],
                    "queries' own Success@1": trip.get("Success@1", ""),
                    "pseudo-queries": found.get("pseudo-queries", 0),
                    "seconds": found.get("seconds", 0.0),
                }
            )
    show(rows, list(rows[0]))


@contextmanager
def _working_folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def _measure(root: Path, source: str, system: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from data_prep.dataset import Dataset
    from dsi.commands.evaluate import evaluate
    from dsi.indexing.build import train_index
    from dsi.indexing.options import TrainingOptions

    path = root / "dataset"
    if not path.is_dir():
        _unasked(path, source, arguments.documents)
    dataset = Dataset.open(path)
    generator, _, filtered = system.partition("+")
    made = _queries(dataset, generator, bool(filtered), arguments)
    options = TrainingOptions()
    if generator != "none":
        options = TrainingOptions(generator=generator, per_doc=arguments.per_doc)
    with TemporaryDirectory() as folder:
        train_index(dataset, Path(folder) / "index", options)
        report = evaluate([Path(folder) / "index"], path, baselines="bm25")
    return {
        "settings": {
            "documents": len(dataset.doc_ids),
            "queries": len(dataset.qrels_of("test")),
            "model": arguments.model.name if generator == "seq2seq" else None,
            "options": differing(options),
        },
        **made,
        "systems": report.data["systems"],
        "comparison": report.data["comparison"],
    }


def _queries(
    dataset: Any, generator: str, filtered: bool, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Writes the pseudo-queries; returns how many, and how often they find their document."""
    from data_prep.generate import generate_queries
    from data_prep.generators import GENERATORS
    from data_prep.round_trip import FilterOptions, measure_round_trip

    if generator == "none":
        return {}
    chosen: Any = GENERATORS[generator].options_class(per_doc=arguments.per_doc)
    if generator == "seq2seq":
        chosen = replace(
            chosen, model=str(arguments.model), chat=True, temperature=TEMPERATURE, query_length=32
        )
    keep = FilterOptions(round_trip=10) if filtered else None
    # Queries that are there already were made by a run that left its time here.
    spent = dataset.path.parent / "seconds.json"
    seconds = json.loads(spent.read_text()) if spent.is_file() else 0.0
    started = time.perf_counter()
    generate_queries(dataset, generator, chosen, keep)
    seconds += time.perf_counter() - started
    spent.write_text(json.dumps(seconds))
    texts = list(dataset.pseudo_queries(generator)["text"])
    return {
        "pseudo-queries": len(texts),
        "seconds": seconds,
        "round trip": measure_round_trip(dataset, generator, sample=5000),
        "examples": texts[:12],
    }


def _unasked(path: Path, source: str, size: int) -> None:
    """Writes a corpus of documents without a training query, and their test queries."""
    from data_prep.dataset import Dataset, InMemorySource, Qrel, Query
    from data_prep.dataset_writer import write_dataset
    from dsi.commands.prepare import prepare

    with TemporaryDirectory() as folder:
        prepare(source, out=Path(folder) / "whole")
        whole = Dataset.open(Path(folder) / "whole")
        asked = {each for judged in whole.qrels_of("train").values() for each in judged}
        free = [doc_id for doc_id in whole.doc_ids if doc_id not in asked]
        free.sort(key=lambda each: hashlib.sha256(each.encode()).digest())
        kept = set(free[:size])
        qrels = [
            Qrel(query_id, doc_id, relevance, "test")
            for query_id, judged in whole.qrels_of("test").items()
            for doc_id, relevance in judged.items()
            if doc_id in kept
        ]
        wanted = {qrel.query_id for qrel in qrels}
        queries = [Query(*item) for item in whole.query_texts().items() if item[0] in wanted]
        documents = [document for document in whole.documents() if document.doc_id in kept]
        name = f"{whole.info.name}-unasked-{size}"
        write_dataset(path, InMemorySource(documents, queries, qrels, name=name))


if __name__ == "__main__":
    main()

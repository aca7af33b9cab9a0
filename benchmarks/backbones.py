"""What does a decoder-only language model give as an index model, beside what needs no download?

    python benchmarks/backbones.py --dataset squad-dev=PATH/TO/BEIR --model PATH/TO/MODEL.gguf

The first documents of the dataset, with their queries, are indexed with atomic identifiers by: the
default model; a T5 from scratch; and the language model, as it starts (`start`), with the rows of
codes trained alone (`frozen`), and with LoRA (`lora`). Only the default has a lexical layer. Every
cell is one seed in a process of its own. Cells in `results/backbones.jsonl` are not measured again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, differing, show

CELLS = ("default", "t5-tiny", "start", "frozen", "lora")
MEASURES = ("Success@1", "Success@10")


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--model", required=True, help="GGUF file or folder of a language model")
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--queries", type=int, default=200, help="of split test, at most")
    parser.add_argument("--steps", type=int, default=60, help="of what is trained")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--cells", default=",".join(CELLS), help="with commas between")
    arguments = parser.parse_args()
    name = arguments.dataset.split("=", 1)[0]
    rows = []
    for each in arguments.cells.split(","):
        full = f"{name}-{arguments.documents}-{arguments.queries}-{each}"
        if each in ("t5-tiny", "frozen", "lora"):
            full += f"-{arguments.steps}x{arguments.batch}"
        found = cell("backbones", full, lambda each=each: _in_a_process(each, arguments))
        columns = {name: value for name, value in found.items() if isinstance(value, float)}
        rows.append({"model": each, **columns})
    show(rows, ["model", *MEASURES, "training s", "peak GiB", "queries per s"])


def options_of(each: str, arguments: argparse.Namespace) -> Any:
    """Returns the training options of a cell."""
    from dsi.indexing.options import TrainingOptions
    from dsi.lexical.options import LexicalOptions
    from dsi.training.options import LoopOptions, LoraOptions, ModelOptions, OptimizerOptions

    if each == "default":
        return TrainingOptions()
    loop = LoopOptions(
        steps=arguments.steps,
        batch=arguments.batch,
        evaluate_every=arguments.steps,
        checkpoint_every=arguments.steps,
        evaluate_queries=50,
    )
    given: dict[str, Any] = {"lexical": LexicalOptions(enabled=False), "loop": loop}
    if each == "t5-tiny":
        return TrainingOptions(
            **given, model=ModelOptions(size="tiny"), optimizer=OptimizerOptions(lr=1e-3, body=1.0)
        )
    given["model"] = ModelOptions(pretrained=arguments.model)
    if each == "start":
        given["loop"] = LoopOptions(steps=0)
        return TrainingOptions(**given)
    if each == "lora":
        given["lora"] = LoraOptions(rank=8)
    body = None if each == "lora" else 0.0
    return TrainingOptions(**given, optimizer=OptimizerOptions(lr=1e-3, body=body))


def _in_a_process(each: str, arguments: argparse.Namespace) -> dict[str, Any]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (each, arguments))


def _measure(each: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from data_prep.dataset import Dataset
    from dsi import Index
    from dsi.commands.prepare import prepare
    from dsi.indexing.build import train_index

    options = options_of(each, arguments)
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(arguments.dataset.split("=", 1)[1], out=folder / "whole")
        dataset = _first(Dataset.open(folder / "whole"), folder / "part", arguments.documents)
        began = time.monotonic()
        train_index(dataset, folder / "index", options)
        trained = time.monotonic() - began
        index = Index.open(folder / "index", "cpu")
        texts = dataset.query_texts()
        asked = dict(islice(dataset.qrels_of("test").items(), arguments.queries))
        began = time.monotonic()
        hits = index.search([texts[query] for query in asked], k=10)
        searched = time.monotonic() - began
    found = [
        next((place for place, hit in enumerate(some) if hit.doc_id in judged), 10)
        for some, judged in zip(hits, asked.values(), strict=True)
    ]
    return {
        "settings": {
            "documents": arguments.documents,
            "queries": len(asked),
            "options": differing(options),
        },
        "Success@1": sum(place < 1 for place in found) / len(found),
        "Success@10": sum(place < 10 for place in found) / len(found),
        "training s": trained,
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "queries per s": len(asked) / searched,
    }


def _first(whole: Any, path: Path, count: int) -> Any:
    """Writes the first documents of a dataset and the queries that are about them."""
    from data_prep.dataset import InMemorySource, Qrel, Query
    from data_prep.dataset_writer import write_dataset

    documents = list(islice(whole.documents(), count))
    kept, texts = {document.doc_id for document in documents}, whole.query_texts()
    qrels = [
        Qrel(query_id, doc_id, relevance, split)
        for split in ("train", "dev", "test")
        for query_id, judged in whole.qrels_of(split).items()
        for doc_id, relevance in judged.items()
        if doc_id in kept
    ]
    queries = [
        Query(query_id, texts[query_id]) for query_id in dict.fromkeys(q.query_id for q in qrels)
    ]
    return write_dataset(path, InMemorySource(documents, queries, qrels, name="part"))


if __name__ == "__main__":
    main()

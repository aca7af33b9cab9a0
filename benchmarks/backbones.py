"""What does a decoder-only language model give as an index model, beside what needs no download?

    python benchmarks/backbones.py --dataset squad-dev=PATH/TO/BEIR --model PATH/TO/MODEL.gguf

The first documents of the dataset, with their queries, are indexed with atomic identifiers by: the
default model; a T5 from scratch; and the language model, as it starts (`start`), with the rows of
codes trained alone (`frozen`), and with LoRA (`lora`). Only the default has a lexical layer. Every
cell is one seed in a process of its own. Questions are drawn from all of split test that are about
these documents: in the order of the file, hundreds are about few. The cells of
`--cells t5-small,t5-small-shallow` are trained for the processor time of `--seconds` each: a deep
encoder under a shallow decoder beside T5-small's own shape, with semantic identifiers. Cells in
`results/backbones.jsonl` are not measured again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, differing, show
from runs import first_documents

CELLS = ("default", "t5-tiny", "start", "frozen", "lora")
TIMED = ("t5-small", "t5-small-shallow")
"""Trained for a given time."""
RATE = 1e-4
"""Learning rate of rows that start from states; 1e-3 overwrites them within 20 steps."""
MEASURES = ("Success@1", "Success@10")


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--model", default=None, help="GGUF file or folder of a language model")
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--queries", type=int, default=200, help="of split test, at most")
    parser.add_argument("--steps", type=int, default=200, help="of what is trained")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=300, help="of t5-small and its like")
    parser.add_argument("--cells", default=",".join(CELLS), help="with commas between")
    arguments = parser.parse_args()
    name = arguments.dataset.split("=", 1)[0]
    rows = []
    for each in arguments.cells.split(","):
        full = f"{name}-{arguments.documents}-{arguments.queries}-{each}"
        if each in ("t5-tiny", "frozen", "lora"):
            full += f"-{arguments.steps}x{arguments.batch}"
        elif each in TIMED:
            full += f"-{arguments.seconds:g}s"
        found = cell("backbones", full, lambda each=each: _in_a_process(each, arguments))
        columns = {name: value for name, value in found.items() if isinstance(value, float)}
        rows.append({"model": each, **columns})
    columns = ["training s", "training CPU s", "peak GiB", "queries per s", "queries per CPU s"]
    show(rows, ["model", *MEASURES, "steps", *columns])


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
        evaluate_queries=100,
    )
    given: dict[str, Any] = {"lexical": LexicalOptions(enabled=False), "loop": loop}
    if each == "t5-tiny":
        return TrainingOptions(
            **given,
            model=ModelOptions(size="tiny"),
            optimizer=OptimizerOptions(lr=1e-3, backbone_lr_scale=1.0),
        )
    if each in TIMED:
        size = each.removeprefix("t5-")
        return TrainingOptions(
            **given,
            docids="semantic",
            model=ModelOptions(size=size),
            optimizer=OptimizerOptions(lr=1e-3, backbone_lr_scale=1.0),
        )
    given["model"] = ModelOptions(pretrained=arguments.model)
    if each == "start":
        given["loop"] = LoopOptions(steps=0)
        return TrainingOptions(**given)
    if each == "lora":
        given["lora"] = LoraOptions(rank=8)
    body = None if each == "lora" else 0.0
    return TrainingOptions(**given, optimizer=OptimizerOptions(lr=RATE, backbone_lr_scale=body))


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
        dataset = first_documents(
            Dataset.open(folder / "whole"), folder / "part", arguments.documents
        )
        if each in TIMED:
            loop = replace(
                options.loop, steps=_steps_in(arguments.seconds, dataset, options, folder)
            )
            options = replace(options, loop=loop)
        began, computed = time.monotonic(), time.process_time()
        done = train_index(dataset, folder / "index", options)
        trained, computed = time.monotonic() - began, time.process_time() - computed
        index = Index.open(folder / "index", "cpu")
        texts = dataset.query_texts()
        asked = _drawn(dataset.qrels_of("test"), arguments.queries)
        began, searching = time.monotonic(), time.process_time()
        hits = index.search([texts[query] for query in asked], k=10)
        searched, searching = time.monotonic() - began, time.process_time() - searching
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
        "steps": float(done.metrics["steps"]),
        "training s": trained,
        "training CPU s": computed,
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "queries per s": len(asked) / searched,
        "queries per CPU s": len(asked) / searching,
    }


def _drawn(qrels: dict[str, Any], count: int) -> dict[str, Any]:
    """Returns a sample of queries with their judgments, the same in every cell."""
    picked = sorted(random.Random(0).sample(sorted(qrels), min(count, len(qrels))))
    return {query_id: qrels[query_id] for query_id in picked}


def _steps_in(seconds: float, dataset: Any, options: Any, folder: Path) -> int:
    """Returns how many steps take so much processor time."""
    from dsi.indexing.build import train_index

    times = []
    for steps in (2, 6):
        began = time.process_time()
        loop = replace(options.loop, steps=steps)
        train_index(dataset, folder / f"{steps}", replace(options, loop=loop))
        times.append(time.process_time() - began)
    return max(1, round(4 * seconds / (times[1] - times[0])))


if __name__ == "__main__":
    main()

"""What do a wider search and guidance change in the ranking, and what do they cost?

    python benchmarks/guidance.py --dataset squad-dev=PATH/TO/BEIR

One index with semantic identifiers, of the --codes of `dsi docids`, is trained with `dsi train`'s
defaults and kept in --work, so that every cell searches the same one. Queries are those of split
test, or the first --queries of them. Time is processor time of the search alone, as a ratio to the
first cell's.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from record import cell, show

CELLS: dict[str, tuple[int, dict[str, Any]]] = {
    "beams10": (10, {}),
    "beams20": (20, {}),
    "beams50": (50, {}),
    "beams100": (100, {}),
    "beams10-first50": (10, {"first_beams": 50, "first_levels": 2}),
    "beams10-starts5": (10, {"starts": 5}),
    "beams20-starts5": (20, {"starts": 5}),
    "beams10-bf16": (10, {"precision": "bf16"}),
    "beams10-int8": (10, {"precision": "int8"}),
    "beams10-int8-rescored": (10, {"precision": "int8", "rescore": True}),
    "beams10-int8-alone": (10, {"precision": "int8", "alone": True}),
}
"""Name -> beams, and fields of `GuidanceOptions`; "alone" searches one query at a time, which takes
another path through the network in int8. Beside another precision stands on which share of
the queries it finds the top 10 of fp32: the same ten documents, and these in the same order."""


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--work", type=Path, required=True, help="folder of dataset and index")
    parser.add_argument("--cells", default=",".join(CELLS), help="with commas between")
    parser.add_argument(
        "--index", type=Path, default=None, help="an index to search in place of that of --work"
    )
    parser.add_argument("--queries", type=int, default=None)
    parser.add_argument("--steps", type=int, default=None, help="default: those of dsi train")
    parser.add_argument("--codes", default="node", help="of the semantic identifiers")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    ready = _Ready(name, source, arguments.work, arguments.steps, arguments.codes)
    ready.index = arguments.index
    rows = []
    for variant in arguments.cells.split(","):
        beams, guidance = CELLS[variant]
        words = [name, arguments.codes, variant]
        if arguments.index is not None:
            words[1] = arguments.index.name
        words += [f"{arguments.queries}queries"] if arguments.queries else []
        words += [f"{arguments.steps}steps"] if arguments.steps else []
        rows.append(
            cell(
                "guidance",
                "-".join(words),
                lambda beams=beams, guidance=guidance: _measure(
                    ready, beams, guidance, arguments.queries
                ),
            )
        )
    for row in rows:
        row["queries"] = row["settings"]["queries"]
        row["cost"] = row["processor seconds"] / rows[0]["processor seconds"]
    same = ["same documents", "same top 10"]
    show(rows, ["cell", "queries", "Success@1", "Success@10", "RR@10", *same, "cost"])


class _Ready:
    """Dataset and index, made when first asked for."""

    def __init__(self, name: str, source: str, work: Path, steps: int | None, codes: Any) -> None:
        self.name, self.source, self.work, self.steps, self.codes = name, source, work, steps, codes
        self.index: Path | None = None

    def open(self) -> tuple[Any, Any]:
        """Returns the dataset and the index."""
        from dataclasses import replace

        from data_prep.dataset import Dataset
        from docids.kinds import TreeOptions
        from dsi import Index
        from dsi.commands.prepare import prepare
        from dsi.indexing.build import train_index
        from dsi.indexing.options import TrainingOptions
        from dsi.training.options import LoopOptions

        if not (self.work / "dataset").is_dir():
            prepare(self.source, out=self.work / "dataset")
        dataset = Dataset.open(self.work / "dataset")
        if self.index is not None:
            return dataset, Index.open(self.index, "cpu")
        loop = LoopOptions()
        if self.steps is not None:
            loop = replace(loop, steps=self.steps)
        tree = TreeOptions(codes=self.codes)
        options = TrainingOptions(docids="semantic", semantic=tree, loop=loop)
        train_index(dataset, self.work / "index", options)
        return dataset, Index.open(self.work / "index")


def _measure(
    ready: _Ready, beams: int, guidance: dict[str, Any], most: int | None
) -> dict[str, Any]:
    from dsi.evaluation.measures import evaluate_run
    from dsi.search.options import GuidanceOptions, SearchOptions

    dataset, index = ready.open()
    fields = dict(guidance)
    precision, rescore = fields.pop("precision", "fp32"), fields.pop("rescore", False)
    alone = fields.pop("alone", False)
    options = SearchOptions(
        guidance=GuidanceOptions(**fields), precision=precision, rescore=rescore
    )
    texts, qrels = dataset.query_texts(), dataset.qrels_of("test")
    asked = list(qrels)[:most]
    started = time.process_time()
    batches = [[query] for query in asked] if alone else [asked]
    hits = [
        ranked
        for batch in batches
        for ranked in index.search(
            [texts[query] for query in batch], k=10, beams=beams, options=options
        )
    ]
    seconds = time.process_time() - started
    run = {
        query: {hit.doc_id: hit.score for hit in found}
        for query, found in zip(asked, hits, strict=True)
    }
    figures = evaluate_run({query: qrels[query] for query in asked}, run).mean
    if precision != "fp32":
        full = index.search([texts[query] for query in asked], k=10, beams=beams)
        pairs = [
            ([hit.doc_id for hit in found], [hit.doc_id for hit in other])
            for found, other in zip(hits, full, strict=True)
        ]
        figures = {
            **figures,
            "same documents": sum(set(ours) == set(theirs) for ours, theirs in pairs) / len(pairs),
            "same top 10": sum(ours == theirs for ours, theirs in pairs) / len(pairs),
        }
    return {
        "settings": {
            "dataset": ready.name,
            "codes": ready.codes if ready.index is None else None,
            "load": os.getloadavg()[0],
            "steps": ready.steps,
            "queries": len(asked),
            "beams": beams,
            **{name: value for name, value in guidance.items() if name != "dataset"},
        },
        "processor seconds": seconds,
        **figures,
    }


if __name__ == "__main__":
    main()

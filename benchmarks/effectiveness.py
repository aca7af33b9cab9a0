"""How well does an index rank, by docid kind, beside BM25 on the same queries?

    python benchmarks/effectiveness.py --dataset squad-dev=PATH/TO/BEIR --kinds atomic --seeds 3
    python benchmarks/effectiveness.py --dataset quickstart=docstrings
    python benchmarks/effectiveness.py --dataset squad-dev=PATH --suite docids --steps 120

Every cell (dataset, kind, seed) trains from scratch with `dsi train`'s defaults unless options
say otherwise, and is measured on split test. The suite "docids" has every kind of identifier,
with the same model and number of updates. "KIND+share" is a kind with `--collisions share`. Cells
that are in `results/effectiveness/` are not measured again, so that a grid continues where it
stopped; remove a file to measure it again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, show

SUITES = {
    "docids": "atomic,semantic,rq,pq,keywords,description,description+share,title,title+share,url,"
    "naive,random"
}
"""Suite -> the kinds it is made of."""
GROUPS = ("all", "seen", "unseen")
MEASURES = ("Success@1", "Success@10", "RR@10")


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--kinds", default="atomic,semantic,naive,random")
    parser.add_argument("--suite", choices=list(SUITES), help="instead of --kinds")
    parser.add_argument("--codes", default="node", help="codes of semantic and random")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=None, help="default: those of dsi train")
    parser.add_argument("--beams", type=int, default=None, help="default: those of dsi evaluate")
    parser.add_argument("--variant", default="default", help="name of other settings, below")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    rows = []
    kinds = SUITES[arguments.suite] if arguments.suite else arguments.kinds
    for kind in kinds.split(","):
        cells = [
            cell(
                "effectiveness",
                _cell_name(name, kind, arguments, seed),
                lambda kind=kind, seed=seed: _measure(source, kind, arguments, seed),
            )
            for seed in range(arguments.seeds)
        ]
        rows.append({"dataset": name, "system": kind, "seeds": len(cells), **_mean(cells)})
    for baseline in ("bm25", "bm25+queries"):
        flat = _flat(cells[0]["systems"].get(baseline, {}))
        rows.append({"dataset": name, "system": baseline, "seeds": 1, **flat})
    columns = ["dataset", "system", "seeds", "training minutes", "search seconds"]
    for group in GROUPS:
        columns += [c for m in MEASURES for c in (f"{group} {m}", f"{group} {m} sd")]
    show(rows, [column for column in columns if any(column in row for row in rows)])


def _cell_name(name: str, kind: str, arguments: argparse.Namespace, seed: int) -> str:
    words = [name, kind]
    if kind in ("semantic", "random"):
        words.append(arguments.codes)
    if arguments.steps is not None:
        words.append(f"{arguments.steps}steps")
    if arguments.beams is not None:
        words.append(f"{arguments.beams}beams")
    if arguments.variant != "default":
        words.append(arguments.variant)
    return "-".join([*words, f"seed{seed}"])


def _measure(source: str, kind: str, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    from data_prep.dataset import Dataset
    from docids.assignment import Assignment
    from docids.kinds import TreeOptions
    from docids.kinds.url import UrlOptions
    from dsi import versions
    from dsi.commands.evaluate import evaluate
    from dsi.commands.prepare import prepare
    from dsi.training.build import TrainingOptions, train_index
    from dsi.training.options import LoopOptions

    with TemporaryDirectory() as folder:
        dataset, index = Path(folder) / "dataset", Path(folder) / "index"
        prepare(source, out=dataset)
        loop = LoopOptions()
        if arguments.steps is not None:
            loop = replace(loop, steps=arguments.steps)
        plain, _, share = kind.partition("+")
        options = TrainingOptions(
            docids=plain,
            semantic=TreeOptions(codes=arguments.codes),
            # Neither corpus has URLs; its ids are as near as it comes.
            url=UrlOptions(column="doc_id"),
            collisions="share" if share else None,
            seed=seed,
            loop=loop,
        )
        started = time.perf_counter()
        manifest = train_index(Dataset.open(dataset), index, options)
        minutes = (time.perf_counter() - started) / 60
        version = versions.folder(index, versions.live(index))
        quality = _quality(Assignment.open(version / "assignment"), dataset)
        report = evaluate(index, dataset, beams=arguments.beams)
        return {
            "training minutes": minutes,
            "identifiers": quality,
            "configuration": dict(manifest.configuration),
            "reached": dict(manifest.metrics),
            "systems": report.data["systems"],
            "comparison": report.data["comparison"],
            "seconds": report.data["seconds"],
        }


def _quality(assignment: Any, dataset: Path) -> dict[str, Any]:
    """What the table shows of the identifiers themselves."""
    from data_prep.dataset import Dataset
    from docids.assignment import text_of
    from docids.embeddings import EmbeddingOptions, fit_embedder
    from docids.quality import measure

    documents = {document.doc_id: document for document in Dataset.open(dataset).documents()}
    rows = [documents[doc_id] for doc_id in assignment.table.doc_ids]
    texts = text_of((row.title for row in rows), (row.text for row in rows))
    embedder = fit_embedder(texts, EmbeddingOptions(), 0)
    report = measure(assignment.table, lambda: embedder.encode(texts), seed=0).to_dict()
    names = ("unique", "shared_documents", "purity", "purity_shuffled")
    return {"mean length": report["length"]["mean"], **{name: report[name] for name in names}}


def _flat(system: dict[str, Any]) -> dict[str, float]:
    return {
        f"{group} {measure}": system[group][measure]
        for group in GROUPS
        if group in system
        for measure in MEASURES
    }


def _mean(cells: list[dict[str, Any]]) -> dict[str, float]:
    """The mean over seeds of every figure, and its sample deviation where there are several."""
    flats = [
        {
            "training minutes": entry["training minutes"],
            "search seconds": entry["seconds"]["index"],
            **_flat(entry["systems"]["index"]),
        }
        for entry in cells
    ]
    merged: dict[str, float] = {}
    for key in flats[0]:
        values = [flat[key] for flat in flats]
        merged[key] = statistics.mean(values)
        if len(values) > 1:
            merged[f"{key} sd"] = statistics.stdev(values)
    return merged


if __name__ == "__main__":
    main()

"""How well does an index rank, by docid kind, beside BM25 on the same queries?

    python benchmarks/effectiveness.py --dataset squad-dev=PATH/TO/BEIR --kinds atomic --seeds 3
    python benchmarks/effectiveness.py --dataset quickstart=docstrings
    python benchmarks/effectiveness.py --dataset squad-dev=PATH --suite docids --steps 120

Every cell (dataset, kind, seed) trains from scratch with `dsi train`'s defaults unless options say
otherwise, and is measured on split test. The suite "docids" has every kind of identifier, with the
same model and number of updates; "rehearsal", "ingredients" and "generators" have the systems of
`systems.py`, which differ in what they are trained on. "generators" has every generator of pseudo-
queries, measured by how often BM25 finds their document and by what an index learns from them;
`--seq2seq PATH` adds a checkpoint that writes them (docT5query, ...), which must be on this
machine. With the warm start all of them rank alike at first: `--cold` shows what is learned.
"KIND+share" is a kind with `--collisions share`, "rq+balance" has `--rq.balance true`, and "pq+opq"
`--pq.rotation opq`. Systems of several codes are searched twice: as
usual, and without the constraint that keeps the search to documents ("SYSTEM, unconstrained").
Cells that are in `results/effectiveness.jsonl` are not measured again, so that a grid continues
where it stopped; remove a line to measure its cell again.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import systems
from record import cell, differing, show

SUITES = {
    **{suite: ",".join(names) for suite, names in systems.SUITES.items()},
    "docids": "atomic,semantic,rq,pq,keywords,description,description+share,title,title+share,url,"
    "learned,naive,random",
}
"""Suite -> the kinds or systems it is made of."""
UNCONSTRAINED = "index, unconstrained"
"""The system in a cell that is the index, searched over all sequences of codes."""
SEQ2SEQ = "queries-seq2seq"
"""The system whose pseudo-queries a checkpoint writes."""
DENSE = ("dense", "fusion")
"""Baselines that need an encoder; cells leave its path out."""
GROUPS = ("all", "seen", "unseen")
MEASURES = ("Success@1", "Success@10", "RR@10")


def main() -> None:
    """Measures the cells that are missing and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--kinds", default="atomic,semantic,naive,random")
    parser.add_argument("--suite", choices=list(SUITES), help="instead of --kinds")
    parser.add_argument("--codes", default="node", help="codes of semantic and random")
    parser.add_argument("--codebook", type=int, default=None, help="codes a level of rq")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=None, help="default: those of dsi train")
    parser.add_argument("--batch", type=int, default=None, help="default: that of dsi train")
    parser.add_argument("--lr", type=float, default=None, help="default: that of dsi train")
    parser.add_argument(
        "--cold", action="store_true", help="random weights, all of them trained, no warm start"
    )
    parser.add_argument("--precision", default="auto", help="of training; as dsi train has it")
    parser.add_argument("--beams", type=int, default=None, help="default: those of dsi evaluate")
    parser.add_argument("--documents", type=int, default=None, help="a sample, for small machines")
    parser.add_argument("--seq2seq", metavar="PATH", help="checkpoint of queries-seq2seq")
    parser.add_argument("--encoder", metavar="PATH", help="dense and fusion beside BM25, with it")
    parser.add_argument("--model-encoder", metavar="PATH", help="the index's own encoder")
    parser.add_argument("--variant", default="default", help="name of other settings, below")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    rows = []
    kinds = (SUITES[arguments.suite] if arguments.suite else arguments.kinds).split(",")
    if arguments.seq2seq is None and SEQ2SEQ in kinds:
        if not arguments.suite:
            parser.error(f"{SEQ2SEQ} needs --seq2seq PATH")
        kinds.remove(SEQ2SEQ)
    for kind in kinds:
        cells = [
            cell(
                "effectiveness",
                _cell_name(name, kind, arguments, seed),
                lambda kind=kind, seed=seed: _measure(source, kind, arguments, seed),
            )
            for seed in range(arguments.seeds)
        ]
        for system in ("index", UNCONSTRAINED):
            if system in cells[0]["systems"]:
                label = kind if system == "index" else f"{kind}, unconstrained"
                means = _mean(cells, system)
                rows.append({"dataset": name, "system": label, "seeds": len(cells), **means})
    for baseline in ("bm25", "bm25+queries", *DENSE):
        flat = _flat(cells[0]["systems"].get(baseline, {}))
        rows.append({"dataset": name, "system": baseline, "seeds": 1, **flat})
    columns = ["dataset", "system", "seeds", "training minutes", "search seconds"]
    columns += ["queries' own Success@1", "queries' own Success@10"]
    for group in GROUPS:
        columns += [c for m in MEASURES for c in (f"{group} {m}", f"{group} {m} sd")]
    show(rows, [column for column in columns if any(column in row for row in rows)])


def _cell_name(name: str, kind: str, arguments: argparse.Namespace, seed: int) -> str:
    words = [name, kind]
    if arguments.documents is not None:
        words.append(f"{arguments.documents}documents")
    if kind == SEQ2SEQ:
        words.append(Path(arguments.seq2seq).name)
    if kind in ("semantic", "random"):
        words.append(arguments.codes)
    if arguments.steps is not None:
        words.append(f"{arguments.steps}steps")
    if arguments.batch is not None:
        words.append(f"{arguments.batch}batch")
    if arguments.lr is not None:
        words.append(f"lr{arguments.lr}")
    if arguments.cold:
        words.append("cold")
    if arguments.precision != "auto":
        words.append(arguments.precision)
    if arguments.beams is not None:
        words.append(f"{arguments.beams}beams")
    if arguments.model_encoder is not None:
        words.append(f"encoder_{Path(arguments.model_encoder).name}")
    if arguments.encoder is not None:
        words.append(f"beside_{Path(arguments.encoder).name}")
    if arguments.variant != "default":
        words.append(arguments.variant)
    return "-".join([*words, f"seed{seed}"])


def _measure(source: str, kind: str, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    from data_prep.dataset import Dataset
    from docids.assignment import Assignment
    from docids.kinds import TreeOptions
    from docids.kinds.pq import ProductOptions
    from docids.kinds.rq import ResidualOptions
    from docids.kinds.url import UrlOptions
    from dsi.commands.evaluate import evaluate
    from dsi.commands.prepare import prepare
    from dsi.commands.search_arguments import SearchArguments
    from dsi.index_folder import versions
    from dsi.indexing.build import train_index
    from dsi.indexing.options import TrainingOptions
    from dsi.lexical.options import LexicalOptions
    from dsi.training.options import LoopOptions, ModelOptions, OptimizerOptions

    with TemporaryDirectory() as folder:
        dataset, index = Path(folder) / "dataset", Path(folder) / "index"
        prepare(source, out=dataset)
        if arguments.documents is not None:
            _sample(dataset, arguments.documents)
        loop = LoopOptions(precision=arguments.precision)
        if arguments.steps is not None:
            loop = replace(loop, steps=arguments.steps)
        if arguments.batch is not None:
            loop = replace(loop, batch=arguments.batch)
        system = systems.SYSTEMS.get(kind)
        optimizer = OptimizerOptions()
        if arguments.lr is not None:
            optimizer = replace(optimizer, lr=arguments.lr)
        model = ModelOptions(encoder=arguments.model_encoder)
        # What a network is trained on shows where nothing else ranks documents.
        lexical = LexicalOptions(enabled=not (arguments.cold or system))
        if arguments.cold:
            model = replace(model, warm_start="none")
            optimizer = replace(optimizer, backbone_lr_scale=1.0)
        plain, _, variant = ("atomic", "", "") if system else kind.partition("+")
        options = TrainingOptions(
            docids=plain,
            semantic=TreeOptions(codes=arguments.codes),
            # Neither corpus has URLs; its ids are as near as it comes.
            url=UrlOptions(column="doc_id"),
            rq=ResidualOptions(codebook=arguments.codebook, balance=variant == "balance"),
            pq=ProductOptions(rotation="opq" if variant == "opq" else "random"),
            collisions="share" if variant == "share" else None,
            seed=seed,
            lexical=lexical,
            model=model,
            optimizer=optimizer,
            loop=loop,
        )
        if system is not None:
            options = system(options)
        queries = _pseudo_queries(Dataset.open(dataset), options, arguments.seq2seq)
        started = time.perf_counter()
        manifest = train_index(Dataset.open(dataset), index, options)
        minutes = (time.perf_counter() - started) / 60
        version = versions.folder(index, versions.live(index))
        quality = _quality(Assignment.open(version / "assignment"), dataset)
        flags = SearchArguments(beams=arguments.beams)
        beside = {"bm25": "bm25", "bm25+queries": "bm25+queries"}
        if arguments.encoder is not None:
            beside |= {f"{name}:{arguments.encoder}": name for name in DENSE}
        report = evaluate([index], dataset, baselines=",".join(beside), flags=flags)
        for entry in ("systems", "comparison", "seconds"):
            values = report.data[entry]
            report.data[entry] = {beside.get(name, name): values[name] for name in values}
        if system is not None and options.docids != "atomic":
            freely = evaluate(
                [index], dataset, baselines="none", flags=replace(flags, constraint=False)
            )
            report.data["systems"][UNCONSTRAINED] = freely.data["systems"]["index"]
            report.data["seconds"][UNCONSTRAINED] = freely.data["seconds"]["index"]
        return {
            "settings": {
                "dataset": arguments.dataset.split("=", 1)[0],
                "content_hash": Dataset.open(dataset).info.content_hash,
                "kind": kind,
                **_given(documents=arguments.documents, beams=arguments.beams),
                "options": differing(options),
            },
            "training minutes": minutes,
            "identifiers": quality,
            "pseudo-queries": queries,
            "reached": dict(manifest.metrics),
            "systems": report.data["systems"],
            "comparison": report.data["comparison"],
            "seconds": report.data["seconds"],
        }


def _given(**settings: Any) -> dict[str, Any]:
    """Returns those that are not None."""
    return {name: value for name, value in settings.items() if value is not None}


def _sample(path: Path, size: int) -> None:
    """Leaves documents drawn by the hash of their ids, with the queries that ask for them."""
    from data_prep.dataset import Dataset, InMemorySource, Qrel, Query
    from data_prep.dataset_writer import write_dataset

    whole = Dataset.open(path)
    order = sorted(whole.doc_ids, key=lambda each: hashlib.sha256(each.encode()).digest())
    kept = set(order[:size])
    qrels = [
        Qrel(query_id, doc_id, relevance, split)
        for split in ("train", "dev", "test")
        for query_id, judged in whole.qrels_of(split).items()
        for doc_id, relevance in judged.items()
        if doc_id in kept
    ]
    asked = {qrel.query_id for qrel in qrels}
    queries = [Query(*item) for item in whole.query_texts().items() if item[0] in asked]
    documents = [document for document in whole.documents() if document.doc_id in kept]
    source = InMemorySource(documents, queries, qrels, name=f"{whole.info.name}-{size}")
    write_dataset(path, source)


def _pseudo_queries(dataset: Any, options: Any, seq2seq: str | None) -> dict[str, Any] | None:
    """Makes the pseudo-queries; returns how often they find their document, and their time."""
    from data_prep.generate import generate_queries
    from data_prep.generators import GENERATORS
    from data_prep.round_trip import measure_round_trip
    from dsi.generation import train_memory

    name = options.generator
    if name not in GENERATORS:
        return None
    chosen: Any = GENERATORS[name].options_class(per_doc=options.per_doc, seed=options.seed)
    if name == "seq2seq":
        chosen = replace(chosen, model=seq2seq)
    started = time.perf_counter()
    if name == "memory":
        train_memory(dataset, chosen)
    learned = time.perf_counter() - started
    generate_queries(dataset, name, chosen)
    return {
        "generator": name,
        "per_doc": options.per_doc,
        "training seconds": learned,
        "seconds": time.perf_counter() - started,
        "round trip": measure_round_trip(dataset, name, sample=5000),
    }


def _quality(assignment: Any, dataset: Path) -> dict[str, Any]:
    """What the table shows of the identifiers themselves."""
    from data_prep.dataset import Dataset
    from docids.embeddings import EmbeddingOptions, fit_embedder
    from docids.quality import measure

    documents = {document.doc_id: document for document in Dataset.open(dataset).documents()}
    rows = [documents[doc_id] for doc_id in assignment.table.doc_ids]
    texts = [row.title_and_text for row in rows]
    embedder = fit_embedder(texts, EmbeddingOptions(), 0)
    report = measure(assignment.table, lambda: embedder.encode(texts), seed=0).to_dict()
    names = ("unique", "shared_documents", "purity", "purity_shuffled", "neighbor_hit_rate", "gini")
    return {"mean length": report["length"]["mean"], **{name: report.get(name) for name in names}}


def _flat(system: dict[str, Any]) -> dict[str, float]:
    return {
        f"{group} {measure}": system[group][measure]
        for group in GROUPS
        if group in system
        for measure in MEASURES
    }


def _round_trip(entry: dict[str, Any]) -> dict[str, float]:
    """How often the pseudo-queries of a cell find their document by BM25, where it has some."""
    made = entry.get("pseudo-queries")
    if not made:
        return {}
    return {f"queries' own {m}": made["round trip"][m] for m in ("Success@1", "Success@10")}


def _mean(cells: list[dict[str, Any]], system: str) -> dict[str, float]:
    """The mean over seeds of a system's figures, and their deviation where there are several."""
    flats = [
        {
            "training minutes": entry["training minutes"],
            "search seconds": entry["seconds"][system],
            **_round_trip(entry),
            **_flat(entry["systems"][system]),
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

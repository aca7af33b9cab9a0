"""Do two hops find documents that only another document names?

    python benchmarks/hops.py
    python benchmarks/hops.py --seeds 0 --documents 600

The documents are the docstrings of Python's standard library, so that every machine can make them.
Of a function whose docstring names another one, the query has the first sentence: it says nothing
of the other, whose docstring is the answer. Both are relevant, in this order. Two of three queries
are for training.

Cells, in `results/hops.jsonl`; a grid that was stopped goes on where it stopped:

- bm25: BM25 over titles and texts, without and with the training queries of each document.
- CHAINS-seedN: one hop and two hops on an index trained with `--mix.chains CHAINS`.
- sentences-N, beams-N: two hops on the index `none-seed0`, with other options.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from record import cell, show

CHAINS = ("none", "ordered", "unordered")
SENTENCES = (1, 2, 4, 8, 16)
BEAMS = (1, 2, 3, 5, 10)
LEFT_OUT = {"idlelib", "turtledemo", "lib2to3", "test", "tests", "this", "antigravity"}
NAME = re.compile(r"[A-Za-z_][\w.]*\w")
DEPTH = 100


def main() -> None:
    """Measures the cells that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--documents", type=int, default=None, help="take the first N only")
    parser.add_argument("--cells", default="bm25,chains,sentences,beams")
    arguments = parser.parse_args()
    wanted = arguments.cells.split(",")
    prefix = f"{arguments.documents}-" if arguments.documents else ""
    rows = []
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.documents)
        measured = {"bm25": bench.bm25} if "bm25" in wanted else {}
        if "chains" in wanted:
            for seed in map(int, arguments.seeds.split(",")):
                for chains in CHAINS:
                    name = f"{chains}-seed{seed}"
                    measured[name] = lambda c=chains, s=seed: bench.trained(c, s)
        if "sentences" in wanted:
            for number in SENTENCES:
                measured[f"sentences-{number}"] = lambda n=number: bench.with_options(sentences=n)
        if "beams" in wanted:
            for number in BEAMS:
                measured[f"beams-{number}"] = lambda n=number: bench.with_options(beams=n)
        for name, made in measured.items():
            found = cell("hops", f"{prefix}{name}", lambda made=made: bench.described(made()))
            rows += [
                {"cell": name, "system": system, **figures}
                for system, figures in found["systems"].items()
            ]
    show(rows, list(rows[0]))


class Bench:
    """The dataset and its indexes, made when they are first needed."""

    def __init__(self, folder: Path, most: int | None) -> None:
        self.folder = folder
        self.most = most

    def dataset(self) -> Any:
        """The dataset."""
        from data_prep.dataset import Dataset
        from data_prep.dataset_writer import write_dataset

        path = self.folder / "dataset"
        if not path.exists():
            write_dataset(path, source(self.most))
        return Dataset.open(path)

    def index(self, chains: str, seed: int) -> Any:
        """An index."""
        from dsi import Index, MixOptions, TrainingOptions
        from dsi.indexing.build import train_index

        path = self.folder / f"{chains}-{seed}"
        if not path.exists():
            mix = MixOptions(chains=chains, query_length=64)  # type: ignore[arg-type]
            train_index(self.dataset(), path, TrainingOptions(mix=mix, seed=seed))
        return Index.open(path)

    def trained(self, chains: str, seed: int) -> dict[str, Any]:
        """One hop and two hops."""
        from dsi import HopOptions

        index = self.index(chains, seed)
        hops = {"one hop": HopOptions(count=1), "two hops": HopOptions(count=2)}
        return {name: self.searched(index, options) for name, options in hops.items()}

    def with_options(self, **options: int) -> dict[str, Any]:
        """Two hops with other options."""
        from dsi import HopOptions

        index = self.index("none", 0)
        [(name, value)] = options.items()
        return {f"{name} {value}": self.searched(index, HopOptions(count=2, **options))}

    def searched(self, index: Any, options: Any) -> dict[str, float]:
        """Measures of a search in hops, and its time."""
        from dsi.search.hops import ranked_documents

        queries = self.queries()
        started = time.process_time()
        chains = index.hops(list(queries.values()), DEPTH, options, with_sentences=False)
        seconds = time.process_time() - started
        run = {
            query_id: ranked_documents(each, DEPTH)
            for query_id, each in zip(queries, chains, strict=True)
        }
        return {
            **self.measured(run),
            "processor milliseconds a query": 1000 * seconds / len(queries),
        }

    def bm25(self) -> dict[str, Any]:
        """BM25, one hop."""
        from dsi.evaluation.baselines import make_baseline

        return {
            name: self.measured(
                make_baseline(name, self.dataset(), "english").run(self.queries(), DEPTH, name)
            )
            for name in ("bm25", "bm25+queries")
        }

    def queries(self) -> dict[str, str]:
        """The test queries."""
        texts = self.dataset().query_texts()
        return {query_id: texts[query_id] for query_id in self.dataset().qrels_of("test")}

    def measured(self, run: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """All relevant documents in the first 2, 10 and 100; Hits of the first and the second."""
        judged = {one: list(docs) for one, docs in self.dataset().qrels_of("test").items()}

        def share(wanted: slice, depth: int) -> float:
            hits = [
                set(docs[wanted]) <= set(list(run[one])[:depth]) for one, docs in judged.items()
            ]
            return sum(hits) / len(hits)

        return {
            **{f"All@{depth}": share(slice(None), depth) for depth in (2, 10, 100)},
            "first Hits@1": share(slice(1), 1),
            "first Hits@10": share(slice(1), 10),
            "second Hits@10": share(slice(1, 2), 10),
        }

    def described(self, systems: dict[str, Any]) -> dict[str, Any]:
        """A row of the record."""
        info = self.dataset().info
        settings = {
            "documents": info.documents,
            "training queries": info.qrels["train"] // 2,
            "test queries": info.qrels["test"] // 2,
            "content hash": info.content_hash,
        }
        return {"settings": settings, "systems": systems}


def source(most: int | None) -> Any:
    """The documents, and chains of two."""
    from data_prep.dataset import InMemorySource, Qrel, Query

    documents = {document.doc_id: document for document in library()}
    documents = dict(list(documents.items())[:most])
    queries, qrels = [], []
    for number, (first, second, sentence) in enumerate(pairs(documents)):
        query_id, split = f"q{number}", "test" if number % 3 == 0 else "train"
        queries.append(Query(query_id, f"Documentation of what is named by: {sentence}"))
        qrels += [Qrel(query_id, doc_id, 1, split) for doc_id in (first, second)]
    return InMemorySource(documents.values(), queries, qrels, name="standard library")


def library() -> Iterator[Any]:
    """Yields a document for each public class, function and method with a docstring."""
    from data_prep.dataset import Document
    from data_prep.sources.docstrings import clean
    from data_prep.text_processing import words

    base = Path(sysconfig.get_path("stdlib"))
    for module in sorted(sys.stdlib_module_names):
        for file in [base / f"{module}.py", *sorted((base / module).rglob("*.py"))]:
            parts = file.relative_to(base).with_suffix("").parts
            public = [part for part in parts if part != "__init__"]
            if not file.is_file() or LEFT_OUT & {*parts} or any(p[0] == "_" for p in public):
                continue
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tree = ast.parse(file.read_bytes())
            except (SyntaxError, ValueError):
                continue
            for name, docstring in members(tree, ".".join(public)):
                text = clean(docstring)
                if len(words(text)) >= 6:
                    yield Document(name, name, text)


def members(node: Any, owner: str) -> Iterator[tuple[str, str]]:
    """Yields names and docstrings."""
    for inner in node.body:
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(inner, kinds) and not inner.name.startswith("_"):
            name = f"{owner}.{inner.name}"
            docstring = ast.get_docstring(inner)
            if docstring:
                yield name, docstring
            if isinstance(inner, ast.ClassDef):
                yield from members(inner, name)


def pairs(documents: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields two documents, of which the first names the second, and the first one's opening.

    The second is named in a later sentence, by a name that is its alone, and not in the first
    sentence or the first document's own name.
    """
    from data_prep.text_processing import sentences, words

    ends = Counter(map(_end, documents))
    alone = {_end(name): name for name in documents if ends[_end(name)] == 1}
    split = {name: sentences(document.text) for name, document in documents.items()}
    opening = Counter(found[0].lower() for found in split.values())
    for name, (first, *rest) in split.items():
        if opening[first.lower()] > 1 or not 4 <= len(words(first)) <= 25:
            continue
        for sentence in rest:
            named = _named(sentence, documents, alone)
            if named is not None and _apart(name, named, first):
                yield name, named, first
                break


def _named(sentence: str, documents: Mapping[str, Any], alone: Mapping[str, str]) -> str | None:
    """Returns the first document that a sentence names beyond doubt."""
    for found in NAME.finditer(sentence):
        word, end = found[0], _end(found[0])
        if "." in word and word in documents:
            return word
        code = "_" in end or re.search(r"[a-z][A-Z]", end) or sentence[found.end() :][:2] == "()"
        if end in alone and code:
            return alone[end]
    return None


def _apart(name: str, named: str, first: str) -> bool:
    """Returns whether neither holds the other, and the query does not name the answer."""
    end = _end(named).lower()
    inside = f"{name}.".startswith(f"{named}.") or f"{named}.".startswith(f"{name}.")
    return not inside and end not in first.lower() and end not in name.lower()


def _end(name: str) -> str:
    return name.rpartition(".")[2]


if __name__ == "__main__":
    main()

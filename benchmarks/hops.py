"""Do two hops find documents that only another document names?

    python benchmarks/hops.py --work DIR
    python benchmarks/hops.py --work DIR --corpora stdlib --seeds 0 --documents 600

The documents are the docstrings of Python's standard library, and those of PyTorch, so that every
machine can make them. Of a function whose docstring names another one, the query has the first
sentence: it says nothing of the other, whose docstring is the answer. Both are relevant, in this
order. A seed draws two of three answers for training, one of six for dev and one of six for test,
with all queries that they answer: no answer is in two splits. Options of a search are chosen on
dev, and everything in the tables is measured on test. The defaults of `dsi search` were chosen
before, on the standard library alone: PyTorch's docstrings have had no part in it.

Cells, in `results/hops.jsonl`; a grid that was stopped goes on where it stopped:

- CORPUS-bm25-seedN: BM25 over titles and texts, without and with the training queries of each
  document.
- CORPUS-CHAINS-seedN: one hop and two hops on an index trained with `--mix.chains CHAINS`; and the
  second hop alone, from the right document and its linking sentence, for queries of each split:
  what training on chains learns by heart, and what it learns for other queries.
- CORPUS-network-seedN: the same with `--mix.chains unordered` and 160 steps of the network, which
  takes none otherwise.
- CORPUS-chosen-seedN: two hops on the index of `none`, with the beams and sentences that are best
  on dev.
- CORPUS-strings-seedN: whether training reads the same texts as a search: how many examples of a
  second hop are, letter by letter, texts that the search reads after the right first document.
"""

from __future__ import annotations

import argparse
import ast
import functools
import itertools
import re
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from record import cell, show

CORPORA = ("stdlib", "torch")
CHAINS = ("none", "ordered", "unordered")
CELLS = ("bm25", "strings", "chains", "chosen", "network")
SENTENCES = (2, 4, 8, 16)
BEAMS = (1, 3, 5, 10)
SPLITS = ("train", "train", "train", "train", "dev", "test")
"""Splits of six answers, after they have been shuffled."""
LEFT_OUT = {"idlelib", "turtledemo", "lib2to3", "test", "tests", "testing", "this", "antigravity"}
NAME = re.compile(r"[A-Za-z_][\w.]*\w")
DEPTH = 100
QUERY_LENGTH = 64


def main() -> None:
    """Measures the cells that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where indexes are kept")
    parser.add_argument("--corpora", default=",".join(CORPORA))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--documents", type=int, default=None, help="take the first N only")
    parser.add_argument("--cells", default=",".join(CELLS))
    arguments = parser.parse_args()
    size = f"-{arguments.documents}" if arguments.documents else ""
    rows = []
    for seed, corpus in itertools.product(arguments.seeds.split(","), arguments.corpora.split(",")):
        folder = arguments.work / f"{corpus}{size}-{seed}"
        bench = Bench(folder, corpus, arguments.documents, int(seed))
        for name, made in _cells(bench, arguments.cells.split(",")).items():
            label = f"{corpus}{size}-{name}-seed{seed}"
            print(f"{time.strftime('%H:%M:%S')} {label}", file=sys.stderr, flush=True)
            found = cell("hops", label, functools.partial(bench.described, made))
            rows += [
                {"cell": label, "system": system, **figures}
                for system, figures in found.get("systems", {}).items()
            ]
    show(rows, list(rows[0]) if rows else ["cell"])


def _cells(bench: Bench, asked: list[str]) -> dict[str, Callable[[], dict[str, Any]]]:
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for name in asked:
        if name == "chains":
            found |= {each: functools.partial(bench.trained, each) for each in CHAINS}
        else:
            found[name] = getattr(bench, name)
    return found


class Bench:
    """A corpus, its dataset with the splits of a seed, and its indexes, made when needed.

    Args:
        folder: Where dataset and indexes are kept.
        corpus: A name in `CORPORA`.
        most: Take the first documents only; None for all.
        seed: Of the splits and of training.
    """

    def __init__(self, folder: Path, corpus: str, most: int | None, seed: int) -> None:
        self.folder = folder
        self.corpus = corpus
        self.most = most
        self.seed = seed

    @functools.cached_property
    def dataset(self) -> Any:
        """The dataset."""
        from data_prep.dataset import Dataset
        from data_prep.dataset_writer import write_dataset

        path = self.folder / "dataset"
        if not path.exists():
            write_dataset(path, source(self.corpus, self.most, self.seed))
        return Dataset.open(path)

    def index(self, chains: str, steps: int | None = None) -> Any:
        """An index, whose training continues where it stopped."""
        from dsi import Index, LoopOptions, MixOptions, TrainingOptions
        from dsi.indexing.build import train_index

        path = self.folder / (chains if steps is None else f"{chains}-{steps}")
        mix = MixOptions(chains=chains, query_length=QUERY_LENGTH)  # type: ignore[arg-type]
        train_index(
            self.dataset,
            path,
            TrainingOptions(mix=mix, loop=LoopOptions(steps=steps), seed=self.seed),
        )
        return Index.open(path)

    def network(self) -> dict[str, Any]:
        """The same on an index whose network is trained on chains, too."""
        return self.trained("unordered", 160)

    def trained(self, chains: str, steps: int | None = None) -> dict[str, Any]:
        """One hop and two hops, and the second hop alone."""
        from dsi import HopOptions

        index = self.index(chains, steps)
        hops = {"one hop": HopOptions(count=1), "two hops": HopOptions(count=2)}
        systems = {name: self.searched(index, options, "test") for name, options in hops.items()}
        second = {split: self.second_alone(index, split) for split in ("train", "dev", "test")}
        return {"systems": systems, "second hop alone, Hits@10": second}

    def chosen(self) -> dict[str, Any]:
        """Two hops with the options that find all documents of most dev queries; on test."""
        from dsi import HopOptions

        index = self.index("none")
        grid = [
            HopOptions(count=2, sentences=sentences, beams=beams)
            for sentences, beams in itertools.product(SENTENCES, BEAMS)
        ]
        on_dev = [self.searched(index, options, "dev")["All@10"] for options in grid]
        best = grid[int(np.argmax(on_dev))]
        return {
            "systems": {"two hops": self.searched(index, best, "test")},
            "chosen": {"sentences": best.sentences, "beams": best.beams},
            "on dev": [
                {"sentences": options.sentences, "beams": options.beams, "All@10": value}
                for options, value in zip(grid, on_dev, strict=True)
            ],
        }

    def searched(self, index: Any, options: Any, split: str) -> dict[str, float]:
        """Measures of a search in hops, and its time."""
        from dsi.search.hops import ranked_documents

        queries = self.queries(split)
        started = time.process_time()
        chains = index.hops(list(queries.values()), DEPTH, options, with_sentences=False)
        seconds = time.process_time() - started
        run = {
            query_id: ranked_documents(each, DEPTH)
            for query_id, each in zip(queries, chains, strict=True)
        }
        return {
            **self.measured(run, split),
            "processor milliseconds a query": 1000 * seconds / len(queries),
        }

    def second_alone(self, index: Any, split: str) -> float:
        """Hits@10 of the second document, given the first one and its linking sentence."""
        asked = list(self.conditional(split))
        found = index.search([text for text, _, _ in asked], k=11)
        hits = [
            second in [hit.doc_id for hit in hits if hit.doc_id != first][:10]
            for (_, first, second), hits in zip(asked, found, strict=True)
        ]
        return sum(hits) / len(hits)

    def conditional(self, split: str) -> Iterator[tuple[str, str, str]]:
        """Yields what training reads in the second hop, the first document and the second."""
        from data_prep.evidence import chain_examples

        documents = {each.doc_id: each for each in self.dataset.documents()}
        texts = self.dataset.query_texts()
        for query_id, judged in self.dataset.qrels_of(split).items():
            chain = [documents[doc_id] for doc_id in judged]
            _, (text, second) = chain_examples(texts[query_id], chain, "ordered", QUERY_LENGTH)
            yield text, chain[0].doc_id, second

    def strings(self) -> dict[str, Any]:
        """The share of texts of training among those that a search reads, with the defaults."""
        from data_prep.evidence import best_sentences, evidence_sentences, with_evidence
        from dsi import HopOptions

        documents = {each.doc_id: each for each in self.dataset.documents()}
        texts, shares = self.dataset.query_texts(), {}
        for split in ("train", "test"):
            asked = list(self.conditional(split))
            same = []
            for (text, first, _), query_id in zip(asked, self.dataset.qrels_of(split), strict=True):
                query = texts[query_id]
                sentences = evidence_sentences(documents[first], QUERY_LENGTH)
                tried = best_sentences(query, sentences, HopOptions().sentences)
                same.append(text in [with_evidence(query, [sentence]) for sentence in tried])
            shares[split] = sum(same) / len(same)
        return {"same text": shares}

    def bm25(self) -> dict[str, Any]:
        """BM25, one hop."""
        from dsi.evaluation.baselines import make_baseline

        queries = self.queries("test")
        return {
            "systems": {
                name: self.measured(
                    make_baseline(name, self.dataset, "english").run(queries, DEPTH, name), "test"
                )
                for name in ("bm25", "bm25+queries")
            }
        }

    def queries(self, split: str) -> dict[str, str]:
        """The queries of a split."""
        texts = self.dataset.query_texts()
        return {query_id: texts[query_id] for query_id in self.dataset.qrels_of(split)}

    def measured(self, run: Mapping[str, Mapping[str, float]], split: str) -> dict[str, float]:
        """All relevant documents in the first 2, 10 and 100; Hits of the first and the second."""
        judged = {one: list(docs) for one, docs in self.dataset.qrels_of(split).items()}

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

    def described(self, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A row of the record."""
        info = self.dataset.info
        settings = {
            "corpus": self.corpus,
            "documents": info.documents,
            **{f"{split} queries": info.qrels.get(split, 0) // 2 for split in set(SPLITS)},
            "content hash": info.content_hash,
            "seed": self.seed,
        }
        return {"settings": settings, **measure()}


def source(corpus: str, most: int | None, seed: int) -> Any:
    """The documents, and chains of two whose answers are in one split each."""
    from data_prep.dataset import InMemorySource, Qrel, Query

    documents = {document.doc_id: document for document in library(corpus)}
    documents = dict(list(documents.items())[:most])
    chains = list(pairs(documents))
    answers = sorted({second for _, second, _ in chains})
    np.random.default_rng([seed, 6]).shuffle(answers)
    split = {answer: SPLITS[number % len(SPLITS)] for number, answer in enumerate(answers)}
    queries, qrels = [], []
    for number, (first, second, sentence) in enumerate(chains):
        query_id = f"q{number}"
        queries.append(Query(query_id, f"Documentation of what is named by: {sentence}"))
        qrels += [Qrel(query_id, doc_id, 1, split[second]) for doc_id in (first, second)]
    return InMemorySource(documents.values(), queries, qrels, name=corpus)


def library(corpus: str) -> Iterator[Any]:
    """Yields a document for each public class, function and method with a docstring."""
    from data_prep.dataset import Document
    from data_prep.sources.docstrings import clean
    from data_prep.text_processing import words

    base = Path(sysconfig.get_path("stdlib" if corpus == "stdlib" else "purelib"))
    modules = sys.stdlib_module_names if corpus == "stdlib" else [corpus]
    for module in sorted(modules):
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

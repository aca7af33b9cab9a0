"""What do fixed-dimensional encodings of token vectors (MUVERA) keep of MaxSim, and do they help?

    python benchmarks/muvera.py --dataset squad-dev=PATH/TO/BEIR --encoder PATH/TO/minilm
    python benchmarks/muvera.py --dataset squad-dev=PATH --encoder PATH --documents 600

Cells, in `results/muvera.jsonl`; remove a line to measure its cell again:

- error: mean error of the product of encodings against exact Chamfer, a query token, by size.
- recall: of the documents that exact MaxSim puts first and in its first ten, the share among the N
  candidates with the largest products; beside the single-vector heuristic, which takes the
  documents of the tokens nearest to each query token, in turns, until there are N.
- rank: Hits@1 and @10 of the mean-pooled vectors, of exact MaxSim, and of the baseline `multi`.
- KIND-VECTORS: Hits of an index whose identifiers are made from mean-pooled vectors or encodings.
- encoder-VECTORS: Hits of an index that starts from either, before any training.
- scale-N: time and memory of encoding and searching N documents of random tokens.

With --documents, a sample of the corpus is used, and queries for it.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from effectiveness import _sample
from record import cell, show

SIZES = ((2, 8, 5), (3, 16, 5), (4, 16, 10), (4, 16, 20), (5, 16, 20))
"""Hyperplanes, projected dimensions, repetitions."""
CANDIDATES = (10, 20, 50, 100, 200)
KINDS = ("semantic", "rq", "pq")


def main() -> None:
    """Measures the cells that are missing and prints what each has found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--encoder", required=True, help="hub id or folder of an encoder")
    parser.add_argument("--documents", type=int, default=None)
    parser.add_argument("--queries", type=int, default=None)
    parser.add_argument("--scale", type=int, default=20_000, help="documents of the cell scale")
    parser.add_argument("--cells", default="error,recall,rank,scale,encoder,kinds")
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    asked = arguments.cells.split(",")
    settings = {
        "dataset": name,
        "encoder": Path(arguments.encoder).name,
        "documents": arguments.documents,
        "queries": arguments.queries,
    }
    with TemporaryDirectory() as folder:
        bench = Bench(source, Path(folder), arguments)
        cells = {
            "error": bench.error,
            "recall": bench.recall,
            "rank": bench.rank,
            "scale": lambda: scale(arguments.scale),
        }
        measured = {key: made for key, made in cells.items() if key in asked}
        for vectors in ("mean", "muvera"):
            if "encoder" in asked:
                measured[f"encoder-{vectors}"] = lambda v=vectors: bench.behind_encoder(v)
            for kind in KINDS if "kinds" in asked else ():
                measured[f"{kind}-{vectors}"] = lambda k=kind, v=vectors: bench.index(k, v)
        size = f"-{arguments.documents}" if arguments.documents else ""
        for key, made in measured.items():
            found = cell(
                "muvera",
                f"{name}{size}-{key}" if key != "scale" else f"scale-{arguments.scale}",
                lambda made=made, key=key: {
                    **({} if key == "scale" else {"settings": settings}),
                    **made(),
                },
            )
            print(key)
            for rows in found.values():
                if isinstance(rows, list):
                    show(rows, list(rows[0]))


class Bench:
    """A dataset and its token vectors, made when they are first needed."""

    def __init__(self, source: str, folder: Path, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.folder = folder
        self._source = source
        self._made: dict[str, Any] = {}

    def dataset(self) -> Any:
        """The dataset, sampled."""
        from data_prep.dataset import Dataset
        from dsi.commands.prepare import prepare

        path = self.folder / "dataset"
        if not path.exists():
            prepare(self._source, out=path)
            if self.arguments.documents is not None:
                _sample(path, self.arguments.documents)
        return Dataset.open(path)

    def queries(self) -> dict[str, str]:
        """Test queries by id."""
        dataset = self.dataset()
        texts = dataset.query_texts()
        ids = sorted(dataset.qrels_of("test"))[: self.arguments.queries]
        return {query_id: texts[query_id] for query_id in ids}

    def tokens(self) -> tuple[Any, Any]:
        """Token vectors of documents and queries."""
        from docids.token_vectors import TokenEncoder
        from dsi.evaluation.baselines.bm25 import document_texts

        if "tokens" not in self._made:
            encoder = TokenEncoder(self.arguments.encoder)
            texts = [text.strip() for text in document_texts(self.dataset())]
            queries = list(self.queries().values())
            self._made["tokens"] = (encoder.documents(texts), encoder.queries(queries))
        return self._made["tokens"]

    def exact(self) -> np.ndarray:
        """Chamfer similarities; float32 [queries, documents]."""
        from docids.muvera import chamfer

        if "exact" not in self._made:
            documents, queries = self.tokens()
            every = np.arange(len(documents))
            rows = [chamfer(queries[row], documents, every) for row in range(len(queries))]
            self._made["exact"] = np.array(rows)
        return self._made["exact"]

    def products(self) -> Iterator[tuple[dict[str, int], np.ndarray]]:
        """Sizes of encodings, and the products with each."""
        from docids.muvera import Muvera, MuveraOptions

        documents, queries = self.tokens()
        for bits, projection, repetitions in SIZES:
            options = MuveraOptions(
                bits=bits, projection=projection, repetitions=repetitions, final=0
            )
            muvera = Muvera.draw(documents.vectors.shape[1], options, 0)
            size = {
                "hyperplanes": bits,
                "projection": projection,
                "repetitions": repetitions,
                "dimensions": muvera.dimensions,
            }
            yield size, muvera.queries(queries) @ muvera.documents(documents).T

    def error(self) -> dict[str, Any]:
        """Errors against exact Chamfer, divided by the number of query tokens."""
        _, queries = self.tokens()
        lengths = np.diff(queries.offsets)[:, None]
        exact = self.exact() / lengths
        best = exact.argmax(axis=1)
        every = np.arange(len(exact))
        rows = []
        for size, products in self.products():
            off = products / lengths - exact
            rows.append(
                {
                    **size,
                    "mean error": float(np.abs(off).mean()),
                    "95th percentile": float(np.quantile(np.abs(off), 0.95)),
                    "mean error at the nearest": float(np.abs(off[every, best]).mean()),
                }
            )
        return {"errors": rows, "mean Chamfer": float(exact.mean())}

    def recall(self) -> dict[str, Any]:
        """Recall of exact neighbors among candidates."""
        exact = self.exact()
        order = np.argsort(-exact, axis=1, kind="stable")
        ranked = {
            f"{size['dimensions']} dimensions": np.argsort(-products, axis=1, kind="stable")
            for size, products in self.products()
        }
        ranked["single-vector heuristic"] = self.heuristic()
        rows = []
        for name, candidates in ranked.items():
            for count in CANDIDATES:
                first = [
                    len(np.intersect1d(line[:1], near[:count]))
                    for line, near in zip(order, candidates, strict=True)
                ]
                ten = [
                    len(np.intersect1d(line[:10], near[:count])) / 10
                    for line, near in zip(order, candidates, strict=True)
                ]
                rows.append(
                    {
                        "by": name,
                        "candidates": count,
                        "recall of the first": float(np.mean(first)),
                        "recall of the first ten": float(np.mean(ten)),
                    }
                )
        return {"recalls": rows}

    def heuristic(self) -> np.ndarray:
        """Documents of the nearest tokens of each query token, in turns; [queries, candidates]."""
        documents, queries = self.tokens()
        owners = np.repeat(np.arange(len(documents)), np.diff(documents.offsets))
        found = np.full((len(queries), max(CANDIDATES)), -1, np.int64)
        for row in range(len(queries)):
            similar = queries[row] @ documents.vectors.T
            near = np.argsort(-similar, axis=1, kind="stable")
            in_turns = owners[near].T.ravel()
            _, firsts = np.unique(in_turns, return_index=True)
            distinct = in_turns[np.sort(firsts)][: found.shape[1]]
            found[row, : len(distinct)] = distinct
        return found

    def rank(self) -> dict[str, Any]:
        """Hits of single vectors, exact MaxSim and the baseline."""
        from dsi.evaluation.baselines import make_baseline

        encoder, dataset, queries = self.arguments.encoder, self.dataset(), self.queries()
        exact = self.exact()
        rows = [{"system": "exact MaxSim", **self._hits(self._run(exact, dataset.doc_ids))}]
        for name in ("dense", "multi"):
            started = time.perf_counter()
            baseline = make_baseline(f"{name}:{encoder}", dataset)
            made = time.perf_counter() - started
            started = time.perf_counter()
            run = baseline.run(queries)
            seconds = time.perf_counter() - started
            rows.append(
                {
                    "system": name,
                    **self._hits(run),
                    "seconds to encode the corpus": made,
                    "milliseconds a query": 1000 * seconds / len(queries),
                }
            )
        return {"ranks": rows}

    def _run(self, scores: np.ndarray, doc_ids: list[str]) -> dict[str, dict[str, float]]:
        order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        return {
            query_id: {doc_ids[int(place)]: float(line[place]) for place in places}
            for query_id, line, places in zip(self.queries(), scores, order, strict=True)
        }

    def _hits(self, run: dict[str, dict[str, float]]) -> dict[str, float]:
        judged = self.dataset().qrels_of("test")
        found = {}
        for depth in (1, 10):
            hits = [
                any(judged[query_id].get(doc_id, 0) > 0 for doc_id in list(run[query_id])[:depth])
                for query_id in run
            ]
            found[f"Hits@{depth}"] = float(np.mean(hits))
        return found

    def index(self, kind: str, vectors: str) -> dict[str, Any]:
        """Hits of an index with identifiers from mean-pooled vectors or encodings."""
        from docids.embeddings import EmbeddingOptions
        from dsi.indexing.options import TrainingOptions

        prefix = "muvera:" if vectors == "muvera" else ""
        embedding = EmbeddingOptions(model=f"{prefix}{self.arguments.encoder}")
        return self._trained(TrainingOptions(docids=kind, embedding=embedding))

    def behind_encoder(self, vectors: str) -> dict[str, Any]:
        """Hits of an untrained index behind an encoder, without a lexical layer."""
        from dsi.indexing.options import TrainingOptions
        from dsi.lexical.options import LexicalOptions
        from dsi.training.options import LoopOptions, ModelOptions

        prefix = "muvera:" if vectors == "muvera" else ""
        return self._trained(
            TrainingOptions(
                model=ModelOptions(encoder=f"{prefix}{self.arguments.encoder}"),
                lexical=LexicalOptions(enabled=False),
                generator="none",
                loop=replace(LoopOptions(), steps=0),
            )
        )

    def _trained(self, options: Any) -> dict[str, Any]:
        from dsi import Index
        from dsi.indexing.build import train_index

        with TemporaryDirectory() as folder:
            started = time.perf_counter()
            manifest = train_index(self.dataset(), Path(folder) / "index", options)
            minutes = (time.perf_counter() - started) / 60
            index = Index.open(Path(folder) / "index")
            queries = self.queries()
            found = index.search(list(queries.values()), k=10)
            run = {
                query_id: {hit.doc_id: hit.score for hit in hits}
                for query_id, hits in zip(queries, found, strict=True)
            }
            row = {**self._hits(run), "training minutes": minutes}
            return {"hits": [row], "identifiers": manifest.metrics.get("identifiers", {})}


def scale(documents: int, length: int = 100, width: int = 384) -> dict[str, Any]:
    """Encoding and searching random documents; token vectors are made as they are encoded."""
    from docids.muvera import Muvera, MuveraOptions, TokenVectors

    rows = []
    for final in (0, 1024):
        muvera = Muvera.draw(width, MuveraOptions(final=final), 0)
        encoded = np.zeros((documents, muvera.dimensions), np.float32)
        rng = np.random.default_rng(0)
        seconds = 0.0
        for start in range(0, documents, 500):
            count = min(500, documents - start)
            drawn = rng.standard_normal((count, length, width), np.float32)
            drawn /= np.linalg.norm(drawn, axis=2, keepdims=True)
            tokens = TokenVectors.of(list(drawn), width)
            started = time.process_time()
            encoded[start : start + count] = muvera.documents(tokens)
            seconds += time.process_time() - started
        query = muvera.queries(TokenVectors.of([drawn[0, :16]], width))[0]
        searching = []
        for _ in range(5):
            started = time.process_time()
            np.argpartition(encoded @ query, -min(200, documents))
            searching.append(1000 * (time.process_time() - started))
        rows.append(
            {
                "dimensions": muvera.dimensions,
                "processor seconds to encode": seconds,
                "processor milliseconds to search": float(np.median(searching)),
                "GiB of encodings": encoded.nbytes / 2**30,
                "GiB of token vectors, float16": documents * length * width * 2 / 2**30,
                "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
        del encoded
    return {"settings": {"documents": documents, "tokens": length, "width": width}, "sizes": rows}


if __name__ == "__main__":
    main()

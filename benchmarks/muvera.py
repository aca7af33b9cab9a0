"""What do fixed-dimensional encodings of token vectors (MUVERA) keep of MaxSim, and do they help?

    python benchmarks/muvera.py --dataset squad-dev=PATH/TO/BEIR --encoder PATH/TO/minilm --work DIR
    python benchmarks/muvera.py --dataset debian-20k=PATH --encoder PATH --work DIR --cells scale

The first takes about 20 minutes on two cores. Token vectors, document vectors and indexes are kept
in --work, and results in `results/muvera.jsonl`: a run that was stopped continues where it stopped.
Remove a line to measure its cell again. Cells:

- error: mean error of the product of encodings against exact Chamfer, a query token, by size.
- recall: of the documents that exact MaxSim puts first and in its first ten, the share among the N
  candidates with the largest products; beside the single-vector heuristic, which takes the
  documents of the tokens nearest to each query token, in turns, until there are N.
- rank: Hits@1 and @10 of mean-pooled vectors, of exact MaxSim, of the products of encodings, and of
  exact MaxSim among the 200 best of them, as the baseline `multi` ranks.
- encoder-VECTORS: Hits of an index that starts from either, before any training.
- KIND-VECTORS: Hits of an index whose identifiers are made from mean-pooled vectors or encodings.
  The mean-pooled encoder reads the query, nothing is trained, and there is no lexical layer, which
  would rank documents by itself: only identifiers differ. Codebooks of rq have 64 codes, balanced,
  because a default one collapses on encodings.
- scale: time and memory of every document of the dataset.

With --documents, a sample of the corpus is used, and queries for it.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from effectiveness import _sample
from record import cell, show

from data_prep.files import replacing_file
from data_prep.progress import track

SIZES = ((2, 8, 5), (3, 16, 5), (4, 16, 10), (4, 16, 20), (5, 16, 20))
"""Hyperplanes, projected dimensions, repetitions."""
CANDIDATES = (10, 20, 50, 100, 200)
VECTORS = ("mean", "muvera")
KINDS = ("semantic", "rq", "pq")
CELLS = ("error", "recall", "rank", "encoder", "kinds")
TOGETHER = 250
"""Texts whose token vectors are in a file of the cache."""
NEAREST = 1024
"""Tokens nearest to a query token that the heuristic sorts at first."""
PRODUCTS = 1 << 26
"""Products of tokens that are in memory at a time."""
BLOCK = 1 << 14
"""Tokens that are in float32 at a time."""
RESCORED = 200
"""Candidates that exact MaxSim ranks, as in the baseline `multi`."""
TIMED = 50
"""Queries whose search is timed."""


def main() -> None:
    """Measures the cells that are missing and prints what each has found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=SOURCE")
    parser.add_argument("--encoder", required=True, help="hub id or folder of an encoder")
    parser.add_argument("--work", type=Path, required=True, help="where vectors are kept")
    parser.add_argument("--documents", type=int, default=None)
    parser.add_argument("--queries", type=int, default=1000, help="the first N test queries")
    parser.add_argument("--cells", default=",".join(CELLS))
    arguments = parser.parse_args()
    name = arguments.dataset.partition("=")[0]
    size = f"-{arguments.documents}" if arguments.documents else ""
    bench = Bench(arguments, arguments.work / f"{name}{size}")
    for key, measure in _cells(bench, arguments.cells.split(",")).items():
        started = time.perf_counter()
        print(f"{key} ...", file=sys.stderr, flush=True)
        found = cell("muvera", f"{name}{size}-{key}", functools.partial(bench.described, measure))
        print(f"{key}: {time.perf_counter() - started:.0f} s", flush=True)
        for rows in found.values():
            if isinstance(rows, list):
                show(rows, list({column: None for row in rows for column in row}))


def _cells(bench: Bench, asked: list[str]) -> dict[str, Callable[[], dict[str, Any]]]:
    """Returns what measures each of the cells that are asked for, in the order they are asked."""
    found: dict[str, Callable[[], dict[str, Any]]] = {}
    for name in asked:
        if name == "encoder":
            for vectors in VECTORS:
                found[f"encoder-{vectors}"] = functools.partial(bench.behind_encoder, vectors)
        elif name == "kinds":
            for kind in KINDS:
                for vectors in VECTORS:
                    found[f"{kind}-{vectors}"] = functools.partial(bench.index, kind, vectors)
        else:
            found[name] = getattr(bench, name)
    return found


class Bench:
    """A dataset and its vectors, made when they are first needed.

    Args:
        arguments: Of the command line.
        folder: Where vectors and indexes are kept.
    """

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder

    def described(self, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Returns what a cell has found, with its settings."""
        settings = {
            "dataset": self.arguments.dataset.partition("=")[0],
            "encoder": Path(self.arguments.encoder).name,
            "documents": len(self.dataset.doc_ids),
            "queries": len(self.queries),
        }
        found = measure()
        return {**found, "settings": {**settings, **found.get("settings", {})}}

    @functools.cached_property
    def dataset(self) -> Any:
        """The dataset, sampled."""
        from data_prep.dataset import Dataset
        from dsi.commands.prepare import prepare

        path = self.folder / "dataset"
        if not path.exists():
            prepare(self.arguments.dataset.partition("=")[2], out=path)
            if self.arguments.documents is not None:
                _sample(path, self.arguments.documents)
        return Dataset.open(path)

    @functools.cached_property
    def queries(self) -> dict[str, str]:
        """Test queries by id."""
        texts = self.dataset.query_texts()
        ids = sorted(self.dataset.qrels_of("test"))[: self.arguments.queries]
        return {query_id: texts[query_id] for query_id in ids}

    @functools.cached_property
    def texts(self) -> list[str]:
        """Title and text of each document."""
        from dsi.evaluation.baselines.bm25 import document_texts

        return [text.strip() for text in document_texts(self.dataset)]

    @functools.cached_property
    def read(self) -> tuple[Any, float]:
        """Token vectors of documents, float16, and the processor seconds that they have taken."""
        return self._tokens("documents", self.texts)

    @property
    def documents(self) -> Any:
        """Token vectors of documents, float16."""
        return self.read[0]

    @functools.cached_property
    def asked(self) -> Any:
        """Token vectors of queries, float16."""
        return self._tokens("queries", list(self.queries.values()))[0]

    @functools.cached_property
    def token_encoder(self) -> Any:
        """The encoder."""
        from docids.token_vectors import TokenEncoder

        return TokenEncoder(self.arguments.encoder)

    def _tokens(self, what: str, texts: list[str]) -> tuple[Any, float]:
        """Returns token vectors from the cache, and the processor seconds that they have taken."""
        from docids.muvera import TokenVectors

        vectors, lengths, seconds = [], [], 0.0
        for start in track(range(0, len(texts), TOGETHER), f"Token vectors of {what}"):
            part = texts[start : start + TOGETHER]
            file = self.folder / "tokens" / f"{what}-{start}-{len(part)}.npz"
            if not file.exists():
                encode = getattr(self.token_encoder, what)
                started = time.process_time()
                made = encode(part, np.float16)
                taken = time.process_time() - started
                file.parent.mkdir(parents=True, exist_ok=True)
                with replacing_file(file) as fresh, fresh.open("wb") as opened:
                    np.savez(opened, vectors=made.vectors, offsets=made.offsets, seconds=taken)
            with np.load(file) as stored:
                vectors.append(stored["vectors"])
                lengths.append(np.diff(stored["offsets"]))
                seconds += float(stored["seconds"])
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        return TokenVectors(np.concatenate(vectors), offsets), seconds

    @functools.cached_property
    def exact(self) -> np.ndarray:
        """Chamfer similarities; float32 [queries, documents]."""
        from docids.muvera import chamfer_matrix

        return self._kept(
            f"exact-{len(self.queries)}",
            lambda: chamfer_matrix(self.asked, self.documents, "Exact Chamfer"),
        )

    @functools.cached_property
    def means(self) -> np.ndarray:
        """Mean-pooled vectors of documents; float32 [documents, width]."""
        from docids.embeddings import SentenceEmbedder

        return self._kept(
            "means", lambda: SentenceEmbedder(self.arguments.encoder).encode(self.texts)
        )

    def _kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns an array from the cache."""
        file = self.folder / f"{name}.npy"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            made = make()
            with replacing_file(file) as fresh, fresh.open("wb") as opened:
                np.save(opened, made)
        return np.load(file)

    def muvera(self, **size: int) -> Any:
        """Random directions; of the default size if none is given."""
        from docids.muvera import Muvera, MuveraOptions

        return Muvera.draw(self.documents.vectors.shape[1], MuveraOptions(**size), 0)

    def products(self) -> Iterator[tuple[dict[str, int], np.ndarray]]:
        """Sizes of encodings, and the products with each."""
        for bits, projection, repetitions in track(SIZES, "Sizes of encodings"):
            muvera = self.muvera(bits=bits, projection=projection, repetitions=repetitions, final=0)
            size = {
                "hyperplanes": bits,
                "projection": projection,
                "repetitions": repetitions,
                "dimensions": muvera.dimensions,
            }
            yield size, muvera.queries(self.asked) @ self.encoded(muvera).T

    def encoded(self, muvera: Any) -> np.ndarray:
        """Encodings of documents; float32 [documents, dimensions]."""
        from docids.muvera import TokenVectors

        encoded = np.zeros((len(self.documents), muvera.dimensions), np.float32)
        for start in range(0, len(encoded), TOGETHER):
            first, *_ = bounds = self.documents.offsets[start : start + TOGETHER + 1]
            vectors = self.documents.vectors[first : bounds[-1]]
            encoded[start : start + TOGETHER] = muvera.documents(
                TokenVectors(vectors, bounds - first)
            )
        return encoded

    def error(self) -> dict[str, Any]:
        """Errors against exact Chamfer, divided by the number of query tokens."""
        lengths = np.diff(self.asked.offsets)[:, None]
        exact = self.exact / lengths
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
                    "correlation": float(
                        np.mean(
                            [
                                np.corrcoef(one, other)[0, 1]
                                for one, other in zip(products, exact, strict=True)
                            ]
                        )
                    ),
                }
            )
        nearest = float(exact[every, best].mean())
        return {
            "errors": rows,
            "mean Chamfer": float(exact.mean()),
            "mean Chamfer of the nearest": nearest,
        }

    def recall(self) -> dict[str, Any]:
        """Recall of exact neighbors among candidates."""
        near = {
            f"{size['dimensions']} dimensions": _order(products, max(CANDIDATES))
            for size, products in self.products()
        }
        near["single-vector heuristic"] = self.heuristic()
        wanted = _order(self.exact, 10)
        rows = []
        for name, candidates in near.items():
            for count in CANDIDATES:
                # [queries, 10]: whether each exact neighbor is among the candidates
                found = (wanted[:, :, None] == candidates[:, None, :count]).any(axis=2)
                rows.append(
                    {
                        "by": name,
                        "candidates": count,
                        "recall of the first": float(found[:, 0].mean()),
                        "recall of the first ten": float(found.mean()),
                    }
                )
        return {"recalls": rows}

    def heuristic(self) -> np.ndarray:
        """Documents of the nearest tokens of each query token, in turns; [queries, candidates]."""
        import torch

        documents = self.documents
        owners = np.repeat(np.arange(len(documents)), np.diff(documents.offsets))
        wanted = min(max(CANDIDATES), len(documents))
        found = np.full((len(self.asked), max(CANDIDATES)), -1, np.int64)
        together = max(1, PRODUCTS // len(owners) // 16)
        for start in track(range(0, len(found), together), "Single-vector heuristic"):
            rows = range(start, min(start + together, len(found)))
            offsets = self.asked.offsets[start : rows.stop + 1]
            similar = _similarities(self.asked.vectors[offsets[0] : offsets[-1]], documents.vectors)
            for row, first, end in zip(
                rows, offsets[:-1] - offsets[0], offsets[1:] - offsets[0], strict=True
            ):
                near, distinct = min(NEAREST, len(owners)), np.zeros(0, np.int64)
                while len(distinct) < wanted:
                    places = torch.from_numpy(similar[first:end]).topk(near, dim=1).indices
                    in_turns = owners[places.numpy()].T.ravel()
                    _, firsts = np.unique(in_turns, return_index=True)
                    distinct = in_turns[np.sort(firsts)][:wanted]
                    near = min(4 * near, len(owners))
                found[row, : len(distinct)] = distinct
        return found

    def rank(self) -> dict[str, Any]:
        """Hits of single vectors, of exact MaxSim, and of encodings without and with it."""
        from docids.sentence_encoder import SentenceEncoder

        queries = SentenceEncoder(self.arguments.encoder).encode_queries(
            list(self.queries.values())
        )
        rows = {"mean pooling": queries @ self.means.T, "exact MaxSim": self.exact}
        for final in (0, 1024):
            muvera = self.muvera(final=final)
            products = muvera.queries(self.asked) @ self.encoded(muvera).T
            label = f"encodings of {muvera.dimensions:,} dimensions"
            near = _order(products, RESCORED)
            rescored = np.full_like(products, -np.inf)
            exact = np.take_along_axis(self.exact, near, axis=1)
            np.put_along_axis(rescored, near, exact, axis=1)
            rows |= {label: products, f"{label}, then exact MaxSim": rescored}
        return {
            "ranks": [
                {"system": name, **self._hits(self._run(scores))} for name, scores in rows.items()
            ]
        }

    def _run(self, scores: np.ndarray) -> dict[str, list[str]]:
        """Returns the first ten documents of each query."""
        doc_ids = list(self.dataset.doc_ids)
        return {
            query_id: [doc_ids[place] for place in line]
            for query_id, line in zip(self.queries, _order(scores, 10).tolist(), strict=True)
        }

    def _hits(self, run: dict[str, list[str]]) -> dict[str, float]:
        judged = self.dataset.qrels_of("test")
        return {
            f"Hits@{depth}": float(
                np.mean(
                    [
                        any(judged[query_id].get(doc_id, 0) > 0 for doc_id in ranked[:depth])
                        for query_id, ranked in run.items()
                    ]
                )
            )
            for depth in (1, 10)
        }

    def index(self, kind: str, vectors: str) -> dict[str, Any]:
        """Hits of an index with identifiers from mean-pooled vectors or encodings."""
        from dsi.indexing.options import TrainingOptions
        from dsi.lexical.options import LexicalOptions
        from dsi.training.options import LoopOptions, ModelOptions

        docids = self.folder / f"docids-{kind}-{vectors}"
        if not docids.exists():
            self._assign(kind, vectors, docids)
        options = TrainingOptions(
            docids=kind,
            model=ModelOptions(encoder=self.arguments.encoder),
            lexical=LexicalOptions(enabled=False),
            generator="none",
            loop=replace(LoopOptions(), steps=0),
        )
        return self._trained(f"{kind}-{vectors}", options, docids)

    def _assign(self, kind: str, vectors: str, out: Path) -> None:
        """Makes identifiers from vectors that are kept, as `dsi docids` does."""
        from docids.assignment import Assignment
        from docids.embeddings import EmbeddingOptions, MuveraEmbedder, SentenceEmbedder
        from docids.kinds import KINDS, Documents
        from docids.kinds.rq import ResidualOptions
        from docids.quality import measure

        name = self.arguments.encoder
        if vectors == "muvera":
            encoding = self.muvera()
            made = self.encoded(encoding)
            made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
            embedding = EmbeddingOptions(model=f"muvera:{name}")
            embedder: Any = MuveraEmbedder(name, encoding)
        else:
            made, embedding, embedder = self.means, EmbeddingOptions(model=name), None
            embedder = SentenceEmbedder(name)
        corpus = Documents.of(list(self.dataset.documents()), lambda _: made)
        options = ResidualOptions(codebook=64, balance=True) if kind == "rq" else None
        built = KINDS[kind].build(corpus, options or KINDS[kind].Options(), 0)
        quality = measure(built.table, lambda: self.means, seed=0, codebooks=built.codebooks)
        origin = {
            "dataset": self.dataset.info.name,
            "content_hash": self.dataset.info.content_hash,
        }
        found = Assignment(built, embedder, embedding, 0, origin, quality.to_dict())
        found.save(out, quality)

    def behind_encoder(self, vectors: str) -> dict[str, Any]:
        """Hits of an untrained index behind an encoder, without a lexical layer."""
        from dsi.indexing.options import TrainingOptions
        from dsi.lexical.options import LexicalOptions
        from dsi.training.options import LoopOptions, ModelOptions

        prefix = "muvera:" if vectors == "muvera" else ""
        options = TrainingOptions(
            model=ModelOptions(encoder=f"{prefix}{self.arguments.encoder}"),
            lexical=LexicalOptions(enabled=False),
            generator="none",
            loop=replace(LoopOptions(), steps=0),
        )
        return self._trained(f"encoder-{vectors}", options)

    def _trained(self, name: str, options: Any, docids: Path | None = None) -> dict[str, Any]:
        """Hits of an index, which continues where its training stopped."""
        from dsi import Index
        from dsi.indexing.build import train_index

        out = self.folder / f"index-{name}"
        started = time.process_time()
        manifest = train_index(self.dataset, out, options, docids)
        minutes = (time.process_time() - started) / 60
        found = Index.open(out).search(list(self.queries.values()), k=10)
        run = {
            query_id: [hit.doc_id for hit in hits]
            for query_id, hits in zip(self.queries, found, strict=True)
        }
        row = {**self._hits(run), "processor minutes of this run": minutes}
        return {"hits": [row], "identifiers": manifest.metrics.get("identifiers", {})}

    def scale(self) -> dict[str, Any]:
        """Time and memory: of vectors, of encodings, and of searches in them."""
        from docids.muvera import MuveraOptions, TokenVectors, chamfer, chamfer_matrix

        documents, encoding = self.read
        queries = [self.asked[row] for row in range(min(TIMED, len(self.asked)))]
        shape = (len(documents), documents.vectors.shape[1])
        pooled = np.random.default_rng(0).standard_normal(shape, np.float32)
        rows = [
            {
                "vectors": "mean pooling",
                "dimensions": shape[1],
                "processor seconds to make": encoding,
                "GiB": pooled.nbytes / 2**30,
                "processor milliseconds a query": _timed(
                    [pooled[:1]] * TIMED, lambda query: _order(query @ pooled.T, RESCORED)
                ),
            },
            {
                "vectors": "tokens",
                "dimensions": shape[1],
                "processor seconds to make": encoding,
                "GiB": documents.vectors.nbytes / 2**30,
                "processor milliseconds a query": _timed(
                    queries[:3],
                    lambda query: chamfer_matrix(TokenVectors.of([query], shape[1]), documents),
                ),
            },
        ]
        for final in (0, MuveraOptions().final):
            muvera = self.muvera(final=final)
            started = time.process_time()
            encoded = self.encoded(muvera)
            seconds = time.process_time() - started
            asked = muvera.queries(self.asked)[: len(queries), None]
            found = [_order(query @ encoded.T, RESCORED)[0] for query in asked]
            rows.append(
                {
                    "vectors": "encodings",
                    "dimensions": muvera.dimensions,
                    "processor seconds to make": seconds,
                    "GiB": encoded.nbytes / 2**30,
                    "processor milliseconds a query": _timed(
                        asked, lambda query, e=encoded: _order(query @ e.T, RESCORED)
                    ),
                    "processor milliseconds to rank the candidates": _timed(
                        list(zip(queries, found, strict=True)),
                        lambda pair: chamfer(pair[0], documents, pair[1]),
                    ),
                }
            )
            del encoded
        return {"scales": rows, "tokens a document": len(documents.vectors) / len(documents)}


def _timed(items: Any, call: Callable[[Any], Any]) -> float:
    """The median processor milliseconds of a call."""
    taken = []
    for item in items:
        started = time.process_time()
        call(item)
        taken.append(1000 * (time.process_time() - started))
    return float(np.median(taken))


def _order(scores: np.ndarray, count: int) -> np.ndarray:
    """Columns of the largest scores of each row, largest first; int64 [rows, count]."""
    count = min(count, scores.shape[1])
    top = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    top.sort(axis=1)  # ties in the order of the columns
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)


def _similarities(query: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Products of some tokens and all of them, in float32; float32 [tokens, all tokens]."""
    asked = query.astype(np.float32)
    similar = np.empty((len(asked), len(vectors)), np.float32)
    for start in range(0, len(vectors), BLOCK):
        part = slice(start, start + BLOCK)
        similar[:, part] = asked @ vectors[part].astype(np.float32).T
    return similar


if __name__ == "__main__":
    main()

"""How many requests a second does `dsi serve` answer, and is every answer right while it changes?

    python benchmarks/serve.py --dataset debian-20k=DATASET_OR_SOURCE

First, for 1, 8 and 64 clients on the loopback interface, each of which asks its next question when
it has the answer to the last: requests a second, and the 50th and 99th percentile of the time that
a request takes. Beside the index stand bm25s (Lucene's variant, English stems and stop words) and
exact search over LSA vectors (128 dimensions), each behind the same server. The systems are asked
by turns, in `--rounds` rounds; a figure is the median over the rounds.

Then `--requests` requests by 8 clients while three updates, a deletion and a rollback are made by
the commands of their names. Every answer names its version; afterwards each is compared with what
that version, opened by itself, answers.

Results are kept in `results/serve.jsonl`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from record import cell, show

from data_prep.dataset import Dataset, Document

K = 10
CLIENTS = (1, 8, 64)
SYSTEMS = ("index", "bm25s", "lsa")
TOLERANCE = 1e-3
"""By how much scores of one query may differ, computed in one batch and in another."""


def main() -> None:
    """Measures the cells that are missing and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, metavar="NAME=DATASET_OR_SOURCE")
    parser.add_argument("--index", type=Path, help="an index of it, if there is one already")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--of_a_round", type=int, default=400, help="requests of a round")
    parser.add_argument("--requests", type=int, default=10_000, help="while versions change")
    parser.add_argument(
        "--parts", nargs="+", choices=("speed", "changing"), default=["speed", "changing"]
    )
    parser.add_argument("--serve", choices=SYSTEMS[1:], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    name, source = arguments.dataset.split("=", 1)
    if arguments.serve:
        _serve(arguments.serve, Dataset.open(source))
        return
    with TemporaryDirectory() as folder:
        prepared = _Prepared(source, arguments.index, Path(folder))
        if "speed" in arguments.parts:
            found = cell("serve", f"{name}-speed", lambda: _speed(prepared, arguments))
            rows = [
                {"clients": int(clients), "system": system, **figures}
                for clients, systems in found["clients"].items()
                for system, figures in systems.items()
            ]
            show(rows, ["clients", "system", "requests a second", "p50 ms", "p99 ms"])
        if "changing" in arguments.parts:
            changing = f"{name}-changing-{arguments.requests}"
            found = cell("serve", changing, lambda: _changing(prepared, arguments))
            show([found], ["requests", "errors", "wrong answers", "p50 ms", "p99 ms"])


class _Prepared:
    """A dataset and its index, made when they are first asked for."""

    def __init__(self, source: str, index: Path | None, folder: Path) -> None:
        self._source = source
        self._index = index
        self.folder = folder
        self._dataset: Dataset | None = None

    @property
    def dataset(self) -> Dataset:
        if self._dataset is None:
            path = Path(self._source)
            if not (path / "dataset.json").is_file():
                path = self.folder / "dataset"
                _dsi("prepare", self._source, "--out", str(path))
            self._dataset = Dataset.open(path)
        return self._dataset

    @property
    def index(self) -> Path:
        if self._index is None:
            self._index = self.folder / "index"
            _dsi("train", str(self.dataset.path), "--out", str(self._index))
        return self._index

    @property
    def queries(self) -> list[str]:
        asked = self.dataset.qrels_of("test")
        return [text for each, text in self.dataset.query_texts().items() if each in asked]


def _dsi(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "dsi", *words, "--quiet"], check=True)


def _speed(prepared: _Prepared, arguments: argparse.Namespace) -> dict[str, Any]:
    queries = itertools.cycle(prepared.queries)
    found: dict[str, Any] = {}
    with (
        _server(["-m", "dsi", "serve", str(prepared.index)]) as index,
        _own(prepared, "bm25s") as bm25s,
        _own(prepared, "lsa") as lsa,
    ):
        ports = dict(zip(SYSTEMS, (index, bm25s, lsa), strict=True))
        for clients in CLIENTS:
            rounds: dict[str, list[tuple[float, float, float]]] = {each: [] for each in SYSTEMS}
            for number in range(arguments.rounds + 1):
                for system, port in ports.items():
                    count = arguments.of_a_round if number else clients
                    asked = [next(queries) for _ in range(count)]
                    began = time.perf_counter()
                    answers = asyncio.run(_all(port, clients, asked))
                    seconds = time.perf_counter() - began
                    if any(answer.status != 200 for answer in answers):
                        raise SystemExit(f"{system}: a request failed")
                    if number:  # the first round warms up
                        rounds[system].append((count / seconds, *_percentiles(answers)))
            found[str(clients)] = {
                system: dict(
                    zip(
                        ("requests a second", "p50 ms", "p99 ms"),
                        map(statistics.median, zip(*figures, strict=True)),
                        strict=True,
                    )
                )
                for system, figures in rounds.items()
            }
    settings = {
        "k": K,
        "rounds": arguments.rounds,
        "requests of a round": arguments.of_a_round,
        "cores": os.cpu_count(),
        "load before": os.getloadavg()[0],
    }
    return {"settings": settings, "clients": found}


def _changing(prepared: _Prepared, arguments: argparse.Namespace) -> dict[str, Any]:
    """Asks while versions change, and compares every answer with its version's own."""
    index = prepared.folder / "changing"
    shutil.copytree(prepared.index, index)
    queries = prepared.queries[:200]
    with _server(["-m", "dsi", "serve", str(index)]) as port:
        answers = asyncio.run(_while_changing(port, index, prepared, queries, arguments.requests))
    errors = [answer for answer in answers if answer.status != 200]
    good = [answer for answer in answers if answer.status == 200]
    wrong = _wrong(index, good, queries)
    p50, p99 = _percentiles(answers)
    return {
        "settings": {"clients": 8, "k": K, "queries": len(queries)},
        "requests": len(answers),
        "errors": len(errors),
        "wrong answers": wrong,
        "answers by version": dict(sorted(Counter(each.version for each in good).items())),
        "p50 ms": p50,
        "p99 ms": p99,
    }


async def _while_changing(
    port: int, index: Path, prepared: _Prepared, queries: Sequence[str], least: int
) -> list[_Answer]:
    """Asks `least` requests at least, and until all changes are made and taken over."""
    done = asyncio.Event()
    documents = prepared.dataset.documents()

    async def change() -> None:
        try:
            for step in range(3):
                batch = itertools.islice(documents, 50)
                new = prepared.folder / f"new{step}.jsonl"
                new.write_text("".join(_renamed(document, step) for document in batch))
                await _command("update", str(index), str(new))
                if step == 1:
                    await _command("delete", str(index), prepared.dataset.doc_ids[0])
            await _command("rollback", str(index), "--to", "0003")
            await asyncio.sleep(10)  # the last change is taken over and answered from, too
        finally:
            done.set()

    changing = asyncio.create_task(change())
    answers = await _ask(
        port, 8, itertools.cycle(queries), lambda count: count < least or not done.is_set()
    )
    await changing
    return answers


def _renamed(document: Document, step: int) -> str:
    title, text = f"{document.title} again", f"{document.text} revision {step}"
    return json.dumps({"id": f"{document.doc_id}-{step}", "title": title, "text": text}) + "\n"


async def _command(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dsi", *words, "--quiet", stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise SystemExit(f"dsi {' '.join(words)} failed")


def _wrong(index: Path, answers: Sequence[_Answer], queries: Sequence[str]) -> int:
    """Counts the answers that their version would not have given."""
    from dsi.index import Index

    wrong = 0
    for version in sorted({answer.version for answer in answers}):
        opened = Index.open(index, "cpu", version=version)
        right = dict(zip(queries, opened.search(queries, k=2 * K), strict=True))
        for answer in answers:
            if answer.version == version:
                expected = {hit.doc_id: hit.score for hit in right[answer.query]}
                last = right[answer.query][K - 1].score
                wrong += not _is_right(answer.hits, expected, last)
    return wrong


def _is_right(hits: list[tuple[str, float]], expected: dict[str, float], last: float) -> bool:
    """Tells whether these are the best documents; those of equal score may change places."""
    near = all(abs(expected.get(each, np.inf) - score) <= TOLERANCE for each, score in hits)
    falling = all(one[1] >= other[1] for one, other in itertools.pairwise(hits))
    whole = len({each for each, _ in hits}) == K
    return near and falling and whole and hits[-1][1] >= last - TOLERANCE


class _Answer:
    """What came back for a query, and after how many seconds."""

    def __init__(self, query: str, status: int, body: bytes, seconds: float) -> None:
        self.query, self.status, self.seconds = query, status, seconds
        self.version, self.hits = "", []
        if status == 200:
            content = json.loads(body)
            self.version = content["version"]
            found = content["results"][0]["hits"]
            self.hits = [(hit["doc_id"], hit["score"]) for hit in found]


def _percentiles(answers: Sequence[_Answer]) -> tuple[float, float]:
    p50, p99 = np.percentile([answer.seconds for answer in answers], (50, 99)) * 1000
    return float(p50), float(p99)


def _all(port: int, clients: int, queries: Sequence[str]) -> Awaitable[list[_Answer]]:
    return _ask(port, clients, iter(queries), lambda count: count < len(queries))


async def _ask(
    port: int, clients: int, queries: Iterator[str], goes_on: Callable[[int], bool]
) -> list[_Answer]:
    """Lets clients ask, each with a connection of its own, for as long as it is to go on."""
    answers: list[_Answer] = []
    raw: list[tuple[str, int, bytes, float]] = []
    begun = 0

    async def client() -> None:
        nonlocal begun
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while goes_on(begun):
            begun += 1
            query = next(queries)
            body = json.dumps({"queries": [query], "k": K}).encode()
            started = time.perf_counter()
            writer.write(
                b"POST /search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            content = await reader.readexactly(length)
            raw.append((query, int(head[9:12]), content, time.perf_counter() - started))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    answers += [_Answer(*each) for each in raw]
    return answers


@contextmanager
def _server(words: list[str]) -> Iterator[int]:
    """Runs a server in a process of its own, and yields its port."""
    process = subprocess.Popen(
        [sys.executable, *words, *(["--port", "0", "--access_log", "false"] * ("-m" in words))],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if " at http://" in line)
        yield int(line.rpartition(":")[2].partition(".")[0])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def _own(prepared: _Prepared, system: str) -> Any:
    dataset = f"x={prepared.dataset.path}"
    return _server([__file__, "--dataset", dataset, "--serve", system])


def _serve(system: str, dataset: Dataset) -> None:
    """Serves one of the other systems, by the same application."""
    from dsi.serving.app import application
    from dsi.serving.options import ServerOptions
    from dsi.serving.running import run

    source = Fixed(_bm25s(dataset) if system == "bm25s" else _lsa(dataset))
    options = ServerOptions(port=0, access_log=False)
    run(
        application(source, options),
        options,
        lambda address: print(f"{system} at {address}.", file=sys.stderr, flush=True),
    )


class Fixed:
    """A source whose searcher never changes."""

    problem: str | None = None

    def __init__(self, searcher: Any) -> None:
        self.current = searcher

    def refresh(self) -> bool:
        """Tells that nothing has changed."""
        return False


class _Ranker:
    """A searcher made of one function: queries to rows and scores, best first."""

    version = "0001"
    facts: dict[str, Any] = {}  # noqa: RUF012  (nothing is ever put into it)

    def __init__(
        self,
        dataset: Dataset,
        rank: Callable[[list[str], int], tuple[np.ndarray, np.ndarray]],
    ) -> None:
        self._ids = dataset.doc_ids
        self._titles = [document.title for document in dataset.documents()]
        self._rank = rank

    def __len__(self) -> int:
        return len(self._ids)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        only: Collection[str] | None,
        exclude: Collection[str],
    ) -> list[list[Any]]:
        from dsi.index import Hit

        rows, scores = self._rank(list(queries), k)
        return [
            [
                Hit(self._ids[row], score, self._titles[row])
                for row, score in zip(*line, strict=True)
            ]
            for line in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    def has_known_words(self, queries: Sequence[str]) -> list[bool]:
        return [True] * len(queries)


def _texts(dataset: Dataset) -> list[str]:
    return [f"{document.title} {document.text}" for document in dataset.documents()]


def _bm25s(dataset: Dataset) -> _Ranker:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def tokens(texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False)

    retriever = bm25s.BM25(method="lucene")
    retriever.index(tokens(_texts(dataset)), show_progress=False)

    def rank(queries: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        found = retriever.retrieve(tokens(queries), k=k, show_progress=False)
        return found.documents, found.scores

    return _Ranker(dataset, rank)


def _lsa(dataset: Dataset) -> _Ranker:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    words = TfidfVectorizer(stop_words="english", sublinear_tf=True, dtype=np.float32)
    counts = words.fit_transform(_texts(dataset))
    axes = TruncatedSVD(128, random_state=0).fit(counts)
    vectors = normalize(axes.transform(counts)).T.copy()

    def rank(queries: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        scores = normalize(axes.transform(words.transform(queries))) @ vectors
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        rows = np.take_along_axis(best, order, 1)
        return rows, np.take_along_axis(scores, rows, 1)

    return _Ranker(dataset, rank)


if __name__ == "__main__":
    main()

"""Shared by tests of servers: a fake index, and a server process."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from data_prep.dataset import Document
from data_prep.errors import InputError
from dsi.index import Hit
from dsi.search.explaining import Explanation, Term, explanation
from dsi.search.explaining import Path as Steps


class Words:
    """Ranks documents by the words of the query that they have; counts what it is asked."""

    def __init__(self, version: str = "0001", documents: dict[str, str] | None = None) -> None:
        self.version = version
        self.facts: dict[str, Any] = {}
        self.texts = documents or {"pen": "ink on paper", "kettle": "boils water", "五": "water"}
        self.batches: list[list[str]] = []

    def __len__(self) -> int:
        return len(self.texts)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        only: Collection[str] | None,
        exclude: Collection[str],
    ) -> list[list[Hit]]:
        self.batches.append(list(queries))
        for doc_id in [*(only or []), *exclude]:
            self.documents([doc_id])
        return [self._hits(query, only, exclude)[:k] for query in queries]

    def _hits(self, query: str, only: Collection[str] | None, exclude: Any) -> list[Hit]:
        hits = [
            Hit(doc_id, float(sum(word in text.split() for word in query.split())), doc_id.title())
            for doc_id, text in self.texts.items()
            if (only is None or doc_id in only) and doc_id not in exclude
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.doc_id))

    def has_known_words(self, queries: Sequence[str]) -> list[bool]:
        return [True for _ in queries]

    def documents(self, doc_ids: Sequence[str]) -> list[Document]:
        for doc_id in doc_ids:
            if doc_id not in self.texts:
                raise InputError(f"no document {doc_id!r}", where="/secret/folder")
        return [Document(doc_id, doc_id.title(), self.texts[doc_id]) for doc_id in doc_ids]

    def explain(
        self, query: str, doc_ids: Sequence[str], only: Any, exclude: Any
    ) -> list[Explanation]:
        scores = {hit.doc_id: hit.score for hit in self._hits(query, None, ())}
        return [
            explanation(
                query, each, each.title(), [Term("all", 1, scores[each], scores[each])],
                [Steps((), 0.0)],
            )
            for each in doc_ids
        ]  # fmt: skip


class Server:
    """`dsi serve` in a process of its own."""

    def __init__(self, index: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dsi", "serve", str(index), "--port", "0", *words],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.first_line = line
            if " at http://" in line:
                break
        else:
            raise AssertionError("the server did not start")
        self.port = int(line.rpartition(":")[2].partition(".")[0])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def stop(self, how: int = signal.SIGTERM) -> tuple[int, str]:
        """Stops it; returns its exit code, and what it still had to say."""
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said


def eventually(holds: Any, tries: int = 600) -> None:
    """Waits until something holds."""
    for _ in range(tries):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it never came to hold")

"""Batches concurrent requests.

One thread computes. Meanwhile requests queue up; then those that can be searched together form a
batch. When the thread is idle, a single request is searched at once; if the previous batch had
several, it first waits a few milliseconds for as many.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from dsi.serving.options import BatchOptions
from dsi.serving.searcher import Searcher, Source

T = TypeVar("T")


class OverloadedError(Exception):
    """Too many queries are waiting."""


@dataclass(frozen=True)
class SearchRequest:
    """A search request.

    Attributes:
        queries: The queries, at least one.
        k: How many documents to find for each.
        only: Ids of the documents to search among; None for all.
        exclude: Ids of documents not to search among.
        with_text: Whether hits have their texts.
        explain: Whether hits have the parts of their scores.
    """

    queries: tuple[str, ...]
    k: int
    only: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    with_text: bool = False
    explain: bool = False

    @property
    def like(self) -> tuple[Any, ...]:
        """The fields that requests must share to be searched together.

        A different k changes the width of the beam search, and possibly the result.
        """
        return self.k, self.only, self.exclude


@dataclass(frozen=True)
class SearchResponse:
    """The response to a request.

    Attributes:
        version: The version that was searched.
        seconds: How long the search of the batch took.
        batch: Number of queries searched together.
        results: The output of `dsi search --json` for each query.
    """

    version: str
    seconds: float
    batch: int
    results: list[dict[str, Any]]


def answer(searcher: Searcher, questions: Sequence[SearchRequest]) -> list[SearchResponse]:
    """Answers requests that can be batched, all from one searcher.

    Raises:
        InputError: One of them asks for something that does not exist.
    """
    first = questions[0]
    queries = [query for question in questions for query in question.queries]
    began = time.perf_counter()
    hits = iter(searcher.search(queries, first.k, first.only, first.exclude))
    has_known_words = iter(searcher.has_known_words(queries))
    seconds = time.perf_counter() - began
    answers = []
    for question in questions:
        results = []
        for query in question.queries:
            ranked = next(hits)
            entries = [{"rank": rank, **hit.data} for rank, hit in enumerate(ranked, 1)]
            doc_ids = [hit.doc_id for hit in ranked]
            if question.with_text:
                for entry, document in zip(entries, searcher.documents(doc_ids), strict=True):
                    entry["text"] = document.text
            if question.explain:
                explanations = searcher.explain(query, doc_ids, question.only, question.exclude)
                for entry, parts in zip(entries, explanations, strict=True):
                    entry["explanation"] = parts.data
            results.append({"query": query, "known": next(has_known_words), "hits": entries})
        answers.append(SearchResponse(searcher.version, seconds, len(queries), results))
    return answers


class Batcher:
    """Batches requests and hands them to one thread.

    Args:
        source: The source of the searcher.
        options: How to batch them.
        waiting: Maximum number of waiting queries.
    """

    def __init__(self, source: Source, options: BatchOptions, waiting: int) -> None:
        self.source = source
        self._options = options
        self._most_waiting = waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._queue: deque[tuple[SearchRequest, asyncio.Future[SearchResponse]]] = deque()
        self._waiting = 0
        self._expected = 1
        self._came = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts answering."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stops answering."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def ask(self, question: SearchRequest) -> SearchResponse:
        """Returns the response to a request.

        Raises:
            InputError: It asks for something that does not exist.
            OverloadedError: Too many queries are already waiting.
        """
        count = len(question.queries)
        if self._waiting + count > self._most_waiting:
            raise OverloadedError
        future: asyncio.Future[SearchResponse] = asyncio.get_running_loop().create_future()
        self._queue.append((question, future))
        self._waiting += count
        self._came.set()
        return await future

    async def run(self, work: Callable[[Searcher], T]) -> T:
        """Runs another function on the thread, with the current searcher."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: work(self.source.current))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._gather()
            batch = self._take()
            if not batch:
                continue
            questions = [question for question, _ in batch]
            results = await loop.run_in_executor(self._thread, self._answers, questions)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # the client has disconnected
                    continue
                if isinstance(result, BaseException):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _gather(self) -> None:
        """Waits for a request, then briefly for as many more as the previous batch had."""
        while not self._queue:
            self._came.clear()
            await self._came.wait()
        deadline = asyncio.get_running_loop().time() + self._options.wait / 1000
        while len(self._queue) < self._expected and self._waiting < self._options.queries:
            left = deadline - asyncio.get_running_loop().time()
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), left)
            except (TimeoutError, asyncio.TimeoutError):
                break

    def _take(self) -> list[tuple[SearchRequest, asyncio.Future[SearchResponse]]]:
        """Dequeues the requests that can be batched with the first one still wanted."""
        batch: list[tuple[SearchRequest, asyncio.Future[SearchResponse]]] = []
        waiting: deque[tuple[SearchRequest, asyncio.Future[SearchResponse]]] = deque()
        queries = 0
        for question, future in self._queue:
            count = len(question.queries)
            fits_batch = not batch or (
                question.like == batch[0][0].like and queries + count <= self._options.queries
            )
            if future.done():
                self._waiting -= count
            elif fits_batch:
                batch.append((question, future))
                queries += count
                self._waiting -= count
            else:
                waiting.append((question, future))
        self._queue = waiting
        self._expected = max(1, len(batch))
        return batch

    def _answers(self, questions: Sequence[SearchRequest]) -> list[SearchResponse | BaseException]:
        """Answers a batch; a failing request does not affect the others."""
        searcher = self.source.current
        try:
            return list(answer(searcher, questions))
        except BaseException as error:
            if len(questions) == 1 or not isinstance(error, Exception):
                return [error for _ in questions]
        return [self._answers([question])[0] for question in questions]

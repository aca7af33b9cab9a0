"""The searcher of a server, which follows the live version of an index."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.progress import without_bars
from dsi.index import Hit, Index
from dsi.index_folder import versions
from dsi.search.explaining import Explanation
from dsi.search.options import SearchOptions

_LOG = logging.getLogger("dsi.serving")


class Searcher(Protocol):
    """Something that ranks documents; immutable.

    Attributes:
        version: The name of the searched version.
        facts: Human-readable facts about it.
    """

    version: str
    facts: dict[str, Any]

    def __len__(self) -> int:
        """The number of documents."""
        ...

    def search(
        self,
        queries: Sequence[str],
        k: int,
        only: Collection[str] | None,
        exclude: Collection[str],
    ) -> list[list[Hit]]:
        """Returns the best documents for each query, without texts."""
        ...

    def has_known_words(self, queries: Sequence[str]) -> list[bool]:
        """Returns for each query whether the index knows any of its words."""
        ...

    def documents(self, doc_ids: Sequence[str]) -> list[Document]:
        """Returns documents.

        Raises:
            InputError: A document is unknown or deleted, or there are no texts.
        """
        ...

    def explain(
        self,
        query: str,
        doc_ids: Sequence[str],
        only: Collection[str] | None,
        exclude: Collection[str],
    ) -> list[Explanation]:
        """Returns the parts of the documents' scores."""
        ...


class IndexSearcher:
    """One version of an index.

    Args:
        index: The index, opened.
        batch: Number of queries searched at once.
    """

    def __init__(self, index: Index, batch: int) -> None:
        self.index = index
        self.version = index.manifest.version
        self._batch = batch
        dataset = index.manifest.dataset.get("name")
        self.facts = {"dataset": dataset, "created": index.manifest.created}

    def __len__(self) -> int:
        return len(self.index)

    def search(
        self,
        queries: Sequence[str],
        k: int,
        only: Collection[str] | None,
        exclude: Collection[str],
    ) -> list[list[Hit]]:
        """Searches the index."""
        options = SearchOptions(only=only, exclude=exclude)
        with without_bars():
            return self.index.search(queries, k=k, batch_size=self._batch, options=options)

    def has_known_words(self, queries: Sequence[str]) -> list[bool]:
        """Queries the text encoder."""
        return self.index.text.has_known_words(queries)

    def documents(self, doc_ids: Sequence[str]) -> list[Document]:
        """Looks up documents in the corpus of the version."""
        return [self.index.document(doc_id) for doc_id in doc_ids]

    def explain(
        self,
        query: str,
        doc_ids: Sequence[str],
        only: Collection[str] | None,
        exclude: Collection[str],
    ) -> list[Explanation]:
        """Explains the scores of one query."""
        return self.index.explain(query, doc_ids, SearchOptions(only=only, exclude=exclude))


class Source(Protocol):
    """The source of a server's searcher."""

    @property
    def current(self) -> Searcher:
        """The current searcher; a running batch keeps the one it started with."""
        ...

    @property
    def problem(self) -> str | None:
        """Why a newer version could not be opened; None if there was no error."""
        ...

    def refresh(self) -> bool:
        """Switches to a new live version, if there is one; takes as long as opening it.

        Returns:
            Whether the version changed.
        """
        ...


class LiveIndex:
    """Always the live version of an index.

    Args:
        path: The folder of the index.
        device: As in `Index.open`.
        batch: Number of queries searched at once.

    Raises:
        InputError: It is not an index, or a part of it is missing or damaged.
    """

    def __init__(self, path: Path, device: str | None, batch: int) -> None:
        self._path = path
        self._device = device
        self._batch = batch
        self._lock = threading.Lock()
        self._seen: tuple[Any, ...] = ()
        self.problem: str | None = None
        self._searcher = self._opened_aside()

    @property
    def current(self) -> Searcher:
        """The searcher of the version that was live at the last `refresh`."""
        return self._searcher

    def refresh(self) -> bool:
        """Opens the live version if it changed; keeps the old one if that fails."""
        with self._lock:
            try:
                if self._identity() == self._seen:
                    return False
                fresh = self._opened_aside()
            except (InputError, OSError) as error:
                if self.problem != str(error):
                    _LOG.error(
                        "the live version cannot be opened; continuing with the previous one: %s",
                        error,
                    )
                self.problem = str(error)
                return False
            self.problem = None
            self._searcher = fresh
            _LOG.info("version %s is live, with %d documents", fresh.version, len(fresh))
            return True

    def _opened_aside(self) -> Searcher:
        """Opens the live version in a thread that ends afterwards.

        Each thread that has computed keeps its OpenMP threads until it ends. If there are more of
        them than cores, those of the search sleep instead of waiting at each operation, and a
        search takes up to two and a half times as long.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="open") as thread:
            return thread.submit(contextvars.copy_context().run, self._opened).result()

    def _opened(self) -> Searcher:
        identity = self._identity()
        index = Index.open(self._path, self._device)
        # Prepared here rather than in the first search; open files also survive pruning.
        if len(index):
            index.search("x", k=1)
            if index.documents is not None and index.documents.has_texts:
                index.document(index.table.doc_ids[int(index.table.live[0])])
        if identity[0] == index.manifest.version:
            self._seen = identity
        return IndexSearcher(index, self._batch)

    def _identity(self) -> tuple[Any, ...]:
        """Identifies the content of the folder: the version, and the file that names it."""
        live = versions.live(self._path)
        status = (versions.folder(self._path, live) / "manifest.json").stat()
        return live, status.st_ino, status.st_mtime_ns

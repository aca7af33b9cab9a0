"""The interface of a named benchmark: a recipe with a version and an expected size."""

from __future__ import annotations

import hashlib
import unicodedata
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from data_prep.dataset import Document, Qrel, Query
from data_prep.errors import InputError
from data_prep.fetching import Download, Fetching
from data_prep.registry import Registry
from data_prep.text_processing import one_line

Size = int | tuple[int, int]
"""An exact number, or minimum and maximum."""


class Benchmark:
    """A collection built from a public release by a documented recipe.

    A subclass reads the release; this class iterates over it once, counts, and refuses a size that
    differs from the recipe's. A damaged or different release is thus detected before results on it
    are compared.

    Args:
        release: Folder of the release's files; None to fetch it with the library of the recipe.
        any_size: Accept another size, such as that of a partial release.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Incremented whenever the same release gives a different collection than before."""
    recipe: ClassVar[str]
    """The recipe in one or two sentences."""
    license_of: ClassVar[str] = "unknown"
    sizes: ClassVar[dict[str, Size]] = {}
    """"documents", "train" or "test" (queries) -> expected number."""

    download: ClassVar[Download | None] = None
    """What is downloaded if no release is given; None if unknown."""

    drop_duplicate_texts = False

    def __init__(self, release: Path | None = None, *, any_size: bool = False) -> None:
        if release is not None and not release.is_dir():
            raise InputError("no such folder", where=release)
        self.release = release
        self.any_size = any_size
        self.source = f"{self.name} (recipe {self.version})"
        self.license = self.license_of
        self._queries: dict[str, Query] = {}
        self._qrels: list[Qrel] = []
        self._numbers: dict[str, str] = {}
        self._read = False

    @abstractmethod
    def read(self) -> Iterator[Document]:
        """Yields the documents and calls `ask` for the queries."""

    def ask(self, query_id: str, text: str, doc_id: str, split: str, relevance: int = 1) -> None:
        """Records a query and one of its judgments."""
        self._queries.setdefault(query_id, Query(query_id, text))
        self._qrels.append(Qrel(query_id, doc_id, relevance, split))

    def number(self, key: str) -> tuple[str, bool]:
        """Returns the id of the document with a key: the number of documents before it.

        Returns:
            The id, and whether the key is new.
        """
        new = not self.has(key)
        return self._numbers.setdefault(key, str(len(self._numbers))), new

    def has(self, key: str) -> bool:
        """Returns whether a document with that key has occurred."""
        return key in self._numbers

    def documents(self) -> Iterator[Document]:
        """Yields the documents.

        Raises:
            InputError: At the end, if the number of documents differs from the recipe.
        """
        self._queries, self._qrels, self._numbers = {}, [], {}
        count = 0
        for document in self.read():
            count += 1
            yield document
        self._read = True
        self._check("documents", count)
        for split in ("train", "test"):
            self._check(split, len({q.query_id for q in self._qrels if q.split == split}))

    def queries(self) -> Iterable[Query]:
        """Returns the queries."""
        self._read_all()
        return self._queries.values()

    def qrels(self) -> Iterable[Qrel]:
        """Returns the judgments."""
        self._read_all()
        return self._qrels

    def _read_all(self) -> None:
        if not self._read:
            for _ in self.documents():
                pass

    def _check(self, what: str, count: int) -> None:
        size = self.sizes.get(what)
        if size is None or self.any_size:
            return
        low, high = (size, size) if isinstance(size, int) else size
        if not low <= count <= high:
            expected = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            raise InputError(
                f"{count:,} {what if what == 'documents' else f'{what} queries'}, but the recipe "
                f"of {self.name} yields {expected}",
                where=self.release or self.source,
                hint="Check the files of the release, or accept this size with --any_size",
            )


BENCHMARKS: Registry[type[Benchmark]] = Registry("benchmark")


def rows_of_hub(hub: str, configuration: str, split: str) -> Iterator[dict[str, Any]]:
    """Streams the rows of a split of a hub dataset.

    Raises:
        InputError: It cannot be downloaded.
    """
    import datasets

    fetching = Fetching(
        "cannot download it",
        where=hub,
        hint="Check the connection, or give a folder of its files with --release",
    )
    yield from fetching.rows(
        lambda: datasets.load_dataset(hub, configuration, split=split, streaming=True)
    )


def title_key(title: str) -> str:
    """Returns a key of a title that ignores case, Unicode normalization form and whitespace.

    Separate from `normalize`, because the output of a recipe must not change.
    """
    return one_line(unicodedata.normalize("NFKC", title).lower())


def chosen(item: str, seed: str) -> bytes:
    """Returns a sort key for random sampling that does not depend on the order of items."""
    return hashlib.blake2b(f"{seed}:{item}".encode(), digest_size=8).digest()

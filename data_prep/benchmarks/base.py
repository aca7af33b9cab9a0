"""What every named benchmark is: a recipe with a version, and the size it must come out at."""

from __future__ import annotations

import hashlib
import unicodedata
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from data_prep.dataset import Document, Qrel, Query
from data_prep.errors import InputError
from data_prep.fetching import Fetching
from data_prep.registry import Registry
from data_prep.text import one_line

Size = int | tuple[int, int]
"""An exact number, or the lowest and the highest."""


class Benchmark:
    """A collection built from a public release by a stated recipe.

    A subclass says what the release holds; this class reads it once, counts, and refuses another
    size than the recipe's: so a damaged or different release is found before anyone compares
    figures on it.

    Args:
        release: Folder of the release's files; None to fetch it with the library of the recipe.
        any_size: Let it come out at another size, as a part of the release does.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same release gives another collection than before."""
    recipe: ClassVar[str]
    """What is done, in a sentence or two."""
    license_of: ClassVar[str] = "unknown"
    sizes: ClassVar[dict[str, Size]] = {}
    """"documents", "train" or "test" (queries) -> how many there must be."""

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
        """Notes a query and one judgment of it."""
        self._queries.setdefault(query_id, Query(query_id, text))
        self._qrels.append(Qrel(query_id, doc_id, relevance, split))

    def number(self, key: str) -> tuple[str, bool]:
        """Returns the id of the document that a key tells from others: how many came before it.

        Returns:
            The id, and whether the key is new.
        """
        new = not self.has(key)
        return self._numbers.setdefault(key, str(len(self._numbers))), new

    def has(self, key: str) -> bool:
        """Tells whether a document of that key came before."""
        return key in self._numbers

    def documents(self) -> Iterator[Document]:
        """Yields the documents.

        Raises:
            InputError: At the end, where there are more or fewer than the recipe says.
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
            wanted = f"{low:,}" if low == high else f"{low:,} to {high:,}"
            raise InputError(
                f"{count:,} {what if what == 'documents' else f'{what} queries'} where the recipe "
                f"of {self.name} gives {wanted}",
                where=self.release or self.source,
                hint="Check the release's files, or take it as it is with --any_size",
            )


BENCHMARKS: Registry[type[Benchmark]] = Registry("benchmark")


def rows_of_hub(hub: str, configuration: str, split: str) -> Iterator[dict[str, Any]]:
    """Yields the rows of a split of a dataset on the hub, as a stream.

    Raises:
        InputError: It cannot be fetched.
    """
    import datasets

    fetching = Fetching(
        "cannot fetch it",
        where=hub,
        hint="Check the connection, or give a folder of its files with --release",
    )
    yield from fetching.rows(
        lambda: datasets.load_dataset(hub, configuration, split=split, streaming=True)
    )


def title_key(title: str) -> str:
    """Returns what tells a title from others but for case, Unicode form and white space.

    A recipe's own, and not `data_prep.text.normalize`: what a recipe gives must not change.
    """
    return one_line(unicodedata.normalize("NFKC", title).lower())


def chosen(item: str, seed: str) -> bytes:
    """Returns what items are sorted by to draw some at random, whatever order they come in."""
    return hashlib.blake2b(f"{seed}:{item}".encode(), digest_size=8).digest()

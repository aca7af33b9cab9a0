"""The stored documents of a version, by id: titles and texts for search results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep import arrow
from data_prep.dataset import CORPUS_COLUMNS, OPTIONAL_COLUMNS, Document
from data_prep.errors import InputError
from docids.strings import StringIndex, Strings
from dsi.index_folder.stored_corpus import FOLDER
from dsi.index_folder.version_files import COPY, check_content

if TYPE_CHECKING:
    import pyarrow


class StoredDocuments:
    """The corpus of a version, memory-mapped on first use.

    Args:
        version: The folder of the version.
        files: The file list of its manifest; None if it has none.
    """

    def __init__(self, version: Path, files: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._version = version
        self._folder = version / FOLDER / "corpus"
        self._files = files

    @property
    def has_texts(self) -> bool:
        """Whether the version stores its texts."""
        return self._folder.is_dir()

    def find(self, doc_ids: Sequence[str]) -> list[Document]:
        """Returns documents by id, in the requested order.

        Args:
            doc_ids: Ids of documents that the version holds.

        Raises:
            InputError: The version has no corpus, the corpus is damaged, or a document is not in
                it.
        """
        ids, index, batches, starts = self._opened
        places = index.find(ids, doc_ids)
        if len(places) and places.min() < 0:
            missing = doc_ids[int(np.flatnonzero(places < 0)[0])]
            raise InputError(
                f"the text of document {missing!r} is missing", where=self._folder, hint=COPY
            )
        numbers = np.searchsorted(starts, places, side="right") - 1
        return [
            _document(batches[number], int(place - starts[number]))
            for number, place in zip(numbers.tolist(), places.tolist(), strict=True)
        ]

    @cached_property
    def _opened(self) -> tuple[Strings, StringIndex, list[pyarrow.RecordBatch], np.ndarray]:
        """The ids, an index of them, and the rows in batches with the start of each."""
        if not self._version.is_dir():
            raise InputError(
                "this version was removed after the index was opened",
                where=self._version,
                hint="Open the index again",
            )
        if not self.has_texts:
            raise InputError(
                "this version was written without the texts of its documents",
                where=self._version,
                hint="Search without texts, or get an index that has them",
            )
        corpus = f"{FOLDER}/corpus/"
        files = {
            name: entry for name, entry in (self._files or {}).items() if name.startswith(corpus)
        }
        check_content(self._version, files, None)
        stored = arrow.columns_of(self._folder)
        columns = [
            name for name in CORPUS_COLUMNS if name in stored or name not in OPTIONAL_COLUMNS
        ]
        batches = list(arrow.mapped_batches(self._folder, columns))
        ids = Strings.pack(
            doc_id for batch in batches for doc_id in batch.column("doc_id").to_pylist()
        )
        ends = np.cumsum([batch.num_rows for batch in batches], dtype=np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        return ids, StringIndex.build(ids), batches, starts


def _document(batch: pyarrow.RecordBatch, row: int) -> Document:
    return Document(*(column[row].as_py() for column in batch.columns))

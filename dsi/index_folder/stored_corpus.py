"""The part of its corpus that an index stores for updates: documents, training queries, hashes.

    VERSION/corpus/                    a Dataset: live documents, queries and judgments of train
                                       and dev (never of test)
    VERSION/corpus/pseudo/<generator>/ the pseudo-queries that the model was trained on
    VERSION/corpus/digests/            a hash of every document, by which a changed one is known

Compared with the weights this is small: about the size of the corpus text and its pseudo-queries. A
deleted document is in no stored corpus written after its deletion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import arrow
from data_prep.dataset import PSEUDO_COLUMNS, Dataset, Document, Qrel, Query, SourceData
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.files import read_json, write_json
from data_prep.passages import document_of
from docids.store import open_store, write_store

FOLDER = "corpus"
KEPT_SPLITS = ("train", "dev")
"""Judgments of other splits are for evaluation and are never stored in an index."""
_DIGEST_BYTES = 16


def digest(document: Document) -> bytes:
    """Returns the hash of a document's title and text; 16 bytes."""
    content = json.dumps([document.title, document.text], ensure_ascii=False)
    return hashlib.blake2b(
        content.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES
    ).digest()


@dataclass(frozen=True)
class StoredCorpus:
    """The stored corpus of one version, opened.

    Attributes:
        dataset: Its documents, queries and pseudo-queries.
        digests: doc_id -> hash of the document.
    """

    dataset: Dataset
    digests: Mapping[str, bytes]

    @classmethod
    def open(cls, version: Path) -> StoredCorpus:
        """Opens the stored corpus in the folder of a version.

        Raises:
            InputError: There is none, or it is damaged.
        """
        folder = version / FOLDER
        if not folder.is_dir():
            raise InputError(
                "this version was written without its corpus, which an update needs",
                where=version,
                hint="Give the dataset that the index was trained on: --old DATASET",
            )
        dataset = Dataset.open(folder)
        _, arrays = open_store(folder / "digests", "digests")
        rows = arrays["digests"]
        if len(rows) != dataset.info.documents:
            raise InputError(
                f"{len(rows)} hashes of {dataset.info.documents} documents", where=folder
            )
        pairs = zip(dataset.doc_ids, rows, strict=True)
        return cls(dataset, {doc_id: row.tobytes() for doc_id, row in pairs})

    @property
    def generator(self) -> str | None:
        """The generator of the stored pseudo-queries; None if there are none."""
        names = self.dataset.generators
        return names[0] if names else None

    @property
    def pseudo_provenance(self) -> dict[str, Any] | None:
        """How the pseudo-queries were generated; None if there are none."""
        return provenance_of(self.dataset, self.generator) if self.generator else None

    def pseudo_rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Yields the pseudo-queries: query_id, doc_id, text, generator."""
        if self.generator is not None:
            folder = self.dataset.path / "pseudo" / self.generator
            for row in arrow.read_rows(folder, list(PSEUDO_COLUMNS)):
                yield (row[0], row[1], row[2], row[3])

    def pseudo_queries_of(self, doc_ids: Iterable[str], most: int) -> dict[str, list[str]]:
        """Returns the first `most` pseudo-queries of each document, in the given order."""
        queries: dict[str, list[str]] = {doc_id: [] for doc_id in doc_ids}
        for _, doc_id, text, _ in self.pseudo_rows():
            if doc_id in queries and len(queries[doc_id]) < most:
                queries[doc_id].append(text)
        return queries


@dataclass(frozen=True)
class Difference:
    """How a batch of documents differs from what an index has.

    Attributes:
        added: Ids without a live document in the index.
        changed: Ids whose document has a new title or text.
        unchanged: Ids whose document is the same; they need no work.
        removed: Passages of the index whose document has fewer passages now.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    @classmethod
    def between(
        cls, digests: Mapping[str, bytes], documents: Iterable[Document], *, passages: bool = False
    ) -> Difference:
        """Compares documents with the stored hashes.

        Args:
            digests: doc_id -> hash of the documents in the index.
            documents: The documents of the batch.
            passages: Whether they are passages. A document that has fewer of them than before
                counts as changed as a whole: the others are removed.
        """
        difference = cls()
        for document in documents:
            stored_digest = digests.get(document.doc_id)
            if stored_digest is None:
                difference.added.append(document.doc_id)
            elif stored_digest != digest(document):
                difference.changed.append(document.doc_id)
            else:
                difference.unchanged.append(document.doc_id)
        return difference._with_removed(digests) if passages else difference

    def _with_removed(self, digests: Mapping[str, bytes]) -> Difference:
        """Returns the difference with the passages of its documents that are no longer there."""
        present = {*self.added, *self.changed, *self.unchanged}
        documents = {document_of(passage_id) for passage_id in present}
        removed = [
            passage_id
            for passage_id in digests
            if passage_id not in present and document_of(passage_id) in documents
        ]
        shorter = {document_of(passage_id) for passage_id in removed}
        again = [each for each in self.unchanged if document_of(each) in shorter]
        unchanged = [each for each in self.unchanged if document_of(each) not in shorter]
        return Difference(self.added, [*self.changed, *again], unchanged, removed)

    @property
    def new(self) -> list[str]:
        """Ids of all documents that the model has yet to learn."""
        return [*self.added, *self.changed]


class StoredCorpusSource(SourceData):
    """The content of a dataset to store, with documents added or removed.

    Args:
        dataset: The dataset.
        more: Documents to add, or to replace those with the same id, and their queries.
        new: Which of `more`'s documents to use; None for all.
        without: Ids of documents to leave out.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        more: Dataset | None = None,
        new: Collection[str] | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.name = dataset.info.name
        self.source = dataset.info.source
        self.license = dataset.info.license
        self.drop_duplicate_texts = False
        self._dataset = dataset
        self._more = more
        self._new = None if new is None else frozenset(new)
        self._without = frozenset(without)

    def documents(self) -> Iterator[Document]:
        """Yields old documents in order, with changed ones in their old position, then new ones."""
        fresh: dict[str, Document] = {}
        if self._more is not None:
            fresh = {
                document.doc_id: document
                for document in self._more.documents()
                if self._new is None or document.doc_id in self._new
            }
        for document in self._dataset.documents():
            if document.doc_id not in self._without:
                yield fresh.pop(document.doc_id, document)
        yield from fresh.values()

    def queries(self) -> Iterator[Query]:
        """Yields the queries with a judgment that is kept."""
        for dataset in self._parts():
            judged = {qrel.query_id for qrel in self._kept_judgments(dataset)}
            for query_id, text in dataset.query_texts().items():
                if query_id in judged:
                    yield Query(query_id, text)

    def qrels(self) -> Iterator[Qrel]:
        """Yields the judgments of train and dev on documents that are kept."""
        for dataset in self._parts():
            yield from self._kept_judgments(dataset)

    def _parts(self) -> list[Dataset]:
        return [self._dataset] if self._more is None else [self._dataset, self._more]

    def _kept_judgments(self, dataset: Dataset) -> Iterator[Qrel]:
        for split in KEPT_SPLITS:
            for query_id, judged in dataset.qrels_of(split).items():
                for doc_id, relevance in judged.items():
                    if doc_id not in self._without:
                        yield Qrel(query_id, doc_id, relevance, split)


def write_stored_corpus(
    folder: Path,
    source: SourceData,
    *,
    generator: str | None = None,
    pseudo: Iterable[tuple[str, str, str, str]] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Dataset:
    """Writes a stored corpus to `folder`, replacing the whole folder.

    Args:
        folder: The target folder.
        source: Content from `StoredCorpusSource`.
        generator: The generator of `pseudo`; None to store none.
        pseudo: Rows of query_id, doc_id, text and generator.
        provenance: How they were generated (`provenance_of`); required if there are any.

    Returns:
        The Dataset of the stored corpus.
    """
    dataset = write_dataset(folder, source)
    rows = np.frombuffer(b"".join(digest(document) for document in dataset.documents()), np.uint8)
    write_store(folder / "digests", "digests", {}, {"digests": rows.reshape(-1, _DIGEST_BYTES)})
    if generator is not None:
        assert provenance is not None
        write_pseudo(dataset, generator, pseudo, provenance)
    return dataset


def write_pseudo(
    dataset: Dataset,
    generator: str,
    rows: Iterable[tuple[str, str, str, str]],
    provenance: Mapping[str, Any],
) -> None:
    """Writes pseudo-queries of one generator to a dataset's folder.

    Args:
        dataset: The dataset.
        generator: Their generator.
        rows: query_id, doc_id, text, generator.
        provenance: Their recorded provenance, so that they are not generated again.
    """
    folder = dataset.path / "pseudo" / generator
    folder.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256()
    with arrow.TableFile(folder / "data.arrow", PSEUDO_COLUMNS) as table:
        for row in rows:
            content.update(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
            table.append(row)
    arrow.describe_table(folder, ["data.arrow"], PSEUDO_COLUMNS, content.hexdigest()[:16])
    # The queries are the same for all datasets of a corpus.
    provenance = {**provenance, "content_hash": dataset.info.content_hash}
    write_json(folder / "generator.json", provenance)


def provenance_of(dataset: Dataset, generator: str) -> dict[str, Any]:
    """Returns how the pseudo-queries of a dataset were generated, as recorded with them."""
    return read_json(dataset.path / "pseudo" / generator / "generator.json")


def store_corpus(folder: Path, dataset: Dataset, generator: str | None) -> None:
    """Writes the stored corpus of a first version.

    Args:
        folder: Folder of the version.
        dataset: The training dataset.
        generator: The generator of the pseudo-queries it was trained on; None for none.
    """
    rows: Iterable[tuple[str, str, str, str]] = ()
    provenance = None
    if generator is not None:
        provenance = provenance_of(dataset, generator)
        stored = arrow.read_rows(dataset.path / "pseudo" / generator, list(PSEUDO_COLUMNS))
        rows = ((row[0], row[1], row[2], row[3]) for row in stored)
    write_stored_corpus(
        folder / FOLDER,
        StoredCorpusSource(dataset),
        generator=generator,
        pseudo=rows,
        provenance=provenance,
    )

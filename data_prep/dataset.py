"""The Dataset: a corpus with its queries and judgments, in one folder.

    DATASET/
        dataset.json        name, source, license, counts, content hash, dropped rows and reasons
        card.json           lengths, languages, duplicates, ...; see `data_prep.dataset_statistics`
        corpus/             doc_id, title, text, url
        queries/            query_id, text, origin ("labelled")
        qrels/              query_id, doc_id, relevance, split ("train", "dev" or "test")
        pseudo/<generator>/ query_id, doc_id, text, origin (the generator), generator.json
        memory/             the generative memory, if one was trained (see `dsi.generation`)

The tables are Arrow; `datasets.load_from_disk` opens each of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from data_prep import arrow
from data_prep.checks import as_path
from data_prep.errors import InputError, command_line
from data_prep.files import (
    read_json,
)
from data_prep.former_names import with_current_names

if TYPE_CHECKING:
    import datasets

FORMAT_VERSION = 1
SPLITS = ("train", "dev", "test")
CORPUS_COLUMNS = {"doc_id": "string", "title": "string", "text": "string", "url": "string"}
QUERY_COLUMNS = {"query_id": "string", "text": "string", "origin": "string"}
QREL_COLUMNS = {"query_id": "string", "doc_id": "string", "relevance": "int32", "split": "string"}
PSEUDO_COLUMNS = {"query_id": "string", "doc_id": "string", "text": "string", "origin": "string"}

OPTIONAL_COLUMNS = ("url",)
"""Columns that a table may lack; empty values are excluded from the content hash."""

KEPT = ("pseudo", "memory", "memory.partial")
"""Artifacts of a Dataset that are kept when it is rewritten with the same content."""

TABLES = ("dataset.json", "card.json", "corpus", "queries", "qrels")
"""The files and folders of a Dataset."""

PARTS = (*TABLES, *KEPT)
"""What the toolkit writes into the folder of a Dataset; other files are the user's and are kept."""

MADE_AGAIN = ("extractive", "selective")
"""Generators that need no model, so that training regenerates their pseudo-queries."""

MOST_UNKNOWN = 0.2
"""Largest fraction of judgments that may name an unknown query or document."""

EXAMPLES = 5
"""Number of examples to report for each reason why rows were dropped."""


@dataclass(frozen=True)
class Document:
    """A document; `doc_id` is the id of the source and never changes; `url` may be empty."""

    doc_id: str
    title: str
    text: str
    url: str = ""

    @property
    def title_and_text(self) -> str:
        """The title, a line end, and the text; only one of them if the other is empty."""
        return f"{self.title}\n{self.text}".strip()


@dataclass(frozen=True)
class Query:
    """A query; `origin` is "labelled", or the name of the generator that wrote it."""

    query_id: str
    text: str
    origin: str = "labelled"  # This spelling is part of the content hash of existing datasets.


@dataclass(frozen=True)
class Qrel:
    """One judgment: `relevance` above 0 means relevant; `split` is "train", "dev" or "test"."""

    query_id: str
    doc_id: str
    relevance: int
    split: str


class SourceData(Protocol):
    """The input of `write_dataset`; each method may be called more than once."""

    name: str
    """A short name of the collection."""
    source: str
    """Where the collection came from: a path or an identifier."""
    license: str
    """The license of the content, or "unknown"."""
    drop_duplicate_texts: bool
    """Whether a document with the title and text of an earlier one is dropped; its judgments
    then go to the earlier one."""

    def documents(self) -> Iterable[Document]:
        """Yields the documents, in corpus order."""
        ...

    def queries(self) -> Iterable[Query]:
        """Yields the labeled queries."""
        ...

    def qrels(self) -> Iterable[Qrel]:
        """Yields the judgments."""
        ...


@dataclass
class InMemorySource:
    """A source whose documents, queries and judgments are in memory; iterables become lists."""

    document_list: Iterable[Document]
    query_list: Iterable[Query] = ()
    qrel_list: Iterable[Qrel] = ()
    name: str = "unnamed"
    source: str = "memory"
    license: str = "unknown"
    drop_duplicate_texts: bool = False

    def __post_init__(self) -> None:
        self.document_list = list(self.document_list)
        self.query_list = list(self.query_list)
        self.qrel_list = list(self.qrel_list)

    def documents(self) -> Iterable[Document]:
        """Returns the documents."""
        return self.document_list

    def queries(self) -> Iterable[Query]:
        """Returns the labeled queries."""
        return self.query_list

    def qrels(self) -> Iterable[Qrel]:
        """Returns the judgments."""
        return self.qrel_list


@dataclass
class ExampleCounter:
    """A count of events, with the first few examples."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Counts one more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


@dataclass(frozen=True)
class DatasetInfo:
    """The content of `dataset.json`.

    Attributes:
        name: A short name of the collection.
        source: Where the collection came from.
        license: The license of the content, or "unknown".
        documents: Number of documents.
        queries: Number of labeled queries.
        qrels: Split -> number of judgments.
        content_hash: SHA-256 of documents, labeled queries and judgments in their order.
        dropped: Reason -> the rows that were dropped for it.
        noted: Remark -> the rows it applies to, which were kept.
        passages: How documents were cut into passages (`data_prep.passages`); None where they were
            not.
    """

    name: str
    source: str
    license: str
    documents: int
    queries: int
    qrels: dict[str, int]
    content_hash: str
    dropped: dict[str, ExampleCounter]
    noted: dict[str, ExampleCounter]
    passages: dict[str, int] | None = None

    @property
    def origin(self) -> dict[str, Any]:
        """What an index or generative memory records of its dataset: name, hash, passages."""
        entries: dict[str, Any] = {"name": self.name, "content_hash": self.content_hash}
        return entries if self.passages is None else {**entries, "passages": dict(self.passages)}

    def to_json(self) -> dict[str, Any]:
        """Returns the value that `dataset.json` holds."""
        value = {"format_version": FORMAT_VERSION, **asdict(self)}
        if self.passages is None:  # as it was before there were passages
            del value["passages"]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any], where: Path) -> DatasetInfo:
        """Reads the value that `dataset.json` holds.

        Raises:
            InputError: Its format version is another, or a field is missing.
        """
        fields = with_current_names(value) if isinstance(value, dict) else {}
        version = fields.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise InputError(
                f"dataset format version {version!r} is not supported; "
                f"this version reads {FORMAT_VERSION}",
                where=where,
                hint="Prepare the dataset again with this version of dsi-toolkit",
            )
        try:
            for part in ("dropped", "noted"):
                fields[part] = {
                    name: ExampleCounter(**counter) for name, counter in fields[part].items()
                }
            return cls(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"dataset.json is damaged ({error})", where=where) from None


class Dataset:
    """An open Dataset folder; tables are read on demand.

    Args:
        path: The folder.
        info: The content of its `dataset.json`.
    """

    def __init__(self, path: Path, info: DatasetInfo) -> None:
        self.path = path
        self.info = info

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Dataset:
        """Opens the Dataset in the folder `path`; reads `dataset.json` only.

        Raises:
            InputError: The folder holds no Dataset, or one of another format version.
        """
        path = as_path(path, "path")
        if not (path / "dataset.json").is_file():
            problem = "a file, not a dataset folder" if path.is_file() else "no such folder"
            raise InputError(
                "not a dataset" if path.is_dir() else problem,
                where=path,
                hint="Create one with: dsi prepare SOURCE --out DATASET",
            )
        return cls(
            path, DatasetInfo.from_json(read_json(path / "dataset.json"), path / "dataset.json")
        )

    @cached_property
    def corpus(self) -> datasets.Dataset:
        """The documents: columns doc_id, title, text, url; memory-mapped."""
        return arrow.open_dataset(self.path / "corpus")

    @cached_property
    def queries(self) -> datasets.Dataset:
        """The labeled queries: columns query_id, text, origin; memory-mapped."""
        return arrow.open_dataset(self.path / "queries")

    @cached_property
    def qrels(self) -> datasets.Dataset:
        """The judgments: columns query_id, doc_id, relevance (int32), split; memory-mapped."""
        return arrow.open_dataset(self.path / "qrels")

    @cached_property
    def doc_ids(self) -> list[str]:
        """The document ids, in corpus order."""
        return [doc_id for (doc_id,) in arrow.read_rows(self.path / "corpus", ["doc_id"])]

    def documents(self) -> Iterator[Document]:
        """Yields the documents in corpus order, without importing `datasets`."""
        folder = self.path / "corpus"
        stored = arrow.columns_of(folder)
        columns = [
            name for name in CORPUS_COLUMNS if name in stored or name not in OPTIONAL_COLUMNS
        ]
        for row in arrow.read_rows(folder, columns):
            yield Document(*row)

    def query_texts(self) -> dict[str, str]:
        """Returns the labeled queries: query_id -> text, in the order of the table."""
        return dict(arrow.read_rows(self.path / "queries", ["query_id", "text"]))

    def qrels_of(self, split: str) -> dict[str, dict[str, int]]:
        """Returns the judgments of one split: query_id -> {doc_id: relevance}.

        Args:
            split: "train", "dev" or "test"; a split without judgments gives an empty dict.

        Raises:
            InputError: There is no split of that name.
        """
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}", hint=f"Choose from: {', '.join(SPLITS)}")
        judgments: dict[str, dict[str, int]] = {}
        for query_id, doc_id, relevance, its_split in arrow.read_rows(
            self.path / "qrels", list(QREL_COLUMNS)
        ):
            if its_split == split:
                judgments.setdefault(query_id, {})[doc_id] = relevance
        return judgments

    @property
    def generators(self) -> list[str]:
        """The names of the generators whose pseudo-queries are complete, sorted."""
        return sorted(file.parent.name for file in self.path.glob("pseudo/*/generator.json"))

    def pseudo_queries(self, generator: str | None = None) -> datasets.Dataset:
        """Returns pseudo-queries: columns query_id, doc_id, text, origin; memory-mapped.

        Args:
            generator: The generator that wrote them; None for all generators. The table is
                empty when there is none.

        Raises:
            InputError: That generator has not been run.
        """
        import datasets

        if generator is not None and generator not in self.generators:
            raise InputError(
                f"the dataset has no pseudo-queries of the generator {generator!r}",
                where=self.path,
                hint="Generate them with: "
                + command_line("queries", self.path, "--generator", generator),
            )
        names = self.generators if generator is None else [generator]
        if not names:
            return datasets.Dataset.from_dict(
                {name: [] for name in PSEUDO_COLUMNS},
                features=datasets.Features(
                    {name: datasets.Value(kind) for name, kind in PSEUDO_COLUMNS.items()}
                ),
            )
        return datasets.concatenate_datasets(
            [arrow.open_dataset(self.path / "pseudo" / name) for name in names]
        )

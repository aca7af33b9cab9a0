"""The source interface, its options, and the registry."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal, get_args

from data_prep.checks import Options, refuse_unread
from data_prep.dataset import Document, ExampleCounter, Qrel, Query
from data_prep.errors import InputError
from data_prep.fetching import Download
from data_prep.marks import Advanced
from data_prep.registry import Registry
from data_prep.standard_input import standard_input

Format = Literal["jsonl", "json", "csv", "tsv", "parquet"]
FORMATS: tuple[str, ...] = get_args(Format)
"""Table formats accepted by `--format`."""


@dataclass(frozen=True)
class SourceOptions(Options):
    """Column names and further files of a source.

    None selects the first column with a common name (`id`, `_id`, `doc_id`, ...).
    """

    id_column: str | None = None
    """Column of the document id; default id, _id, doc_id, docid, docno or pid."""
    title_column: str | None = None
    """Column of the title; default title or headline, if present."""
    text_column: str | None = None
    """Column of the text; default text, body, contents, content, passage or document."""
    url_column: Advanced[str | None] = None
    """Column of the URL, for the identifier kind url; default url or link, if present."""
    number_lines: Advanced[bool] = False
    """Use line (or row) numbers, from 1, as document ids."""
    header: Advanced[tuple[str, ...] | None] = None
    """Column names of a CSV or TSV file without a header line, such as id,text."""
    format: Advanced[Format | None] = None
    """Format of a table without a telling suffix, such as standard input."""
    table: Advanced[str | None] = None
    """Table or view of an SQLite database; required if there are several."""
    split: Literal["files", "headings"] = "files"
    """Document unit in a folder of text: files, or headings for one document per heading."""
    encoding: Advanced[str] = "utf-8"
    """Encoding of the text files."""
    queries: str | None = None
    """File with labeled queries: JSONL, JSON, CSV, TSV (`id<tab>text`), Parquet or TREC topics."""
    train_qrels: str | None = None
    """Training judgments: a file of TREC qrels, or a table."""
    dev_qrels: str | None = None
    """Development judgments, for choosing settings."""
    test_qrels: str | None = None
    """Test judgments, for reported figures."""
    query_id_column: Advanced[str | None] = None
    """Column of the query id in the query file."""
    query_text_column: Advanced[str | None] = None
    """Column of the query text in the query file."""
    qrels_query_column: Advanced[str | None] = None
    """Column of the query id in the judgments."""
    qrels_doc_column: Advanced[str | None] = None
    """Column of the document id in the judgments."""
    qrels_relevance_column: Advanced[str | None] = None
    """Column of the relevance grade in the judgments; without it, every judgment is relevant."""
    topic_field: Advanced[str] = "title"
    """Field of a TREC topic used as the query: title, desc or narr."""
    subset: Advanced[str | None] = None
    """Configuration of a Hugging Face dataset."""
    documents_split: Advanced[str | None] = None
    """Split of a Hugging Face dataset with the documents; required if there are several."""
    release: Advanced[str | None] = None
    """Folder with the public release of a named benchmark; downloaded by default."""
    any_size: Advanced[bool] = False
    """Accept a named benchmark whose size differs from its recipe."""


class Source(ABC):
    """Documents, queries and judgments from one place.

    Args:
        argument: The argument of the user, without the prefix.
        options: Column names and further files.
    """

    prefix: ClassVar[str]
    """`PREFIX:ARGUMENT` always means this source."""
    form: ClassVar[str]
    """The form of an argument of this source, for messages."""
    place: ClassVar[int] = 9
    """Position in the list of sources; the most common ones come first."""
    uses: ClassVar[frozenset[str]] = frozenset()
    """Names of the options that this source uses."""
    drop_duplicate_texts: bool = False
    license: str = "unknown"
    passed_over: dict[str, ExampleCounter]
    """Reason -> records that are not documents; filled in by `documents`."""
    noted: dict[str, ExampleCounter]
    """Note -> the documents that it applies to; filled in by `documents`."""
    download: Download | None = None
    """What it downloads; None if nothing, or nothing that is known."""

    def __init__(self, argument: str, options: SourceOptions) -> None:
        self.passed_over, self.noted = {}, {}
        self.name = Path(argument).name.split(".")[0] or Path(argument).resolve().name
        self.source = argument
        self.options = options

    @classmethod
    @abstractmethod
    def accepts(cls, argument: str) -> bool:
        """Returns whether this source accepts an argument without a prefix."""

    @abstractmethod
    def documents(self) -> Iterable[Document]:
        """Yields the documents, in corpus order."""

    @abstractmethod
    def queries(self) -> Iterable[Query]:
        """Yields the labeled queries."""

    @abstractmethod
    def qrels(self) -> Iterable[Qrel]:
        """Yields the judgments."""


def refuse_unused(uses: frozenset[str], form: str, options: SourceOptions) -> None:
    """Refuses given options that have no effect.

    Args:
        uses: Names of the options that have an effect.
        form: Description of the input, for the message.
        options: The options.

    Raises:
        InputError: An option outside `uses` was given.
    """
    used = ", ".join(map(options.option, sorted(uses)))
    refuse_unread(
        options,
        {entry.name for entry in fields(options)} - uses,
        f"for {form}",
        hint=f"It supports: {used}" if used else "It does not support these options",
    )


SOURCES: Registry[type[Source]] = Registry("source")


def existing(path: str | os.PathLike[str], noun: str = "file or folder") -> Path:
    """Returns `path` as a Path; `-` is standard input.

    Raises:
        InputError: The path does not exist; the message calls it a `noun`.
    """
    meant = standard_input(path)
    if not meant.exists():
        raise InputError(f"no such {noun}", where=path)
    return meant

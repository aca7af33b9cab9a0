"""What every source is: the interface, the options, the registry."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

from data_prep.dataset import Document, Qrel, Query
from data_prep.errors import InputError
from data_prep.once import standard_input
from data_prep.registry import Registry


@dataclass(frozen=True)
class SourceOptions:
    """Where a source finds what, where the names are not the usual ones.

    A column left at None is looked for under its usual names (`id`, `_id`, `doc_id`, ...).
    """

    id_column: str | None = None
    """Column of the document id."""
    title_column: str | None = None
    """Column of the title; a source need not have one."""
    text_column: str | None = None
    """Column of the text."""
    url_column: str | None = None
    """Column of the URL; a source need not have one."""
    number_lines: bool = False
    """Use the number of the line (or row), counted from 1, as document id."""
    header: tuple[str, ...] | None = None
    """Names of the columns of a CSV or TSV document file that has no header line."""
    encoding: str = "utf-8"
    """Encoding of the text files."""
    queries: str | None = None
    """File of the labelled queries: JSONL, CSV, TSV or TREC topics."""
    train_qrels: str | None = None
    """File of the judgements to train on: TREC qrels, TSV, CSV or JSONL."""
    dev_qrels: str | None = None
    """File of the judgements to choose settings by."""
    test_qrels: str | None = None
    """File of the judgements to report."""
    query_id_column: str | None = None
    """Column of the query id in the query file."""
    query_text_column: str | None = None
    """Column of the query text in the query file."""
    qrels_query_column: str | None = None
    """Column of the query id in the judgements."""
    qrels_doc_column: str | None = None
    """Column of the document id in the judgements."""
    qrels_relevance_column: str | None = None
    """Column of the relevance in the judgements; every judgement means relevant without one."""
    topic_field: str = "title"
    """Field of a TREC topic that is the query: title, desc or narr."""
    subset: str | None = None
    """Configuration of a Hugging Face dataset."""
    documents_split: str | None = None
    """Split of a Hugging Face dataset that holds the documents; needed where it has several."""
    release: str | None = None
    """Folder of the public release that a named benchmark is made of; None to fetch it."""
    any_size: bool = False
    """Let a named benchmark come out at another size than its recipe says."""


class Source(ABC):
    """Documents, queries and judgements from one place.

    Args:
        argument: What the user gave, without the prefix.
        options: Column names and further files.
    """

    prefix: ClassVar[str]
    """`PREFIX:ARGUMENT` always means this source."""
    form: ClassVar[str]
    """What an argument of this source looks like, for messages."""
    uses: ClassVar[frozenset[str]] = frozenset()
    """The names of the options that mean something here."""
    drop_duplicate_texts: bool = False
    licence: str = "unknown"

    def __init__(self, argument: str, options: SourceOptions) -> None:
        self.name = Path(argument).name.split(".")[0] or Path(argument).resolve().name
        self.source = argument
        self.options = options

    @classmethod
    @abstractmethod
    def accepts(cls, argument: str) -> bool:
        """Says whether an argument without a prefix is meant for this source."""

    @abstractmethod
    def documents(self) -> Iterable[Document]:
        """Yields the documents, in corpus order."""

    @abstractmethod
    def queries(self) -> Iterable[Query]:
        """Yields the labelled queries."""

    @abstractmethod
    def qrels(self) -> Iterable[Qrel]:
        """Yields the judgements."""


def refuse_unused(uses: frozenset[str], form: str, options: SourceOptions) -> None:
    """Refuses options that were given and mean nothing.

    Args:
        uses: The names of those that mean something.
        form: What is read, for the message.
        options: The options.

    Raises:
        InputError: One of them was given, and is none of `uses`.
    """
    default = SourceOptions()
    for entry in fields(options):
        given = getattr(options, entry.name) != getattr(default, entry.name)
        if given and entry.name not in uses:
            flag = "--" + entry.name.replace("_", "-")
            used = ", ".join("--" + name.replace("_", "-") for name in sorted(uses))
            raise InputError(
                f"{flag} means nothing for {form}",
                hint=f"It takes: {used}" if used else "It takes no such options",
            )


SOURCES: Registry[type[Source]] = Registry("source")


def existing(path: str | os.PathLike[str], noun: str = "file or folder") -> Path:
    """Returns `path` as a Path; `-` as that of standard input.

    Raises:
        InputError: Nothing is there; the message calls it a `noun`.
    """
    meant = standard_input(path)
    if not meant.exists():
        raise InputError(f"no such {noun}", where=path)
    return meant

"""Tables with named columns: one document per record of a JSONL, CSV or TSV file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.sources.base import SOURCES, SourceOptions, existing
from data_prep.sources.judged import JudgedByFiles
from data_prep.sources.records import (
    TABLE_SUFFIXES,
    Column,
    as_id,
    as_text,
    pick,
    records,
    suffix,
    with_first,
)

ID_NAMES = ("id", "_id", "doc_id", "docid", "docno", "pid")
TITLE_NAMES = ("title", "headline")
TEXT_NAMES = ("text", "body", "contents", "content", "passage", "document")
URL_NAMES = ("url", "link")
DOCUMENT_OPTIONS = frozenset(
    {"id_column", "title_column", "text_column", "url_column", "number_lines"}
)


@SOURCES.register("table")
class Table(JudgedByFiles):
    """A JSONL, CSV or TSV file; queries and judgements, if any, in files of their own."""

    prefix = "table"
    form = f"a table ({', '.join(TABLE_SUFFIXES)}; .gz may follow)"
    uses = JudgedByFiles.uses | DOCUMENT_OPTIONS | {"header"}

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        self.path = existing(argument)
        if suffix(self.path) not in TABLE_SUFFIXES:
            raise InputError(
                "not a table by its name", where=argument, hint=f"Give it as {self.form}"
            )

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Takes a file whose suffix says JSONL, CSV or TSV."""
        return suffix(Path(argument)) in TABLE_SUFFIXES and Path(argument).is_file()

    def documents(self) -> Iterator[Document]:
        """Yields one document per record."""
        header, encoding = self.options.header, self.options.encoding
        rows = records(self.path, header=header, encoding=encoding)
        yield from documents_of_records(rows, self.options, str(self.path))


def documents_of_records(
    rows: Iterable[tuple[int, dict[str, Any]]], options: SourceOptions, where: str
) -> Iterator[Document]:
    """Yields a document per record, from the columns that `options` names.

    Args:
        rows: (line or row number, record).
        options: The names of the columns.
        where: The file or dataset, for messages.

    Raises:
        InputError: A column is missing, or a field is of the wrong type.
    """
    first, all_rows = with_first(iter(rows))
    if not first:
        return
    headed = suffix(Path(where)) in (".csv", ".tsv") and options.header is None
    id_column = None
    if not options.number_lines:
        id_column = pick(
            first,
            options.id_column,
            ID_NAMES,
            what="document id",
            option="--id-column (or count the lines with --number-lines)",
            where=where,
            headed=headed,
        )
    columns = [
        Column(
            chosen,
            usual,
            what=what,
            option=f"--{what.lower()}-column",
            where=where,
            required=what == "text",
            headed=headed,
        )
        for what, chosen, usual in (
            ("title", options.title_column, TITLE_NAMES),
            ("text", options.text_column, TEXT_NAMES),
            ("URL", options.url_column, URL_NAMES),
        )
    ]
    for number, record in all_rows:
        place = f"{where}:{number}"
        doc_id = str(number) if id_column is None else as_id(record, id_column, place)
        title, text, url = (as_text(record, column.name_in(record), place) for column in columns)
        yield Document(doc_id, title, text, url)
    for column in columns:
        column.refuse_missing()

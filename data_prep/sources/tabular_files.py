"""Tables with named columns: one document per record of a JSONL, JSON, CSV or TSV file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from data_prep.dataset import Document
from data_prep.files import is_stream
from data_prep.sources.base import SOURCES, SourceOptions, existing
from data_prep.sources.judged import JudgedByFiles
from data_prep.sources.records import (
    HEADED_SUFFIXES,
    JSON_SUFFIXES,
    Column,
    as_id,
    as_text,
    kind_of,
    pick_column,
    records,
    suffix,
    with_first,
)
from data_prep.standard_input import standard_input

ID_NAMES = ("id", "_id", "doc_id", "docid", "docno", "pid")
TITLE_NAMES = ("title", "headline")
TEXT_NAMES = ("text", "body", "contents", "content", "passage", "document")
URL_NAMES = ("url", "link")
DOCUMENT_OPTIONS = frozenset(
    {"id_column", "title_column", "text_column", "url_column", "number_lines"}
)


@SOURCES.register("table")
class Table(JudgedByFiles):
    """A JSONL, JSON, CSV or TSV file, or a pipe; queries and judgments are in separate files."""

    prefix = "table"
    form = (
        f"a table, one document per record ({', '.join((*JSON_SUFFIXES, *HEADED_SUFFIXES))}; .gz, "
        ".bz2, .xz or .zst may follow), or - for standard input"
    )
    place = 2
    uses = JudgedByFiles.uses | DOCUMENT_OPTIONS | {"header", "format"}

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        self.path = existing(argument)
        self.kind = kind_of(self.path, options.format)
        if is_stream(self.path):
            self.name = "documents"

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts a file with a suffix of JSONL, JSON, CSV or TSV, and any pipe."""
        path = standard_input(argument)
        has_known_suffix = suffix(path) in (*JSON_SUFFIXES, *HEADED_SUFFIXES) and path.is_file()
        return has_known_suffix or is_stream(path)

    def documents(self) -> Iterator[Document]:
        """Yields one document per record."""
        header, encoding = self.options.header, self.options.encoding
        rows = records(self.path, header=header, encoding=encoding, kind=self.kind)
        headed = self.kind in HEADED_SUFFIXES and header is None
        yield from documents_of_records(rows, self.options, str(self.path), headed)


def document_columns(
    columns: Sequence[str], options: SourceOptions, where: str
) -> dict[str, str | None]:
    """Returns the columns to read from a table with a schema: id, title, text and URL.

    Args:
        columns: All its columns.
        options: Column names given by the user.
        where: The file or dataset, for messages.

    Returns:
        "id", "title", "text" and "url" -> column; None if there is none.

    Raises:
        InputError: A column is missing.
    """
    chosen: dict[str, str | None] = {}
    for what, name, usual, noun_phrase in (
        ("id", options.id_column, ID_NAMES, "document id"),
        ("title", options.title_column, TITLE_NAMES, "title"),
        ("text", options.text_column, TEXT_NAMES, "text"),
        ("url", options.url_column, URL_NAMES, "URL"),
    ):
        numbered = what == "id" and options.number_lines
        more = " (or count the rows with --number-lines)" if what == "id" else ""
        chosen[what] = (
            None
            if numbered
            else pick_column(
                columns,
                name,
                usual,
                what=noun_phrase,
                option=f"--{what}-column{more}",
                where=where,
                required=what in ("id", "text"),
            )
        )
    return chosen


def documents_of_records(
    rows: Iterable[tuple[int, dict[str, Any]]],
    options: SourceOptions,
    where: str,
    headed: bool = False,
) -> Iterator[Document]:
    """Yields one document per record, from the columns named by `options`.

    Args:
        rows: (line or row number, record).
        options: The names of the columns.
        where: The file or dataset, for messages.
        headed: Whether the columns come from a header line.

    Raises:
        InputError: A column is missing, or a field has the wrong type.
    """
    first, all_rows = with_first(iter(rows))
    if not first:
        return
    id_column = None
    if not options.number_lines:
        id_column = pick_column(
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

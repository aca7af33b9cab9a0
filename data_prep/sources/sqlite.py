"""A table or view of an SQLite database, one document per row."""

from __future__ import annotations

import contextlib
import sqlite3
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.sources.base import SOURCES, SourceOptions, existing
from data_prep.sources.judged import JudgedByFiles
from data_prep.sources.tabular_files import DOCUMENT_OPTIONS, document_columns, documents_of_records

SUFFIXES = (".sqlite", ".sqlite3", ".db")
WAIT = 5.0
"""Seconds to wait for another process to finish writing."""
_BEGINNING = b"SQLite format 3\0"


@SOURCES.register("sqlite")
class Sqlite(JudgedByFiles):
    """A database read in one read-only transaction: concurrent writes are not visible."""

    prefix = "sqlite"
    form = f"a table of an SQLite database ({', '.join(SUFFIXES)}; --table names it)"
    place = 4
    uses = JudgedByFiles.uses | DOCUMENT_OPTIONS | {"table"}

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        self.path = existing(argument)
        if not _is_database(self.path):
            raise InputError("not an SQLite database", where=argument)
        with self._opened() as database:
            self.table = self._table_in(database)
            description = database.execute(
                f"select * from {_quoted(self.table)} limit 0"
            ).description
        self.where = f"{argument}, table {self.table}"
        self.columns = document_columns([name for name, *_ in description], options, self.where)

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts a file with the SQLite header, whatever its name, and one with a known suffix."""
        path = Path(argument)
        return _is_database(path) or (path.is_file() and path.suffix.lower() in SUFFIXES)

    def documents(self) -> Iterator[Document]:
        """Yields one document per row, in SQLite's order."""
        yield from documents_of_records(self._rows(), self.options, self.where)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        names = list(dict.fromkeys(filter(None, self.columns.values())))
        chosen = ", ".join(map(_quoted, names))
        with self._opened() as database:
            rows = database.execute(f"select {chosen} from {_quoted(self.table)}")
            for number, row in enumerate(rows, 1):
                yield number, dict(zip(names, row, strict=True))

    def _table_in(self, database: sqlite3.Connection) -> str:
        """Returns the name of the table to read: the given one, or the only one."""
        tables = [
            name
            for (name,) in database.execute(
                "select name from sqlite_master where type in ('table', 'view')"
                " and name not like 'sqlite\\_%' escape '\\' order by name"
            )
        ]
        requested = self.options.table
        if requested is None and len(tables) == 1:
            return str(tables[0])
        if requested not in tables:
            problem = f"{len(tables)} tables" if requested is None else f"no table {requested!r}"
            raise InputError(
                f"{problem}; available: {', '.join(tables) or 'none'}",
                where=self.path,
                hint="Specify the table of the documents with --table",
            )
        return str(requested)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Opens the database read-only.

        Raises:
            InputError: Another process keeps it locked for too long, or it is damaged.
        """
        address = f"file:{urllib.parse.quote(str(self.path.resolve()))}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(address, timeout=WAIT, uri=True)) as database:
                database.execute("begin")
                yield database
        except sqlite3.OperationalError as error:
            locked = "locked" in str(error) or "busy" in str(error)
            raise InputError(
                "another process is writing to it" if locked else f"SQLite reports: {error}",
                where=self.path,
                hint="Wait until it is finished, then run this again" if locked else None,
            ) from None
        except sqlite3.DatabaseError as error:
            raise InputError(f"the SQLite database is damaged ({error})", where=self.path) from None


def _is_database(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_BEGINNING)) == _BEGINNING


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

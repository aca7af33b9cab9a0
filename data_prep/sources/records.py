"""Records of JSONL, JSON, CSV, TSV and Parquet files, with errors that name the line or row."""

from __future__ import annotations

import csv
import functools
import itertools
import json
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.compression import without_compression
from data_prep.errors import InputError
from data_prep.files import is_stream
from data_prep.limits import LONGEST_RECORD
from data_prep.sources.base import FORMATS
from data_prep.sources.json_array import array_items, begins_with
from data_prep.sources.lines import lines
from data_prep.sources.parquet_rows import SUFFIX as PARQUET
from data_prep.sources.parquet_rows import parquet_rows, refuse_repeated
from data_prep.text_processing import as_number

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
HEADED_SUFFIXES = (".csv", ".tsv")
NAMING_SUFFIXES = (*JSON_SUFFIXES, PARQUET)
"""Formats whose records name their own columns, without a header line."""
TABLE_SUFFIXES = (*NAMING_SUFFIXES, *HEADED_SUFFIXES)

_MOST_NAMES = 1_000
"""Maximum number of columns listed in a message."""


def suffix(path: Path) -> str:
    """Returns the suffix of the format in lowercase, ignoring compression suffixes."""
    return Path(without_compression(path.name)).suffix


def kind_of(path: Path, given: str | None = None) -> str:
    """Returns the suffix of the format of a table, whatever its file name.

    Args:
        path: A file or pipe; without a suffix, it is read as JSON if it begins like JSON.
        given: The format that the user named, one of `FORMATS`.

    Raises:
        InputError: The format is unknown.
    """
    if given is not None:
        return f".{given}"
    if suffix(path) in TABLE_SUFFIXES:
        return suffix(path)
    first = begins_with(path) if is_stream(path) else ""
    if first in ("{", "["):
        return ".json"
    raise InputError(
        "cannot tell the format of this table",
        where=path,
        hint=f"Specify it with --format: {', '.join(FORMATS)}",
    )


def records(
    path: Path,
    *,
    header: Sequence[str] | None = None,
    encoding: str = "utf-8",
    kind: str | None = None,
    columns: Sequence[str] | None = None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, record) of a table; JSON arrays and Parquet number their records.

    A `.json` file holds an array of objects, or one object per line. A TSV field is the literal
    text between two tabs, quotes included. CSV follows RFC 4180: a quoted field may contain commas
    and line ends.

    Args:
        path: The file, optionally with a compression suffix.
        header: The columns of a CSV or TSV file without a header line.
        encoding: Encoding of the file.
        kind: The suffix of its format; None for that of the file name.
        columns: Columns to read from Parquet; None for all.

    Raises:
        InputError: A line is not JSON, or has more or fewer fields than the header.
    """
    kind = kind or suffix(path)
    if header is not None and kind in NAMING_SUFFIXES:
        raise InputError(
            "--header is for CSV and TSV files; JSON and Parquet contain their column names",
            where=path,
            hint="Omit --header, or name columns with --id-column and similar options",
        )
    if kind == PARQUET:
        return parquet_rows(path, columns)
    if kind == ".json" and begins_with(path) != "{":
        return _array_records(path, encoding)
    if kind in JSON_SUFFIXES:
        return _json_records(path, encoding)
    numbered = lines(path, encoding)
    rows = _csv_rows(path, numbered) if kind == ".csv" else _tsv_rows(numbered)
    return _table_records(path, rows, header)


def _json_records(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines(path, encoding):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_object)
        except InputError:
            raise
        except json.JSONDecodeError as error:
            raise InputError(
                f"not JSON ({error.msg})",
                where=f"{path}:{number}",
                hint="Write one JSON object per line",
            ) from None
        except RecursionError:
            raise InputError("the JSON is nested too deeply", where=f"{path}:{number}") from None
        except ValueError:
            raise InputError(
                "a number has too many digits",
                where=f"{path}:{number}",
                hint="Write it as a string, in quotes",
            ) from None
        yield number, _checked(record, f"{path}:{number}", "Write one JSON object per line")


def _array_records(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, record in array_items(path, encoding, _object):
        yield number, _checked(record, f"{path}:{number}", "Write an array of objects")


def _checked(record: Any, where: str, hint: str) -> dict[str, Any]:
    """Returns a value if it is an object without duplicate keys."""
    if not isinstance(record, dict):
        raise InputError("not a JSON object", where=where, hint=hint)
    if isinstance(record, _Repeating):
        raise InputError(
            f"the key {record.key!r:.60} appears twice",
            where=where,
            hint="Use each key of an object once",
        )
    return record


class _Repeating(dict[str, Any]):
    """A JSON object with a duplicate key; JSON does not define which value counts."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    repeating = _Repeating(record)
    keys = [key for key, _ in pairs]
    repeating.key = next(key for key in record if keys.count(key) > 1)
    return repeating


def _tsv_rows(numbered: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    for number, line in numbered:
        if line.strip():
            yield number, line.rstrip("\r\n").split("\t")


def _csv_rows(path: Path, numbered: Iterable[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(LONGEST_RECORD)
    reader = csv.reader((line for _, line in numbered), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"not CSV ({error})", where=f"{path}:{start}") from None
        if row:
            yield start, row


def _table_records(
    path: Path, rows: Iterator[tuple[int, list[str]]], header: Sequence[str] | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    named = header is not None
    if header is None:
        header = next((row for _, row in rows), None)
        if header is None:
            return
    refuse_repeated(header, path)
    for number, row in rows:
        if len(row) != len(header):
            needed = len(header)
            expected = f"needs {needed} ({', '.join(header)})" if named else f"header has {needed}"
            raise InputError(
                f"{len(row)} {'field' if len(row) == 1 else 'fields'}, but "
                f"{'each line' if named else 'the'} {expected}: {row!r:.80}",
                where=f"{path}:{number}",
                hint="Write one field per column in every record",
            )
        yield number, dict(zip(header, row, strict=True))


def pick_column(
    columns: Iterable[str],
    chosen: str | None,
    usual: Sequence[str],
    *,
    what: str,
    option: str,
    where: Path | str,
    required: bool = True,
    headed: bool = False,
) -> str | None:
    """Returns the column to read: the chosen one, or the first existing usual name.

    Args:
        columns: The existing columns.
        chosen: The column that the user named, or None.
        usual: Usual names of the column, preferred ones first.
        what: Content of the column, for the message.
        option: Option that names the column, for the message.
        where: The file, for the message.
        required: Whether a missing column is an error; otherwise None is returned.
        headed: Whether the columns come from a header line, for the message.

    Raises:
        InputError: The column does not exist; the message lists those that do.
    """
    columns = list(columns)
    if chosen is not None and chosen in columns:
        return chosen
    if chosen is None:
        column = find_usual(columns, usual)
        if column is not None:
            refuse_alike(columns, column, what=what, option=option, where=where)
        if column is not None or not required:
            return column
    missing = f"no column {chosen!r}" if chosen is not None else f"no column for the {what}"
    raise InputError(
        f"{missing}; available: {', '.join(f'{name!r:.40}' for name in columns)}",
        where=where,
        hint=f"Specify the column of the {what} with {option}"
        + (", or all columns with --header where the file names none" if headed else ""),
    )


def find_usual(columns: Iterable[str], usual: Sequence[str]) -> str | None:
    """Returns the first usual name that exists, ignoring case, blanks and `-` versus `_`."""
    by_key = {_folded(column): column for column in reversed(list(columns))}
    exact = set(by_key.values())
    return next(
        (
            name if name in exact else by_key[_folded(name)]
            for name in usual
            if _folded(name) in by_key
        ),
        None,
    )


def refuse_alike(
    columns: Iterable[str], chosen: str, *, what: str, option: str, where: Path | str
) -> None:
    """Refuses two columns with equivalent names: only the user knows which one to read.

    Args:
        columns: The existing columns.
        chosen: The one that would be read.
        what: Content of the column, for the message.
        option: Option that names the column, for the message.
        where: The file, for the message.

    Raises:
        InputError: Another column has the same name but for case, blanks and `-` versus `_`.
    """
    alike = [column for column in columns if _folded(column) == _folded(chosen)]
    if len(alike) > 1:
        raise InputError(
            f"the columns {' and '.join(f'{name!r:.40}' for name in alike)} have one name",
            where=where,
            hint=f"Specify the column of the {what} with {option}",
        )


@functools.lru_cache(4096)
def _folded(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


class Column:
    """A column that records may lack: it is looked up in each record.

    In a table with a header (`headed`), the first record has all columns. In JSON, later records
    may have keys that the first one lacks; null counts as missing.

    Args:
        chosen: The column that the user named, or None.
        usual: Usual names of the column, preferred ones first.
        what: Content of the column, for the message.
        option: Option that names the column, for the message.
        where: The file, for the message.
        required: Whether it is an error if no record has it.
        headed: Whether the columns come from a header line.
    """

    def __init__(
        self,
        chosen: str | None,
        usual: Sequence[str],
        *,
        what: str,
        option: str,
        where: Path | str,
        required: bool = False,
        headed: bool = False,
    ) -> None:
        self._names = list(usual) if chosen is None else [chosen]
        self._usual = usual if chosen is None else ()
        self._required = required or chosen is not None
        self._found: str | None = None
        self._seen: dict[str, None] = {}
        self._without_alike: set[tuple[str, ...]] = set()
        self._headed = headed
        self._missing: dict[str, Any] = {
            "chosen": chosen,
            "usual": usual,
            "what": what,
            "option": option,
            "where": where,
            "required": self._required,
            "headed": headed,
        }

    def name_in(self, record: Mapping[str, Any]) -> str | None:
        """Returns the name of the column in a record, or None.

        Raises:
            InputError: The column is required, but missing in the header, or two columns have its
                name.
        """
        name = self._name_in(record)
        if name is not None and self._usual:
            columns = tuple(record)
            if columns not in self._without_alike:
                about = {key: self._missing[key] for key in ("what", "option", "where")}
                refuse_alike(columns, name, **about)
                if len(self._without_alike) < _MOST_NAMES:
                    self._without_alike.add(columns)
        return name

    def _name_in(self, record: Mapping[str, Any]) -> str | None:
        for name in self._names:
            if name in record:
                if self._found is None:
                    self._found = name
                if record[name] is not None:
                    return name
        other = find_usual(record, self._usual)
        if other is not None:
            self._found = self._found or other
            self._names.append(other)
            return other if record[other] is not None else None
        if self._found is None and len(self._seen) < _MOST_NAMES:
            self._seen.update(dict.fromkeys(record))
            if self._headed:
                self.refuse_missing()
        return None

    def refuse_missing(self) -> None:
        """Raises InputError at the end of a file if the column is required and no record had it."""
        if self._required and self._found is None and self._seen:
            pick_column(self._seen, **self._missing)


def with_first(
    items: Iterator[tuple[int, dict[str, Any]]],
) -> tuple[dict[str, Any], Iterator[tuple[int, dict[str, Any]]]]:
    """Returns the first record (empty if there is none) and an iterator over all of them."""
    first = next(items, None)
    return ({}, iter(())) if first is None else (first[1], itertools.chain([first], items))


def as_id(record: Mapping[str, Any], column: str, where: str) -> str:
    """Returns an id; JSON integers become strings, as written.

    Raises:
        InputError: The field is missing, or is neither a string nor an integer.
    """
    value = record.get(column)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str) and value.strip():
        return value
    state = "is missing" if column not in record else f"is {value!r:.60}"
    raise InputError(
        f"the id in column {column!r} {state}",
        where=where,
        hint="Ids must be texts or whole numbers",
    )


def as_text(record: Mapping[str, Any], column: str | None, where: str) -> str:
    """Returns a text; a missing field or null is the empty string.

    Raises:
        InputError: The field is not a string.
    """
    value = None if column is None else record.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"column {column!r} holds {value!r:.60}, which is not text", where=where)
    return value


def as_relevance(value: Any, where: str) -> int:
    """Returns a relevance as an integer ("1", 1 and 1.0 are accepted).

    Raises:
        InputError: It is not an integer.
    """
    try:
        number = as_number(value) if isinstance(value, str) else float(value)
        if number is not None and number == int(number) and not isinstance(value, bool):
            if abs(number) < 2**31:
                return int(number)
            raise InputError(f"the relevance {value!r:.60} does not fit in 32 bits", where=where)
    except (TypeError, OverflowError):
        pass
    raise InputError(f"the relevance {value!r:.60} is not a whole number", where=where)

"""Arrow tables on disk, which `datasets.load_from_disk` opens memory-mapped.

They are written with pyarrow alone, batch by batch: writing and checking need neither the import of
`datasets` nor its cache, and the caller sets the fingerprint, so that it does not depend on time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from data_prep.arrow_stream import check_stream, read_stream
from data_prep.errors import InputError
from data_prep.files import read_json, write_json

if TYPE_CHECKING:
    import datasets
    import pyarrow

INTEGERS = ("relevance",)
"""Names of the integer columns; all other columns hold strings."""
BATCH_ROWS = 4096
"""Rows per record batch, which is all that is held in memory while a table is written or read."""


class TableFile:
    """Writes rows to one Arrow stream file, `BATCH_ROWS` at a time.

    Args:
        path: The file to write; its folder must exist.
        columns: Column name -> "string" or "int32", in order.
    """

    def __init__(self, path: Path, columns: dict[str, str]) -> None:
        import pyarrow as pa

        self.rows = 0
        self._schema = pa.schema(
            [(name, pa.type_for_alias(kind)) for name, kind in columns.items()]
        )
        # Absolute: pyarrow and datasets take the home folder for one named `~`.
        self._writer = pa.ipc.new_stream(os.path.abspath(path), self._schema)
        self._pending: list[Sequence[Any]] = []

    def append(self, row: Sequence[Any]) -> None:
        """Adds one row: a value per column, in the order of the columns."""
        self.rows += 1
        self._pending.append(row)
        if len(self._pending) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._pending:
            arrays = [
                pa.array(values, type=field.type)
                for values, field in zip(
                    zip(*self._pending, strict=True), self._schema, strict=True
                )
            ]
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
            self._pending = []

    def __enter__(self) -> TableFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._writer.close()


def describe_table(
    folder: Path, files: Sequence[str], columns: dict[str, str], fingerprint: str
) -> None:
    """Writes the two small files that make `folder` one table for `datasets.load_from_disk`.

    Args:
        folder: Where the Arrow files are.
        files: Their names, in row order.
        columns: Column name -> "string" or "int32", in order.
        fingerprint: The fingerprint by which `datasets` identifies the content, in hexadecimal.
    """
    write_json(
        folder / "dataset_info.json",
        {"features": {name: {"dtype": kind, "_type": "Value"} for name, kind in columns.items()}},
    )
    write_json(
        folder / "state.json",
        {
            "_data_files": [{"filename": name} for name in files],
            "_fingerprint": fingerprint,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        },
    )


def open_dataset(folder: Path) -> datasets.Dataset:
    """Opens a table of `describe_table` by memory map.

    Raises:
        InputError: The folder is not such a table, or one of its files is damaged.
    """
    import datasets

    for file in _files(folder):
        check_stream(file)
    try:
        return datasets.load_from_disk(os.path.abspath(folder), keep_in_memory=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"damaged table ({error})", where=folder) from error


def columns_of(folder: Path) -> list[str]:
    """Returns the names of the columns of a table of `describe_table`.

    Raises:
        InputError: The folder is not such a table.
    """
    described = read_json(folder / "dataset_info.json")
    try:
        return list(described["features"])
    except (KeyError, TypeError) as error:
        raise InputError(f"damaged table ({error})", where=folder) from error


def read_batches(folder: Path, columns: Sequence[str]) -> Iterator[list[list[Any]]]:
    """Yields, batch by batch, the values of some columns as Python lists.

    The files are memory-mapped; only one batch is held as Python objects at a time.

    Raises:
        InputError: The folder is not such a table, or one of its files is damaged.
    """
    for batch in mapped_batches(folder, columns):
        for start in range(0, batch.num_rows, BATCH_ROWS):
            part = batch.slice(start, BATCH_ROWS)
            yield [column.to_pylist() for column in part.columns]


def mapped_batches(folder: Path, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
    """Yields the record batches of a table with some columns, each checked as a whole.

    Their values stay in the memory-mapped files until they are accessed.

    Raises:
        InputError: The folder is not such a table, or one of its files is damaged.
    """
    for file in _files(folder):
        for batch in read_stream(file, list(columns)):
            _check_types(batch.schema, file)
            yield batch


def _check_types(schema: pyarrow.Schema, file: Path) -> None:
    """Raises InputError if a column has another type than the toolkit writes."""
    for field in schema:
        expected = "int32" if field.name in INTEGERS else "string"
        if str(field.type) != expected:
            raise InputError(
                f"damaged table (the column {field.name!r:.60} is {field.type}, not {expected})",
                where=file,
            )


def read_rows(folder: Path, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yields the rows of some columns as tuples, in order."""
    for batch in read_batches(folder, columns):
        yield from zip(*batch, strict=True)


def _files(folder: Path) -> list[Path]:
    """Returns the files of a table, each of them in its folder."""
    state = read_json(folder / "state.json")
    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"damaged table ({error})", where=folder / "state.json") from None
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise InputError(
                f"{name!r:.80} is not a file of this table", where=folder / "state.json"
            )
        if not stat.S_ISREG((folder / name).lstat().st_mode if (folder / name).exists() else 0):
            raise InputError("no such file", where=folder / name)
    return [folder / name for name in names]

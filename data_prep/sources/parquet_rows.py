"""Reads rows of Parquet files with pyarrow, in batches."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import is_stream
from data_prep.sources.base import existing

SUFFIX = ".parquet"
_BATCH = 1024


def parquet_rows(
    path: Path, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (number from 1, row).

    Args:
        path: The file.
        columns: Columns to read; None for all.

    Raises:
        InputError: The file is not Parquet, or is damaged.
    """
    import pyarrow as pa

    file = _opened(path)
    number = 0
    try:
        for batch in file.iter_batches(_BATCH, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"damaged Parquet file ({error!s:.200})", where=path) from None
    except (ValueError, OverflowError) as error:  # such as dates after the year 9999
        raise InputError(
            f"a value cannot be read ({error!s:.200})",
            where=f"{path}, after row {number}",
            hint="Write the file without this column, or with its values as text",
        ) from None


def parquet_columns(path: Path) -> list[str]:
    """Returns the names of the columns of a Parquet file, without reading its rows.

    Raises:
        InputError: The file is not Parquet.
    """
    return list(_opened(path).schema_arrow.names)


def _opened(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    if is_stream(existing(path)):
        raise InputError(
            "Parquet cannot be read from a pipe, because its index is at the end of the file",
            where=path,
            hint="Write it to a file",
        )
    try:
        file = ParquetFile(os.path.abspath(path))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a Parquet file ({error!s:.200})", where=path) from None
    refuse_repeated(file.schema_arrow.names, path)
    return file


def refuse_repeated(columns: Sequence[str], where: Path) -> None:
    """Raises InputError if two columns have the same name; unnamed ones pass."""
    twice = [name for name, count in Counter(columns).items() if count > 1 and name]
    if twice:
        raise InputError(
            f"the column {twice[0]!r:.60} appears twice",
            where=where,
            hint="Give each column a unique name",
        )

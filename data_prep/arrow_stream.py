"""Reads untrusted Arrow streams in memory bounded by the size of their files.

A few bytes of Arrow can expand to gigabytes: through compressed buffers, dictionaries, run-end
encoding, views of one buffer, or columns without a buffer. The toolkit writes none of these, and
refuses a stream that contains them before decoding any of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import InputError

if TYPE_CHECKING:
    import pyarrow

_HEADER = 8
_COMPRESSION = 10
"""Slots of the fields that are read from Arrow's flatbuffers: of a message and a record batch."""


def read_stream(file: Path, columns: list[str] | None = None) -> Iterator[pyarrow.RecordBatch]:
    """Yields the record batches of a memory-mapped file, each checked as a whole.

    Args:
        file: An Arrow stream of texts and numbers.
        columns: The columns to read; None reads all.

    Raises:
        InputError: It is damaged or truncated, has nulls, lacks a column, or expands to more than
            its bytes.
    """
    import pyarrow as pa

    try:
        for message, schema in _messages(file):
            batch = pa.ipc.read_record_batch(message, schema)
            batch = batch.select(columns) if columns is not None else batch
            batch.validate(full=True)
            if any(column.null_count for column in batch.columns):
                raise ValueError("a value is missing")
            yield batch
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, LookupError, struct.error) as error:
        raise InputError(f"damaged table ({error})", where=file) from error


def check_stream(file: Path) -> None:
    """Makes the structural checks of `read_stream` without reading the values.

    Raises:
        InputError: The stream is damaged, or expands to more than its bytes.
    """
    import pyarrow as pa

    try:
        for _ in _messages(file):
            pass
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise InputError(f"damaged table ({error})", where=file) from error


def _messages(file: Path) -> Iterator[tuple[pyarrow.Message, pyarrow.Schema]]:
    """Yields the messages of record batches, and the schema of each."""
    import pyarrow as pa

    with pa.memory_map(str(file)) as source:
        messages = iter(pa.ipc.MessageReader.open_stream(source))
        first = next(messages, None)
        if first is None or first.type != "schema":
            raise ValueError("the schema is missing")
        schema = pa.ipc.read_schema(first)
        for field in schema:
            if not _is_plain(field.type):
                raise ValueError(f"the column {field.name!r:.60} has the type {field.type}")
        for message in messages:
            if message.type != "record batch":
                raise ValueError(f"unexpected message type {message.type!r}")
            if _is_compressed(message.metadata):
                raise ValueError("the data is compressed")
            yield message, schema


def _is_plain(kind: pyarrow.DataType) -> bool:
    """Returns whether every value of a type is stored in bytes of its own."""
    import pyarrow.types as types

    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
    )


def _is_compressed(metadata: pyarrow.Buffer) -> bool:
    """Returns whether the record batch of a message has compressed buffers."""
    content = metadata.to_pybytes()
    (message,) = struct.unpack_from("<I", content)
    header = _field(content, message, _HEADER)
    if header is None:
        raise ValueError("a message has no header")
    (batch,) = struct.unpack_from("<I", content, header)
    return _field(content, header + batch, _COMPRESSION) is not None


def _field(content: bytes, table: int, slot: int) -> int | None:
    """Returns the position of a field in a flatbuffers table, or None if it is absent."""
    (back,) = struct.unpack_from("<i", content, table)
    (size,) = struct.unpack_from("<H", content, table - back)
    if slot >= size:
        return None
    (offset,) = struct.unpack_from("<H", content, table - back + slot)
    return table + offset if offset else None

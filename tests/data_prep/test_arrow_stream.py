"""Arrow streams must not expand beyond their size: those that would are refused unread."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pyarrow as pa
import pytest

from data_prep import arrow
from data_prep.arrow_stream import check_stream, read_stream
from data_prep.errors import InputError

COLUMNS = {"doc_id": "string", "relevance": "int32"}
MEBIBYTE = 1 << 20


def written(file: Path, table: pa.Table, compression: str | None = None) -> Path:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(file, table.schema, options=options) as stream:
        stream.write_table(table)
    return file


def test_batches_come_as_they_were_written(tmp_path):
    with arrow.TableFile(tmp_path / "a.arrow", COLUMNS) as table:
        for number in range(10_000):
            table.append((f"d{number} \N{SNOWMAN}", number))
    rows = [row for batch in read_stream(tmp_path / "a.arrow") for row in batch.to_pylist()]
    assert rows == [
        {"doc_id": f"d{number} \N{SNOWMAN}", "relevance": number} for number in range(10_000)
    ]
    [first, *_] = read_stream(tmp_path / "a.arrow", ["relevance"])
    assert first.schema.names == ["relevance"]


def bomb(name: str) -> pa.Table:
    """Returns a table that takes more memory when it is read than on the disk."""
    letters = "a" * 128 * MEBIBYTE
    values = {
        "zstd": lambda: pa.array([letters]),
        "lz4": lambda: pa.array([letters]),
        "a dictionary": lambda: pa.DictionaryArray.from_arrays([0] * 1000, [letters[:MEBIBYTE]]),
        "a run": lambda: pa.RunEndEncodedArray.from_arrays([2**30], [letters[:MEBIBYTE]]),
        "nothing": lambda: pa.nulls(2**31 - 1),
        "views": lambda: pa.array([letters[:99]] * 9, pa.string_view()),
        "lists": lambda: pa.array([["a"] * 99]),
    }
    return pa.table({"doc_id": values[name]()})


@pytest.mark.parametrize(
    "name", ["zstd", "lz4", "a dictionary", "a run", "nothing", "views", "lists"]
)
def test_what_unpacks_to_more_than_its_bytes_is_refused_unread(name, tmp_path):
    compression = name if name in ("zstd", "lz4") else None
    file = written(tmp_path / "a.arrow", bomb(name), compression)
    assert file.stat().st_size < 8 * MEBIBYTE
    before = pa.default_memory_pool().max_memory()
    for read in (check_stream, lambda file: list(read_stream(file))):
        with pytest.raises(
            InputError, match=r"a\.arrow: damaged table \((the data is compressed|the col)"
        ):
            read(file)
    assert pa.default_memory_pool().max_memory() == before


def test_gaps_missing_columns_and_offsets_that_lead_back_are_refused(tmp_path):
    gap = written(tmp_path / "gap.arrow", pa.table({"doc_id": ["a", None]}))
    with pytest.raises(InputError, match="a value is missing"):
        list(read_stream(gap))
    with pytest.raises(InputError, match=r"gap\.arrow: damaged table"):
        list(read_stream(gap, ["title"]))
    offsets = pa.array([0, MEBIBYTE, 0, MEBIBYTE], pa.int32()).buffers()[1]
    texts = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"a" * MEBIBYTE))
    back = written(tmp_path / "back.arrow", pa.table({"doc_id": texts}))
    with pytest.raises(InputError, match=r"back\.arrow: damaged table"):
        list(read_stream(back))


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_stream_is_read_or_refused(seed, tmp_path):
    file = written(tmp_path / "a.arrow", pa.table({"doc_id": ["a", "bc"], "relevance": [1, 2]}))
    content, rng = bytearray(file.read_bytes()), random.Random(seed)
    for _ in range(rng.randint(1, 3)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
    for read in (check_stream, lambda file: [batch.to_pylist() for batch in read_stream(file)]):
        with contextlib.suppress(InputError):
            read(file)

"""Opens compressed input: gzip, bzip2, xz and Zstandard.

The first bytes of a file decide, and where they say nothing, the suffix of its name: a pipe has no
suffix, and a damaged file must not be taken for text.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.standard_input import open_input

_BEGINNINGS = {
    ".gz": b"\x1f\x8b",
    ".bz2": b"BZh",
    ".xz": b"\xfd7zXZ\x00",
    ".zst": b"\x28\xb5\x2f\xfd",
}
_BLOCK_OF_BZIP2 = b"1AY&SY"
"""What follows `BZh` and a digit; a text may begin with those three letters, too."""
_NAMES = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "Zstandard"}

COMPRESSED_SUFFIXES = tuple(_BEGINNINGS)


def without_compression(name: str) -> str:
    """Returns the name of a file without the suffix of its compression, in lower case."""
    name = name.lower()
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


@contextlib.contextmanager
def open_uncompressed(
    path: str | os.PathLike[str], buffer: int = io.DEFAULT_BUFFER_SIZE
) -> Iterator[io.BufferedReader]:
    """Opens a file or pipe for reading, decompressing it if necessary.

    Args:
        path: The file; `-` for standard input.
        buffer: Bytes read at once.

    Raises:
        InputError: It is damaged, inside the block.
        OSError: It cannot be opened.
    """
    with open_input(path, buffer) as raw:
        kind = _kind(raw.peek(10), Path(path))
        if kind is None:
            yield raw
            return
        try:
            yield io.BufferedReader(_decompressing(raw, kind), buffer)
        except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk, not of the content
            raise InputError(
                f"damaged {_NAMES[kind]} file ({error})",
                where=path,
                hint="Copy or download the file again",
            ) from None


def _kind(head: bytes, path: Path) -> str | None:
    for kind, beginning in _BEGINNINGS.items():
        if head.startswith(beginning) and (kind != ".bz2" or head[4:10] == _BLOCK_OF_BZIP2):
            return kind
    suffix = path.suffix.lower()
    return suffix if suffix in _BEGINNINGS and head else None


def _decompressing(raw: io.BufferedReader, kind: str) -> Any:
    if kind == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if kind == ".bz2":
        return bz2.BZ2File(raw)
    if kind == ".xz":
        return lzma.LZMAFile(raw)
    return _Zstandard(raw)


class _Zstandard(io.RawIOBase):
    """Reads Zstandard with pyarrow, a dependency of `datasets`."""

    def __init__(self, raw: io.BufferedReader) -> None:
        import pyarrow as pa

        self._file = pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

"""The location of a checkpoint: a hub id, a folder, or a GGUF file."""

from __future__ import annotations

import importlib.util
import os
import struct
from pathlib import Path
from typing import BinaryIO

from data_prep.errors import InputError

_AGAIN = "Download the file again"
_MOST_KEYS = 1 << 16
_MOST_ELEMENTS = 4_000_000
"""Elements of all arrays together; large vocabularies have some hundred thousand words."""
_TEXT, _ARRAY = 8, 9
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type -> bytes of a value."""


def checkpoint_location(name: str) -> tuple[str, dict[str, str]]:
    """Returns what transformers should load, and the option that names a GGUF file in it.

    Args:
        name: A hub id, the path of a folder, or that of a GGUF file.

    Raises:
        InputError: It is a GGUF file that is damaged, or the package that reads such files is not
            installed.
    """
    file = Path(name)
    if file.suffix.lower() != ".gguf" or not file.exists() or file.is_dir():
        return name, {}
    if not file.is_file():
        raise InputError("a pipe or device, not a GGUF file", where=file, hint=_AGAIN)
    if importlib.util.find_spec("gguf") is None:
        raise InputError(
            "reading a GGUF file requires the package gguf, which is not installed",
            where=file,
            hint="pip install 'dsi-toolkit[gguf]'",
        )
    _check_metadata(file)
    return str(file.parent), {"gguf_file": file.name}


def _check_metadata(file: Path) -> None:
    """Refuses metadata that would be read for minutes: readers make an object of each element.

    Raises:
        InputError: It is incomplete, or has too many elements.
    """
    try:
        with file.open("rb") as opened:
            reader = _Metadata(opened, file.stat().st_size)
            reader.check()
    except (ValueError, OSError) as error:
        raise InputError(f"not a valid GGUF file ({error})", where=file, hint=_AGAIN) from None


class _Metadata:
    """The keys and values at the beginning of a GGUF file, as llama.cpp's gguf.md describes them.

    Args:
        file: The file.
        size: Its length in bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._elements = 0

    def check(self) -> None:
        """Walks through all values.

        Raises:
            ValueError: They are incomplete, of an unknown type, or too many.
        """
        if self._file.read(4) != b"GGUF":
            raise ValueError("it does not start with GGUF")
        version, tensors, values = struct.unpack("<IQQ", self._bytes(20))
        if version not in (2, 3):
            raise ValueError(f"version {version} is not 2 or 3")
        if max(tensors, values) > _MOST_KEYS:
            raise ValueError(f"{tensors:,} tensors and {values:,} metadata values")
        for _ in range(values):
            self._skip(self._number(8))
            self._value(self._number(4))

    def _bytes(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError("it is truncated")
        return data

    def _number(self, width: int) -> int:
        return int.from_bytes(self._bytes(width), "little")

    def _skip(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise ValueError("it is truncated")
        self._file.seek(count, os.SEEK_CUR)

    def _value(self, kind: int) -> None:
        if kind == _TEXT:
            self._skip(self._number(8))
        elif kind in _WIDTHS:
            self._skip(_WIDTHS[kind])
        elif kind == _ARRAY:
            inner, count = struct.unpack("<IQ", self._bytes(12))
            self._elements += count
            if self._elements > _MOST_ELEMENTS:
                raise ValueError(f"its metadata has over {_MOST_ELEMENTS:,} elements")
            if inner in _WIDTHS:
                self._skip(_WIDTHS[inner] * count)
            elif inner == _TEXT:
                for _ in range(count):
                    self._skip(self._number(8))
            else:
                raise ValueError(f"an array of elements of type {inner}")
        else:
            raise ValueError(f"a value of type {kind}")

"""Repeated reading of input that can be read only once, such as a pipe."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from data_prep.files import is_stream

_SPOOLED: dict[tuple[str, int, int], _SpooledStream] = {}
"""What has been read of each stream, until the process ends."""


class _SpooledStream:
    """A stream, with what has been read of it in an anonymous temporary file."""

    def __init__(self, path: Path) -> None:
        self.stream: BinaryIO | None = path.open("rb", buffering=0)
        self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (lives with the process)
        self.size = 0

    def read(self, position: int, count: int) -> bytes:
        """Returns at most `count` bytes from a position; b"" at the end."""
        if position == self.size and self.stream is not None:
            more = self.stream.read(count)
            if more:
                self.file.seek(self.size)
                self.file.write(more)
                self.size += len(more)
            else:
                self.stream.close()
                self.stream = None
        self.file.seek(position)
        return self.file.read(count)


class _Reader(io.RawIOBase):
    """Reads a stream from its beginning, independently of other readers."""

    def __init__(self, stream: _SpooledStream) -> None:
        self._stream = stream
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        content = self._stream.read(self._position, len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def standard_input(path: str | os.PathLike[str]) -> Path:
    """Returns the path of an argument: `-` is standard input, unless a file has that name."""
    return Path("/dev/stdin") if os.fspath(path) == "-" and not Path("-").exists() else Path(path)


def open_input(
    path: str | os.PathLike[str], buffer: int = io.DEFAULT_BUFFER_SIZE
) -> io.BufferedReader:
    """Opens a file that a user named, at its beginning.

    The content of a pipe or other device can be read only once. It is cached in a temporary file,
    so that this process can open it again.

    Args:
        path: The file; `-` for standard input.
        buffer: Buffer size in bytes.

    Raises:
        OSError: It cannot be opened.
    """
    path = standard_input(path)
    if not is_stream(path):
        return io.BufferedReader(io.FileIO(path), buffer)
    status = os.stat(path)
    key = (os.path.abspath(path), status.st_dev, status.st_ino)
    if key not in _SPOOLED:
        _SPOOLED[key] = _SpooledStream(path)
    return io.BufferedReader(_Reader(_SPOOLED[key]), buffer)

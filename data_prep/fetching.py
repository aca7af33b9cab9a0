"""Translation of download errors of other libraries into one line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from data_prep.errors import InputError

T = TypeVar("T")

_MOST_SAID = 200
"""Characters of a library's message that are quoted."""


@dataclass(frozen=True)
class Download:
    """What a source downloads.

    Attributes:
        what: What is downloaded, and with which library.
        size: Bytes; None if unknown.
        source: Where the size is from.
        otherwise: What to do without a network.
        keeps: Whether the library keeps the files.
    """

    what: str
    size: int | None
    source: str
    otherwise: str
    keeps: bool

    @property
    def amount(self) -> str:
        """How much is downloaded, in words."""
        if self.size is None:
            return "of unknown size"
        unit, name = next(pair for pair in _UNITS if self.size >= pair[0])
        return f"about {self.size / unit:.3g} {name} ({self.source})"

    def __str__(self) -> str:
        storage = "cached for later runs" if self.keeps else "streamed and not stored"
        return f"{self.what}: {self.amount}, {storage}. Without a network: {self.otherwise}"


_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "bytes"))


@dataclass(frozen=True)
class Fetching:
    """Describes a download for the errors of the library that makes it.

    Args:
        what: What failed.
        where: What the user asked for.
        hint: What the user should check.
    """

    what: str
    where: str
    hint: str

    @contextlib.contextmanager
    def translated(self, *passed: type[Exception]) -> Iterator[None]:
        """Translates errors of the block into an `InputError`.

        Args:
            passed: Errors that the caller handles.

        Raises:
            InputError: The library failed.
        """
        unchanged: tuple[type[Exception], ...] = (InputError, MemoryError, *passed)
        try:
            yield
        except unchanged:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(
                f"{self.what} ({_first_line(error)})", where=self.where, hint=self.hint
            ) from None

    def rows(self, read: Callable[[], Iterable[T]]) -> Iterator[T]:
        """Yields the items of `read()`, translating errors of the library but not of the consumer.

        Raises:
            InputError: The library failed, at the first item or at a later one.
        """
        with self.translated():
            rows = iter(read())
        while True:
            with self.translated(StopIteration):
                try:
                    row = next(rows)
                except StopIteration:
                    return
            yield row


def _first_line(error: Exception) -> str:
    """Returns the first line of an error, truncated."""
    first = error.args[0] if error.args else None
    text = first if isinstance(first, str) else str(error)
    message = next(iter(text.strip().splitlines()), type(error).__name__)
    return message if len(message) <= _MOST_SAID else f"{message[:_MOST_SAID]}…"

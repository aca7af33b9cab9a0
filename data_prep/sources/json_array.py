"""JSON arrays of objects, read one object at a time."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_prep.compression import open_uncompressed
from data_prep.errors import InputError
from data_prep.limits import LONGEST_RECORD
from data_prep.sources.base import existing
from data_prep.sources.lines import detect_wide, encoded_line_end, is_utf_8

_CHUNK = 2**20
"""Characters per read; more if an object needs them."""
_BLANK = " \t\r\n"


def begins_with(path: Path) -> str:
    """Returns the first non-whitespace byte of a file or pipe, as a character, or ""."""
    with open_uncompressed(existing(path)) as file:
        head = file.peek(1)
        while head and not head.translate(None, b" \t\r\n\0\xef\xbb\xbf\xfe\xff"):
            file.read(len(head))
            head = file.peek(1)
        return head.translate(None, b" \t\r\n\0\xef\xbb\xbf\xfe\xff")[:1].decode("latin-1")


def array_items(
    path: Path, encoding: str, pairs: Callable[[list[tuple[str, Any]]], Any]
) -> Iterator[tuple[int, Any]]:
    """Yields (number from 1, value) for the values of an array.

    Args:
        path: The file, compressed or not.
        encoding: Encoding of the file; UTF-16 and UTF-32 are recognized.
        pairs: Converts key-value pairs to an object, as in `json.loads`.

    Raises:
        InputError: The file is not an array or is truncated; the message has the number of the
            value. Or there is no such encoding.
    """
    encoded_line_end(encoding)
    decoder = json.JSONDecoder(object_pairs_hook=pairs)
    with open_uncompressed(existing(path)) as raw:
        if is_utf_8(encoding):
            encoding = detect_wide(raw.peek(8)) or "utf-8-sig"
        text = _Text(io.TextIOWrapper(raw, encoding=encoding), path)
        text.expect("[", 1)
        number = 1
        while text.character() != "]":
            if number > 1:
                text.expect(",", number)
            yield number, text.value(decoder, number)
            number += 1
        text.expect("]", number)
        if text.character():
            raise InputError("unexpected text after the end of the array", where=path)


class _Text:
    """The rest of a text that is read incrementally."""

    def __init__(self, file: io.TextIOWrapper, path: Path) -> None:
        self._file = file
        self._path = path
        self._held = ""
        self._at = 0

    def _more(self) -> bool:
        self._held, self._at = self._held[self._at :], 0
        try:
            more = self._file.read(max(_CHUNK, len(self._held)))
        except UnicodeError:
            raise InputError(
                f"not valid {self._file.encoding}",
                where=self._path,
                hint="Specify the encoding with --encoding, for example latin-1",
            ) from None
        self._held += more
        return bool(more)

    def character(self) -> str:
        """Returns the next non-whitespace character; "" at the end."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in _BLANK:
                    return self._held[self._at]
                self._at += 1
            if not self._more():
                return ""

    def expect(self, character: str, number: int) -> None:
        """Skips one expected character.

        Raises:
            InputError: There is a different character.
        """
        actual = self.character()
        if actual != character:
            raise InputError(
                f"found {actual!r}, expected {character!r}"
                if actual
                else "the array is not closed",
                where=f"{self._path}:{number}",
                hint="Write one array of objects, or one JSON object per line in a .jsonl file",
            )
        self._at += 1

    def value(self, decoder: json.JSONDecoder, number: int) -> Any:
        """Returns the next value.

        Raises:
            InputError: It is not JSON, or too long.
        """
        self.character()
        while True:
            where = f"{self._path}:{number}"
            try:
                value, self._at = decoder.raw_decode(self._held, self._at)
                return value
            except json.JSONDecodeError as error:
                held = len(self._held) - self._at
                if held > LONGEST_RECORD:
                    raise InputError(
                        f"an object is longer than {LONGEST_RECORD:,} characters", where=where
                    ) from None
                if not self._more():
                    raise InputError(f"not JSON ({error.msg})", where=where) from None
            except RecursionError:
                raise InputError("the JSON is nested too deeply", where=where) from None
            except ValueError:
                raise InputError(
                    "a number has too many digits",
                    where=where,
                    hint="Write it as a string, in quotes",
                ) from None

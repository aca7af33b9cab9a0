"""Reads all text files of the input: encoding, line ends, limits."""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Iterator

from data_prep.compression import open_uncompressed
from data_prep.errors import InputError
from data_prep.limits import LONGEST_LINE
from data_prep.sources.base import existing

_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # begins with the mark of UTF-16
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_UNMARKED = {
    re.compile(rb"[\x01-\x7f]\0{3}[\x01-\x7f]\0{3}"): "utf-32-le",
    re.compile(rb"\0{3}[\x01-\x7f]\0{3}[\x01-\x7f]"): "utf-32-be",
    re.compile(rb"[\x01-\x7f]\0[\x01-\x7f]\0"): "utf-16-le",
    re.compile(rb"\0[\x01-\x7f]\0[\x01-\x7f]"): "utf-16-be",
}
"""The start of text without a byte-order mark if its first two characters are ASCII."""
_BUFFER = 2**20
"""Bytes per read; the first read determines the line ending."""
_OLD_MAC_END = re.compile(r"\r(?=[^\n])")


def lines(
    path: str | os.PathLike[str],
    encoding: str = "utf-8",
    *,
    noun: str = "file",
    hint: str = "Specify the encoding with --encoding, for example latin-1",
) -> Iterator[tuple[int, str]]:
    r"""Yields (line number from 1, line with its end) of a text file, compressed or not.

    Lines end with "\n", or with "\r" if these are more frequent at the start of the file. Unless
    another encoding is given, a file is read as UTF-16 or UTF-32 if it begins with a byte-order
    mark, or with two ASCII characters of two or four bytes each.

    Args:
        path: The file; "-" is standard input.
        encoding: Python name of the encoding.
        noun: Name for a missing file in errors.
        hint: Advice in errors about the encoding.

    Raises:
        InputError: The file is missing or damaged, a line is not in that encoding, or a line
            is longer than LONGEST_LINE.
    """
    path = existing(path, "file or folder" if noun == "file" else noun)
    if path.is_dir():
        raise InputError(f"this is a folder, not a {noun}", where=path)
    one_byte = encoded_line_end(encoding) == b"\n"
    number = 0
    with open_uncompressed(path, _BUFFER) as file:
        try:
            head = file.peek(1)
            if is_utf_8(encoding):
                encoding = detect_wide(head) or encoding
                one_byte = is_utf_8(encoding)
            begin = head.decode(encoding, "ignore")
            returns = len(_OLD_MAC_END.findall(begin))
            old_mac = returns > 0 and returns >= begin.count("\n")
            if one_byte and not old_mac:
                decoded = _byte_lines(file, encoding)
            else:
                decoded = _text_lines(file, encoding, None if old_mac else "\n")
            for number, line in enumerate(decoded, 1):
                if len(line) > LONGEST_LINE:
                    raise InputError(
                        f"a line is longer than {LONGEST_LINE:,} bytes",
                        where=f"{path}:{number}",
                        hint="Split it into several documents",
                    )
                yield number, line
        except UnicodeError as error:
            byte = ""
            if isinstance(error, UnicodeDecodeError):
                byte = f" (byte {error.object[error.start]:#04x} at column {error.start})"
            raise InputError(
                f"not {encoding}{byte}",
                where=f"{path}:{number + 1}",
                hint=hint,
            ) from None


def _byte_lines(file: io.BufferedReader, encoding: str) -> Iterator[str]:
    utf_8 = is_utf_8(encoding)
    first = True
    while raw := file.readline(LONGEST_LINE + 1):
        if first and utf_8:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        first = False
        # Not decoded, because the limit may have split a character.
        yield raw.decode("latin-1" if len(raw) > LONGEST_LINE else encoding)


def encoded_line_end(encoding: str) -> bytes:
    """Returns a line end in an encoding.

    Raises:
        InputError: There is no such encoding of text.
    """
    try:
        return "\n".encode(encoding)
    except (LookupError, ValueError):
        raise InputError(f"unknown encoding {encoding!r}", where="--encoding") from None


def detect_wide(head: bytes) -> str | None:
    """Returns the UTF-16 or UTF-32 encoding in which a file begins; None for other encodings."""
    marked = (name for mark, name in _MARKS.items() if head.startswith(mark))
    unmarked = (name for begin, name in _UNMARKED.items() if begin.match(head))
    return next(marked, None) or next(unmarked, None)


def is_utf_8(encoding: str) -> bool:
    """Returns whether an encoding name means UTF-8."""
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def _text_lines(file: io.BufferedReader, encoding: str, newline: str | None) -> Iterator[str]:
    codec = "utf-8-sig" if is_utf_8(encoding) else encoding
    text = io.TextIOWrapper(file, encoding=codec, newline=newline)
    while line := text.readline(LONGEST_LINE + 1):
        yield f"{line[:-2]}\n" if line.endswith("\r\n") else line

"""Many strings in one block of bytes, and an index for lookup without reading them all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.ragged import Ragged
from docids.store import check_offsets

_CHUNK = 1 << 16  # strings decoded at a time; bounds the working memory


class Strings(Sequence[str]):
    """A read-only sequence of strings over two arrays, decoded one at a time.

    Args:
        text: UTF-8 bytes of all strings, concatenated; uint8 [bytes].
        offsets: String i is `text[offsets[i] : offsets[i + 1]]`; int64 [strings + 1].
    """

    def __init__(self, text: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
        # Plain views of the mapped memory: each slice of a memmap would be a costly memmap object.
        self.text: npt.NDArray[np.uint8] = np.asarray(text)
        self.offsets: npt.NDArray[np.int64] = np.asarray(offsets)

    @classmethod
    def pack(cls, strings: Iterable[str]) -> Strings:
        """Packs the given strings."""
        pieces = [string.encode("utf-8", "surrogatepass") for string in strings]
        offsets = np.zeros(len(pieces) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)), out=offsets[1:])
        return cls(np.frombuffer(b"".join(pieces), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        start, stop = self.offsets[index], self.offsets[index + 1]
        return self.text[start:stop].tobytes().decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _CHUNK):
            bounds = np.asarray(self.offsets[start : start + _CHUNK + 1])
            block = self.text[bounds[0] : bounds[-1]].tobytes()
            places = (bounds - bounds[0]).tolist()
            for begin, end in itertools.pairwise(places):
                yield block[begin:end].decode("utf-8", "surrogatepass")

    def __add__(self, other: Strings) -> Strings:
        return Strings(
            np.concatenate([self.text, other.text]),
            np.concatenate([self.offsets, other.offsets[1:] + self.offsets[-1]]),
        )

    def check(self) -> None:
        """Decodes everything once, in large blocks.

        Raises:
            InputError: A string is not UTF-8, or the offsets are invalid.
        """
        check_offsets(self.offsets, len(self.text), "where strings start")
        if self.text.dtype != np.uint8 or self.text.ndim != 1:
            raise InputError(f"text is {self.text.dtype} {list(self.text.shape)}")
        for start in range(0, len(self), _CHUNK):
            bounds = np.asarray(self.offsets[start : start + _CHUNK + 1])
            block = np.asarray(self.text[bounds[0] : bounds[-1]])
            try:
                block.tobytes().decode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                raise InputError(f"not valid UTF-8 ({error.reason})") from None
            begins = bounds[bounds < bounds[-1]] - bounds[0]
            if bool(((block[begins] & 0xC0) == 0x80).any()):
                raise InputError("not valid UTF-8 (a string begins inside a character)")

    def hashes(self) -> npt.NDArray[np.uint64]:
        """Returns a 64-bit polynomial hash of each string; uint64 [strings]."""
        return Ragged(self.text, self.offsets).hashes()


class StringIndex:
    """Finds strings by binary search over their sorted hashes; hash collisions are resolved.

    Args:
        hashes: Hashes in ascending order; uint64 [strings].
        order: The index of the string of each hash, ascending among equal hashes; int64 [strings].
    """

    def __init__(self, hashes: npt.NDArray[np.uint64], order: npt.NDArray[np.int64]) -> None:
        self.hashes = hashes
        self.order = order

    @classmethod
    def build(cls, strings: Strings) -> StringIndex:
        """Returns the index of `strings`."""
        hashes = strings.hashes()
        order = np.argsort(hashes, kind="stable")
        return cls(hashes[order], order)

    def find(self, strings: Strings, queries: Sequence[str]) -> npt.NDArray[np.int64]:
        """Returns the last index of each wanted string in `strings`, -1 if it is missing.

        Args:
            strings: The strings that the index was built from.
            queries: The strings to look up.

        Returns:
            int64 [queries].
        """
        hashes = Strings.pack(queries).hashes()
        first = np.searchsorted(self.hashes, hashes, side="left")
        last = np.searchsorted(self.hashes, hashes, side="right")
        places = np.full(len(queries), -1, np.int64)
        for i in np.flatnonzero(last > first).tolist():
            for candidate in self.order[first[i] : last[i]][::-1].tolist():
                if strings[candidate] == queries[i]:
                    places[i] = candidate
                    break
        return places

    def repeated(
        self, strings: Strings, among: npt.NDArray[np.bool_] | None = None
    ) -> tuple[int, int] | None:
        """Returns the indices of two equal strings, or None if all differ.

        Args:
            strings: The strings that the index was built from.
            among: Which strings to compare; bool [strings]; default: all.
        """
        selected = np.ones(len(self.order), bool) if among is None else among[self.order]
        hashes, order = self.hashes[selected], self.order[selected]
        equal = hashes[1:] == hashes[:-1]
        doubtful = np.zeros(len(order), bool)
        doubtful[1:] |= equal
        doubtful[:-1] |= equal
        seen: dict[str, int] = {}
        for place in np.sort(order[doubtful]).tolist():
            string = strings[place]
            if string in seen:
                return seen[string], place
            seen[string] = place
        return None

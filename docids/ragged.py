"""Variable-length sequences of codes in two arrays, and their lexicographic order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers lose no bits
_CHUNK = 1 << 16  # sequences processed at a time; bounds the working memory


class Ragged(NamedTuple):
    """Concatenated sequences: sequence i is `codes[offsets[i] : offsets[i + 1]]`.

    Attributes:
        codes: Integers [total].
        offsets: int64 [sequences + 1], ascending, from 0 to `total`.
    """

    codes: np.ndarray
    offsets: npt.NDArray[np.int64]

    @classmethod
    def pack(cls, sequences: Ragged | np.ndarray | Sequence[Sequence[int]]) -> Ragged:
        """Packs a list of sequences, or the rows of a matrix; a Ragged is returned unchanged."""
        if isinstance(sequences, Ragged):
            return sequences
        if isinstance(sequences, np.ndarray):
            rows, width = sequences.shape
            return cls(sequences.reshape(-1), np.arange(rows + 1, dtype=np.int64) * width)
        offsets = np.zeros(len(sequences) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, sequences), np.int64, len(sequences)), out=offsets[1:])
        codes = np.fromiter(
            (code for sequence in sequences for code in sequence), np.int64, int(offsets[-1])
        )
        return cls(codes, offsets)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The length of each sequence; int64 [sequences]."""
        return np.diff(self.offsets)

    def hashes(self) -> npt.NDArray[np.uint64]:
        """Returns a 64-bit polynomial hash of each sequence; uint64 [sequences]."""
        sequences = len(self.offsets) - 1
        result = np.empty(sequences, np.uint64)
        for start in range(0, sequences, _CHUNK):
            bounds = np.asarray(self.offsets[start : start + _CHUNK + 1])
            lengths = np.diff(bounds)
            place = np.arange(bounds[-1] - bounds[0]) - np.repeat(bounds[:-1] - bounds[0], lengths)
            powers = np.full(int(lengths.max(initial=0)) + 1, _MULTIPLIER)
            powers = np.multiply.accumulate(powers)
            terms = self.codes[bounds[0] : bounds[-1]].astype(np.uint64) + np.uint64(1)
            sums = np.zeros(len(terms) + 1, np.uint64)
            np.cumsum(terms * powers[place], out=sums[1:])
            ends = bounds - bounds[0]
            result[start : start + len(lengths)] = sums[ends[1:]] - sums[ends[:-1]]
        return result

    def column(self, rows: npt.NDArray[np.int64], place: int) -> np.ndarray:
        """Returns the code at `place` of each of `rows`, 0 past the end of a sequence."""
        column = np.zeros(len(rows), self.codes.dtype)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            places = self.offsets[part] + place
            running = places < self.offsets[part + 1]
            if running.all():
                column[start : start + _CHUNK] = self.codes[places]
            else:
                column[start : start + _CHUNK][running] = self.codes[places[running]]
        return column

    def sort(
        self, rows: npt.NDArray[np.int64], alphabet_size: int, *, stable: bool = False
    ) -> npt.NDArray[np.int64]:
        """Returns `rows` in lexicographic order of their sequences, prefixes first.

        Args:
            rows: Which sequences; int64 [rows].
            alphabet_size: Codes are in [0, alphabet_size), and 0 does not occur in a sequence.
            stable: Whether equal sequences must stay in the order of `rows`, which takes longer.

        Returns:
            int64 [rows].
        """
        longest = int((self.offsets[rows + 1] - self.offsets[rows]).max(initial=0))
        bits = max(1, int(alphabet_size - 1).bit_length())
        per_key = max(1, 63 // bits)
        keys = []
        # Several codes fit in one 64-bit key, which saves most of the sorting passes.
        for start in range(0, longest, per_key):
            key = np.zeros(len(rows), np.int64)
            for place in range(start, min(start + per_key, longest)):
                key <<= bits
                key |= self.column(rows, place)
            keys.append(key)
        if not keys:
            return rows
        kind: Literal["stable"] | None = "stable" if stable else None
        order = np.argsort(keys[0], kind=kind) if len(keys) == 1 else np.lexsort(keys[::-1])
        return rows[order]

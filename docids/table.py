"""The table of identifiers: which sequence of codes stands for which document."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.ragged import Ragged
from docids.store import open_store, write_store
from docids.strings import StringIndex, Strings

PAD = 0
"""Fills a matrix of identifiers and starts the decoder; never part of an identifier."""
END = 1
"""Ends an identifier of a kind whose digits alone would not be prefix-free."""
FIRST_CODE = 2
"""The first code that means something."""


class DocidTable:
    """Documents and their identifiers, row by row. Grows only at its end.

    Every identifier is non-empty, its codes are in [1, alphabet_size) with END only as the last
    of them, and no live identifier equals, or is a prefix of, another. A document id stands in
    one live row only; an id that was retired may be given again, to a new row.

    Attributes:
        doc_ids: Document ids in row order.
        codes: All identifiers one after the other; int32 [total].
        offsets: Row r's identifier is `codes[offsets[r] : offsets[r + 1]]`; int64 [rows + 1].
        retired: Rows whose document was deleted; bool [rows].
        alphabet_size: Codes are below this; the size of a decoder's vocabulary.
        kind: The name of the kind in `docids.kinds.KINDS` that made the identifiers.
        options: How they were made; what JSON can hold.
    """

    def __init__(
        self,
        doc_ids: Strings,
        identifiers: Ragged,
        retired: npt.NDArray[np.bool_],
        *,
        alphabet_size: int,
        kind: str,
        options: Mapping[str, Any],
        index: StringIndex | None = None,
    ) -> None:
        self.doc_ids = doc_ids
        self.codes: npt.NDArray[np.int32] = identifiers.codes
        self.offsets = identifiers.offsets
        self.retired = retired
        self.alphabet_size = alphabet_size
        self.kind = kind
        self.options = dict(options)
        if index is not None:
            self.__dict__["_index"] = index

    @classmethod
    def from_sequences(
        cls,
        doc_ids: Sequence[str],
        sequences: Ragged | np.ndarray | Sequence[Sequence[int]],
        *,
        alphabet_size: int,
        kind: str,
        options: Mapping[str, Any] | None = None,
    ) -> DocidTable:
        """Builds and checks a table.

        Args:
            doc_ids: One id for each document.
            sequences: The identifier of each document: lists of codes, a matrix (all of one
                length), or a Ragged.
            alphabet_size: Codes are below this.
            kind: Name of the kind.
            options: How the identifiers were made.

        Raises:
            InputError: An id or an identifier breaks a rule of the table; names the documents.
        """
        ids = doc_ids if isinstance(doc_ids, Strings) else Strings.pack(doc_ids)
        packed = Ragged.pack(sequences)
        if len(ids) != len(packed.offsets) - 1:
            raise InputError(f"{len(ids)} documents, but {len(packed.offsets) - 1} identifiers")
        _check_codes(ids, packed, alphabet_size)
        table = cls(
            ids,
            Ragged(packed.codes.astype(np.int32, copy=False), packed.offsets),
            np.zeros(len(ids), bool),
            alphabet_size=alphabet_size,
            kind=kind,
            options=options or {},
        )
        table._check_unique()
        return table

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the table as `folder`, replacing it as a whole."""
        header = {
            "kind": self.kind,
            "alphabet_size": self.alphabet_size,
            "rows": len(self),
            "retired": int(self.retired.sum()),
            "options": self.options,
        }
        arrays: dict[str, np.ndarray] = {
            "codes": self.codes,
            "offsets": self.offsets,
            "retired": self.retired,
            "doc_id_text": self.doc_ids.text,
            "doc_id_offsets": self.doc_ids.offsets,
            "doc_id_hashes": self._index.hashes,
            "doc_id_order": self._index.order,
        }
        write_store(folder, "table", header, arrays)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> DocidTable:
        """Opens a saved table by memory map, in milliseconds at any size.

        Raises:
            InputError: It is not a table, or a file of it is missing or cut short.
        """
        header, arrays = open_store(folder, "table")
        try:
            return cls(
                Strings(arrays["doc_id_text"], arrays["doc_id_offsets"]),
                Ragged(arrays["codes"], arrays["offsets"]),
                arrays["retired"],
                alphabet_size=int(header["alphabet_size"]),
                kind=str(header["kind"]),
                options=header["options"],
                index=StringIndex(arrays["doc_id_hashes"], arrays["doc_id_order"]),
            )
        except KeyError as error:
            raise InputError(f"the table lacks its {error.args[0]!r}", where=folder) from None

    def __len__(self) -> int:
        return len(self.doc_ids)

    @property
    def identifiers(self) -> Ragged:
        """All identifiers, retired ones too, in row order."""
        return Ragged(self.codes, self.offsets)

    @property
    def live(self) -> npt.NDArray[np.int64]:
        """The rows that are not retired, ascending; int64 [live rows]."""
        return np.flatnonzero(~self.retired)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of codes of each row; int64 [rows]."""
        return np.diff(self.offsets)

    def sequence(self, row: int) -> tuple[int, ...]:
        """Returns the identifier in `row`."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        return tuple(self.codes[self.offsets[row] : self.offsets[row + 1]].tolist())

    def find(self, doc_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Returns the newest row of each document id, -1 where it has none; int64 [ids]."""
        return self._index.find(self.doc_ids, doc_ids)

    def row_of(self, doc_id: str) -> int:
        """Returns the live row of a document.

        Raises:
            InputError: The id is unknown, or its document was retired.
        """
        row = int(self.find([doc_id])[0])
        if row < 0:
            raise InputError(
                f"no document {doc_id!r} among {len(self)} identifiers",
                mend="Ids are compared letter by letter: mind case and blanks",
            )
        if self.retired[row]:
            raise InputError(f"document {doc_id!r} was deleted and has no identifier any more")
        return row

    def matrix(self, pad: int = PAD) -> npt.NDArray[np.int32]:
        """Returns the identifiers as a matrix, filled up at the right; int32 [rows, longest]."""
        lengths = self.lengths
        matrix = np.full((len(self), int(lengths.max(initial=0))), pad, np.int32)
        matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = self.codes
        return matrix

    def append(
        self,
        doc_ids: Sequence[str],
        sequences: Ragged | np.ndarray | Sequence[Sequence[int]],
    ) -> DocidTable:
        """Returns a table with more rows at its end; the rows before them are unchanged.

        The alphabet grows to hold the new codes.

        Raises:
            InputError: An id or an identifier clashes with a live one or breaks a rule.
        """
        new = Ragged.pack(sequences)
        top = int(new.codes.max(initial=0)) + 1
        added = DocidTable.from_sequences(
            doc_ids,
            new,
            alphabet_size=max(self.alphabet_size, top),
            kind=self.kind,
            options=self.options,
        )
        table = DocidTable(
            self.doc_ids + added.doc_ids,
            Ragged(
                np.concatenate([self.codes, added.codes]),
                np.concatenate([self.offsets, added.offsets[1:] + self.offsets[-1]]),
            ),
            np.concatenate([self.retired, added.retired]),
            alphabet_size=added.alphabet_size,
            kind=self.kind,
            options=self.options,
        )
        table._check_unique()
        return table

    def retire(self, doc_ids: Sequence[str]) -> DocidTable:
        """Returns a table in which these documents are deleted; no row moves.

        Raises:
            InputError: An id is unknown or already retired.
        """
        retired = np.array(self.retired)
        retired[[self.row_of(doc_id) for doc_id in doc_ids]] = True
        return DocidTable(
            self.doc_ids,
            self.identifiers,
            retired,
            alphabet_size=self.alphabet_size,
            kind=self.kind,
            options=self.options,
            index=self._index,
        )

    @functools.cached_property
    def _index(self) -> StringIndex:
        return StringIndex.build(self.doc_ids)

    def _check_unique(self) -> None:
        """Checks document ids and identifiers of the live rows against each other."""
        pair = self._index.repeated(self.doc_ids, ~self.retired)
        if pair is not None:
            raise InputError(
                f"document id {self.doc_ids[pair[0]]!r} occurs twice (rows {pair[0]} and {pair[1]})"
            )
        identifiers = self.identifiers
        rows = identifiers.sort(self.live, self.alphabet_size)
        lengths = self.lengths[rows]
        # In lexicographic order a prefix stands right before one of its extensions.
        same = np.ones(max(len(rows) - 1, 0), bool)
        for place in range(int(lengths.max(initial=0)) + 1):
            prefix = np.flatnonzero(same & (lengths[:-1] == place))
            if len(prefix):
                self._refuse_pair(int(rows[prefix[0]]), int(rows[prefix[0] + 1]))
            column = identifiers.column(rows, place)
            same &= column[1:] == column[:-1]
            if not same.any():
                break

    def _refuse_pair(self, row: int, other: int) -> None:
        shorter, longer = self.sequence(row), self.sequence(other)
        if shorter == longer:
            names = " and ".join(repr(self.doc_ids[r]) for r in sorted((row, other)))
            raise InputError(f"documents {names} have the same identifier {shorter}")
        raise InputError(
            f"the identifier {shorter} of document {self.doc_ids[row]!r} is a prefix of "
            f"{longer} of document {self.doc_ids[other]!r}",
            mend="Append END to every identifier",
        )


def _check_codes(doc_ids: Strings, identifiers: Ragged, alphabet_size: int) -> None:
    """Checks what a row can be told by itself: a non-empty id, codes in range, END at the end."""
    codes, offsets = identifiers

    def document(place: int) -> str:
        row = int(np.searchsorted(offsets, place, side="right")) - 1
        return f"document {doc_ids[row]!r} (row {row})"

    nameless = np.flatnonzero(np.diff(doc_ids.offsets) == 0)
    if len(nameless):
        raise InputError(f"the document in row {nameless[0]} has an empty id")
    empty = np.flatnonzero(np.diff(offsets) == 0)
    if len(empty):
        raise InputError(f"document {doc_ids[int(empty[0])]!r} (row {empty[0]}) has no codes")
    if alphabet_size > np.iinfo(np.int32).max:
        raise InputError(f"an alphabet of {alphabet_size} codes; at most 2147483647 fit")
    wrong = np.flatnonzero((codes < END) | (codes >= alphabet_size))
    if len(wrong):
        raise InputError(
            f"code {codes[wrong[0]]} in the identifier of {document(int(wrong[0]))} is outside "
            f"{END}..{alphabet_size - 1}"
        )
    ends = np.flatnonzero(codes == END)
    early = ends[~np.isin(ends + 1, offsets)]
    if len(early):
        raise InputError(
            f"END stands before the last place of the identifier of {document(int(early[0]))}"
        )

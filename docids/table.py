"""The table of identifiers: maps documents to their code sequences."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.checks import with_article
from data_prep.errors import InputError
from docids.ragged import Ragged
from docids.store import check_offsets, integers, naming, open_store, write_store
from docids.strings import StringIndex, Strings

PAD = 0
"""Fills a matrix of identifiers and starts the decoder; never part of an identifier."""
END = 1
"""Ends an identifier of a kind whose digits alone would not be prefix-free."""
MOST_COMPARED = 200_000
"""Maximum number of rows for which stored results are recomputed to verify them."""
LONGEST = 4096
"""Maximum codes of an identifier in a table that is opened: each is a step of the search."""
FIRST_CODE = 2
"""The first code that identifiers are made of; lower codes are `PAD` and `END`."""


class DocidTable:
    """Documents by row, and their identifiers by number. It is append-only.

    A row is a document. A document has one or several identifiers; they are stored in row order, so
    that row r has the identifiers `first_identifier[r]` to `first_identifier[r + 1] - 1`. Usually
    each document has one: row and number are then the same, `first_identifier` is not stored, and
    `one_each` is true.

    Where `shared` is true, several documents may have the same identifier; it is then stored once
    for each of them, under a number of its own. A search that finds a code sequence returns all
    documents that have it, and returns each document once, however many of its identifiers were
    found (`docids.trie.Trie`, `dsi.search.merging`).

    Every identifier is non-empty, its codes are in [1, alphabet_size) with END only as the last of
    them. No live identifier is a proper prefix of another, no document has the same one twice, and
    unless `shared` is true no two live documents have the same one. A document id has only one live
    row; a retired id may be reused for a new row.

    Attributes:
        doc_ids: Document ids in row order.
        codes: All identifiers, concatenated; int32 [total].
        offsets: Identifier i is `codes[offsets[i] : offsets[i + 1]]`; int64 [identifiers + 1].
        first_identifier: The number of each row's first identifier; int64 [rows + 1].
        retired: Mask of the rows whose document was deleted; bool [rows].
        alphabet_size: Codes are below this; the size of a decoder's vocabulary.
        kind: The name of the kind in `docids.kinds.KINDS` that made the identifiers.
        options: How they were made; JSON-serializable.
        shared: Whether several documents may have the same identifier.
        one_each: Whether every document has exactly one identifier.
        reserved: How many codes at the end of the alphabet wait for new documents.
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
        first_identifier: npt.NDArray[np.int64] | None = None,
        shared: bool = False,
        reserved: int = 0,
    ) -> None:
        self.doc_ids = doc_ids
        self.codes: npt.NDArray[np.int32] = identifiers.codes
        self.offsets = identifiers.offsets
        self.one_each = first_identifier is None
        if first_identifier is not None:
            self.__dict__["first_identifier"] = first_identifier
        self.shared = shared
        self.reserved = reserved
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
        counts: npt.NDArray[np.int64] | Sequence[int] | None = None,
        shared: bool = False,
    ) -> DocidTable:
        """Builds and checks a table.

        Args:
            doc_ids: One id for each document.
            sequences: The identifiers in the order of the documents: lists of codes, a matrix
                (all of one length), or a Ragged.
            alphabet_size: Codes are below this.
            kind: Name of the kind.
            options: How the identifiers were made.
            counts: How many identifiers each document has, at least 1; default 1 each.
            shared: Whether several documents may have the same identifier.

        Raises:
            InputError: An id or an identifier breaks a rule of the table; names the documents.
        """
        ids = doc_ids if isinstance(doc_ids, Strings) else Strings.pack(doc_ids)
        packed = Ragged.pack(sequences)
        first = _first_identifiers(counts)
        documents = len(packed.offsets) - 1 if first is None else len(first) - 1
        if len(ids) != documents or (first is not None and first[-1] != len(packed.offsets) - 1):
            raise InputError(
                f"{len(ids)} documents, but {len(packed.offsets) - 1} identifiers"
                + ("" if first is None else f" and counts for {documents} documents")
            )
        table = cls(
            ids,
            packed,
            np.zeros(len(ids), bool),
            alphabet_size=alphabet_size,
            kind=kind,
            options=options or {},
            first_identifier=first,
            shared=shared,
        )
        table._check_codes()
        table.codes = packed.codes.astype(np.int32, copy=False)
        table._check_unique()
        return table

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the table to `folder`, replacing the whole folder."""
        header = {
            "kind": self.kind,
            "alphabet_size": self.alphabet_size,
            "rows": len(self),
            "identifiers": len(self.offsets) - 1,
            "shared": self.shared,
            "reserved": self.reserved,
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
        if not self.one_each:
            arrays["first_identifier"] = self.first_identifier
        write_store(folder, "table", header, arrays)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> DocidTable:
        """Opens a saved table as memory maps, in milliseconds at any size.

        The content of its arrays is not validated; see `check`.

        Raises:
            InputError: It is not a table, or a file of it is missing or truncated.
        """
        header, arrays = open_store(folder, "table")
        with naming(folder):
            table = cls(
                Strings(arrays["doc_id_text"], arrays["doc_id_offsets"]),
                Ragged(arrays["codes"], arrays["offsets"]),
                arrays["retired"],
                alphabet_size=int(header["alphabet_size"]),
                kind=str(header["kind"]),
                options=header["options"],
                index=StringIndex(arrays["doc_id_hashes"], arrays["doc_id_order"]),
                # Tables written before these fields existed have one identifier per document,
                # unshared, and no reserve.
                first_identifier=arrays.get("first_identifier"),
                shared=bool(header.get("shared", False)),
                reserved=int(header.get("reserved", 0)),
            )
            if not isinstance(header["options"], dict):
                raise InputError(f"options are {header['options']!r:.60}")
            rows = header.get("rows", len(table))
            if rows != len(table) or len(table.retired) != len(table):
                raise InputError(f"{len(table)} ids, {len(table.retired)} marks, {rows} rows")
        return table

    def check(self) -> None:
        """Checks that the arrays are consistent; reads all of them once.

        Raises:
            InputError: They are not: the table is damaged.
        """
        self.doc_ids.check()
        check_offsets(self.offsets, len(integers(self.codes, "codes")), "where identifiers start")
        if self.retired.dtype != bool:
            raise InputError(f"the flags of retired rows have the type {self.retired.dtype}")
        numbers = len(self.offsets) - 1
        if self.one_each:
            if numbers != len(self):
                raise InputError(f"{numbers} numbers of identifiers for {len(self)} documents")
        else:
            if len(self.first_identifier) != len(self) + 1:
                raise InputError(
                    f"unexpected number of first identifiers: {len(self.first_identifier)}"
                )
            check_offsets(self.first_identifier, numbers, "first identifiers")
        hashes, order = integers(self._index.hashes, "hashes"), integers(self._index.order, "order")
        if len(hashes) != len(self) or len(order) != len(self):
            raise InputError(f"{len(hashes)} hashes and {len(order)} places of {len(self)} ids")
        if bool((hashes[1:] < hashes[:-1]).any()):
            raise InputError("the hashes of ids are not in order")
        within = len(order) == 0 or (order.min() >= 0 and order.max() < len(self))
        if not within or not bool((np.bincount(order, minlength=len(self)) == 1).all()):
            raise InputError("the order of ids contains a row twice")
        self._check_codes()
        if not 0 <= self.reserved <= self.alphabet_size - FIRST_CODE:
            raise InputError(
                f"{self.reserved} codes are reserved in an alphabet of {self.alphabet_size}"
            )
        if int(self.codes.max(initial=0)) >= self.next_code:
            raise InputError(
                f"code {self.codes.max()} is in use, but the next free code is {self.next_code}"
            )
        if self.lengths.max(initial=0) > LONGEST:
            raise InputError(
                f"an identifier has {self.lengths.max()} codes; at most {LONGEST} are allowed"
            )
        if len(self) <= MOST_COMPARED:
            if not np.array_equal(np.asarray(self.doc_ids.hashes())[order], hashes):
                raise InputError("the hashes do not match the ids")
            self._check_unique()

    def __len__(self) -> int:
        return len(self.doc_ids)

    @functools.cached_property
    def first_identifier(self) -> npt.NDArray[np.int64]:
        """The number of each row's first identifier, then the total; int64 [rows + 1]."""
        return np.arange(len(self) + 1, dtype=np.int64)  # `one_each`; else set on creation

    @property
    def identifiers(self) -> Ragged:
        """All identifiers by number, including those of retired rows."""
        return Ragged(self.codes, self.offsets)

    @property
    def owners(self) -> npt.NDArray[np.int64]:
        """The row that each identifier belongs to, ascending; int64 [identifiers]."""
        rows = np.arange(len(self), dtype=np.int64)
        return rows if self.one_each else np.repeat(rows, np.diff(self.first_identifier))

    @property
    def live(self) -> npt.NDArray[np.int64]:
        """The rows that are not retired, ascending; int64 [live rows]."""
        return np.flatnonzero(~self.retired)

    @property
    def live_identifiers(self) -> npt.NDArray[np.int64]:
        """The numbers of the identifiers of live rows, ascending; int64 [live identifiers]."""
        return self.live if self.one_each else np.flatnonzero(~self.retired[self.owners])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The number of codes of each identifier; int64 [identifiers]."""
        return np.diff(self.offsets)

    def sequence(self, row: int) -> tuple[int, ...]:
        """Returns the first, or only, identifier of the document in `row`."""
        return self.sequences(row)[0]

    def sequences(self, row: int) -> list[tuple[int, ...]]:
        """Returns all identifiers of the document in `row`, in the order they were given."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        first, last = (row, row + 1) if self.one_each else self.first_identifier[row : row + 2]
        return [self._codes_of(number) for number in range(int(first), int(last))]

    @property
    def next_code(self) -> int:
        """The first code that new documents may introduce; the reserve starts with it."""
        return self.alphabet_size - self.reserved

    def with_reserve(self, codes: int) -> DocidTable:
        """Returns a table with a larger alphabet, whose last codes wait for new documents.

        Args:
            codes: How many codes to add to the alphabet.
        """
        return DocidTable(
            self.doc_ids,
            self.identifiers,
            self.retired,
            alphabet_size=self.alphabet_size + codes,
            kind=self.kind,
            options=self.options,
            index=self._index,
            first_identifier=None if self.one_each else self.first_identifier,
            shared=self.shared,
            reserved=self.reserved + codes,
        )

    def last_codes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """Returns the last code of the first, or only, identifier of each row; int32 [rows]."""
        firsts = rows if self.one_each else np.asarray(self.first_identifier)[rows]
        last: npt.NDArray[np.int32] = np.asarray(self.codes)[
            np.asarray(self.offsets)[firsts + 1] - 1
        ]
        return last

    def numbers_of(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns the numbers of all identifiers of some documents.

        Args:
            rows: Table rows, in any order, repeated or not; int64 [rows].

        Returns:
            The numbers, int64 [found], and the index into `rows` of each, ascending.
        """
        if self.one_each:
            return rows, np.arange(len(rows), dtype=np.int64)
        first, last = self.first_identifier[rows], self.first_identifier[rows + 1]
        places = np.repeat(np.arange(len(rows), dtype=np.int64), last - first)
        starts = np.cumsum(last - first) - (last - first)
        return np.arange(len(places)) - starts[places] + first[places], places

    def _codes_of(self, number: int) -> tuple[int, ...]:
        return tuple(self.codes[self.offsets[number] : self.offsets[number + 1]].tolist())

    def find(self, doc_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Returns the newest row of each document id, -1 if it has none; int64 [ids]."""
        return self._index.find(self.doc_ids, doc_ids)

    def row_of(self, doc_id: str) -> int:
        """Returns the live row of a document.

        Raises:
            InputError: The id is unknown or not a string, or its document was retired.
        """
        if not isinstance(doc_id, str):
            raise InputError(f"the document id {doc_id!r:.80} is {with_article(doc_id)}, not a str")
        row = int(self.find([doc_id])[0])
        if row < 0:
            raise InputError(
                f"no document {doc_id!r:.80} among {len(self)} identifiers",
                hint="Ids must match exactly, including case and spaces",
            )
        if self.retired[row]:
            raise InputError(f"document {doc_id!r} was deleted and no longer has an identifier")
        return row

    def matrix(self, pad: int = PAD) -> npt.NDArray[np.int32]:
        """Returns the identifiers by number, right-padded; int32 [numbers, longest]."""
        lengths = self.lengths
        matrix = np.full((len(lengths), int(lengths.max(initial=0))), pad, np.int32)
        matrix[np.arange(matrix.shape[1]) < lengths[:, None]] = self.codes
        return matrix

    def append(
        self,
        doc_ids: Sequence[str],
        sequences: Ragged | np.ndarray | Sequence[Sequence[int]],
        counts: npt.NDArray[np.int64] | Sequence[int] | None = None,
    ) -> DocidTable:
        """Returns a table with more rows at its end; the rows before them are unchanged.

        New codes are taken from the reserve; beyond it, the alphabet grows.

        Args:
            doc_ids: Ids of the new documents.
            sequences: Their identifiers, as in `from_sequences`.
            counts: How many identifiers each new document has; default 1 each.

        Raises:
            InputError: An id or an identifier clashes with a live one, or breaks a rule.
        """
        new = Ragged.pack(sequences)
        top = int(new.codes.max(initial=0)) + 1
        added = DocidTable.from_sequences(
            doc_ids,
            new,
            alphabet_size=max(self.alphabet_size, top),
            kind=self.kind,
            options=self.options,
            counts=counts,
            shared=self.shared,
        )
        first = None
        if not (self.one_each and added.one_each):
            later = added.first_identifier[1:] + self.first_identifier[-1]
            first = np.concatenate([self.first_identifier, later])
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
            first_identifier=first,
            shared=self.shared,
            reserved=added.alphabet_size - max(self.next_code, top),
        )
        table._check_unique()
        return table

    def retire(self, doc_ids: Sequence[str]) -> DocidTable:
        """Returns a table in which these documents are deleted; row numbers do not change.

        Raises:
            InputError: Ids are unknown or already retired.
        """
        self.refuse_unknown(doc_ids)
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
            first_identifier=None if self.one_each else self.first_identifier,
            shared=self.shared,
            reserved=self.reserved,
        )

    def refuse_unknown(self, doc_ids: Sequence[str]) -> None:
        """Raises InputError if ids do not belong to live documents; names five and counts all."""
        rows = self.find(doc_ids)
        wrong = [
            doc_id
            for doc_id, row in zip(doc_ids, rows.tolist(), strict=True)
            if row < 0 or self.retired[row]
        ]
        if len(wrong) == 1:
            self.row_of(wrong[0])
        if wrong:
            examples = ", ".join(map(repr, wrong[:5]))
            more = f", and {len(wrong) - 5:,} more" if len(wrong) > 5 else ""
            deleted = int((self.find(wrong) >= 0).sum())
            deletions = f" (was deleted: {deleted:,} of them)" if deleted else ""
            raise InputError(
                f"{len(wrong):,} of {len(doc_ids):,} documents are not in the index: "
                f"{examples}{more}{deletions}",
                hint="Ids must match exactly, including case and spaces",
            )

    def without_retired(self) -> DocidTable:
        """Returns a table of the live rows only, under new row numbers; codes stay the same."""
        if not self.retired.any():
            return self
        live = self.live
        table = DocidTable.from_sequences(
            [self.doc_ids[row] for row in live.tolist()],
            [identifier for row in live.tolist() for identifier in self.sequences(row)],
            alphabet_size=self.alphabet_size,
            kind=self.kind,
            options=self.options,
            counts=None if self.one_each else np.diff(self.first_identifier)[live],
            shared=self.shared,
        )
        table.reserved = self.reserved
        return table

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
        numbers = identifiers.sort(self.live_identifiers, self.alphabet_size, stable=self.shared)
        lengths = self.lengths[numbers]
        owners = None if self.one_each else self.owners
        # In lexicographic order, a prefix comes right before one of its extensions.
        same = np.ones(max(len(numbers) - 1, 0), bool)
        for place in range(int(lengths.max(initial=0)) + 1):
            clash = same & (lengths[:-1] == place)
            if self.shared:
                equal = clash & (lengths[1:] == place)
                clash &= ~equal
                if owners is not None:
                    # The sort is stable: equal identifiers stay in the order of their owners.
                    clash |= equal & (owners[numbers[:-1]] == owners[numbers[1:]])
            prefix = np.flatnonzero(clash)
            if len(prefix):
                self._refuse_pair(int(numbers[prefix[0]]), int(numbers[prefix[0] + 1]))
            column = identifiers.column(numbers, place)
            same &= column[1:] == column[:-1]
            if not same.any():
                break

    def _refuse_pair(self, number: int, other: int) -> None:
        shorter, longer = self._codes_of(number), self._codes_of(other)
        name, other_name = (repr(self.doc_ids[self._owner(n)]) for n in (number, other))
        if shorter == longer:
            if name == other_name:
                raise InputError(f"document {name} has the identifier {shorter} twice")
            first, second = sorted((number, other))
            names = " and ".join(repr(self.doc_ids[self._owner(n)]) for n in (first, second))
            raise InputError(f"documents {names} have the same identifier {shorter}")
        raise InputError(
            f"the identifier {shorter} of document {name} is a prefix of "
            f"{longer} of document {other_name}",
            hint="Append END to each identifier",
        )

    def _owner(self, number: int) -> int:
        if self.one_each:
            return number
        return int(np.searchsorted(self.first_identifier, number, side="right")) - 1

    def _check_codes(self) -> None:
        """Checks each row by itself: an id, an identifier, codes in range, END last."""
        codes, offsets = self.codes, self.offsets

        def document(place: int) -> str:
            row = self._owner(int(np.searchsorted(offsets, place, side="right")) - 1)
            return f"document {self.doc_ids[row]!r} (row {row})"

        nameless = np.flatnonzero(np.diff(self.doc_ids.offsets) == 0)
        if len(nameless):
            raise InputError(f"the document in row {nameless[0]} has an empty id")
        none = np.empty(0, np.int64)
        if not self.one_each:
            none = np.flatnonzero(np.diff(self.first_identifier) < 1)
        if len(none):
            raise InputError(f"document {self.doc_ids[int(none[0])]!r} has no identifier")
        empty = np.flatnonzero(np.diff(offsets) == 0)
        if len(empty):
            row = self._owner(int(empty[0]))
            raise InputError(f"document {self.doc_ids[row]!r} (row {row}) has no codes")
        if self.alphabet_size > np.iinfo(np.int32).max:
            raise InputError(
                f"the alphabet has {self.alphabet_size} codes; at most 2147483647 are allowed"
            )
        wrong = np.flatnonzero((codes < END) | (codes >= self.alphabet_size))
        if len(wrong):
            raise InputError(
                f"code {codes[wrong[0]]} in the identifier of {document(int(wrong[0]))} is outside "
                f"{END}..{self.alphabet_size - 1}"
            )
        ends = np.flatnonzero(codes == END)
        early = ends[~np.isin(ends + 1, offsets)]
        if len(early):
            raise InputError(
                f"END is not the last code of the identifier of {document(int(early[0]))}"
            )


def _first_identifiers(
    counts: npt.NDArray[np.int64] | Sequence[int] | None,
) -> npt.NDArray[np.int64] | None:
    """Returns where each row's identifiers start; None if each row has one."""
    if counts is None or np.all(np.asarray(counts) == 1):
        return None
    first = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=first[1:])
    return first

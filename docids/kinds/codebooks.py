"""Identifiers of one code per codebook level; a number at the end distinguishes equal ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.kinds.naming import Collisions
from docids.ragged import Ragged
from docids.table import FIRST_CODE, DocidTable

DEFAULT_SIZE = 256
"""Default codebook size for a large corpus (RIPOR)."""
_SAMPLE = 20_000


def resolve_size(
    size: int | None, documents: int, *, each: int, option: str
) -> tuple[int, list[str]]:
    """Returns the codebook size, and a note about it for the user.

    Args:
        size: The size the user asked for; None to take the default, or on a small corpus the
            largest power of 2 that leaves `each` documents for every code.
        documents: How many documents there are.
        each: Documents needed for each code, so that a code stands for more than one of them.
        option: The name of the option, for the note.
    """
    if size is not None:
        return size, []
    most = max(2, 1 << (max(documents // each, 1).bit_length() - 1))
    if most >= DEFAULT_SIZE:
        return DEFAULT_SIZE, []
    return most, [
        f"{most} codes per codebook instead of {DEFAULT_SIZE}, because there are only "
        f"{documents:,} documents ({option} sets the size)"
    ]


def table_of_codes(
    doc_ids: Sequence[str],
    codes: npt.NDArray[np.int64],
    size: int,
    *,
    kind: str,
    options: Any,
) -> tuple[DocidTable, dict[str, int]]:
    """Builds the table of documents with one code per level.

    Each level has codes of its own. With `options.collisions` "extend", a number with codes of its
    own follows: 0, or 1, 2, ... for documents with the same codes as an earlier one. With "share",
    no number follows, and such documents share their identifier.

    Args:
        doc_ids: The documents.
        codes: In [0, size); int64 [documents, levels].
        size: Codes in the codebook of a level.
        kind: Name of the kind.
        options: Its options.

    Returns:
        The table, and how many documents needed a distinguishing number.
    """
    matrix, numbered = _assign_codes(codes, size, options.collisions, None)
    fixed = FIRST_CODE + codes.shape[1] * size
    table = DocidTable.from_sequences(
        doc_ids,
        matrix,
        alphabet_size=max(fixed, int(matrix.max(initial=0)) + 1),
        kind=kind,
        options=asdict(options),
        shared=options.collisions == "share",
    )
    return table, numbered


def append_codes(
    table: DocidTable,
    doc_ids: Sequence[str],
    codes: npt.NDArray[np.int64],
    size: int,
    collisions: Collisions,
) -> tuple[DocidTable, dict[str, int]]:
    """Adds documents to a table that `table_of_codes` built.

    The alphabet grows only if a group of equal codes is larger than any before.

    Args:
        table: The table.
        doc_ids: Ids of the new documents.
        codes: Code of each document at each level, from 0; int64 [documents, levels].
        size: Codes of a codebook.
        collisions: "extend" or "share", as for the existing documents.

    Returns:
        The longer table, and how taken identifiers were handled -> for how many documents.
    """
    matrix, numbered = _assign_codes(codes, size, collisions, table)
    return table.append(doc_ids, matrix), numbered


def _assign_codes(
    codes: npt.NDArray[np.int64], size: int, collisions: Collisions, before: DocidTable | None
) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
    levels = codes.shape[1]
    spelled = codes + FIRST_CODE + size * np.arange(levels)
    if collisions == "share":
        return spelled, {}
    earlier = np.empty((0, levels), np.int64)
    if before is not None and len(before):
        earlier = before.matrix()[:, :levels].astype(np.int64)
    number = _places_among_equals(np.concatenate([earlier, spelled]))[len(earlier) :]
    last = FIRST_CODE + size * levels + number
    return np.column_stack([spelled, last]), {"a number was added": int((number > 0).sum())}


def _places_among_equals(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns for each row how many earlier rows are equal (by a 64-bit hash)."""
    hashes = Ragged.pack(rows).hashes()
    order = np.argsort(hashes, kind="stable")
    opens = np.ones(len(rows), bool)
    opens[1:] = hashes[order][1:] != hashes[order][:-1]
    starts = np.flatnonzero(opens)
    group = np.cumsum(opens) - 1
    places = np.empty(len(rows), np.int64)
    places[order] = np.arange(len(rows)) - starts[group] if len(rows) else 0
    return places


def refuse_collapse(
    codes: npt.NDArray[np.int64],
    size: int,
    vectors: npt.NDArray[np.float32],
    *,
    least: float,
    option: str,
    first: int = 1,
    whose: str = "assigned",
) -> None:
    """Raises InputError if a level uses its codebook too unevenly: it has collapsed.

    The measure is the perplexity of the level's codes as a fraction of its maximum: the size of the
    codebook, or the number of distinct vectors if that is smaller.

    Args:
        codes: int64 [documents, levels].
        size: Codes in the codebook of a level.
        vectors: What the codes stand for; float32 [documents, dimensions].
        least: The smallest accepted share; 0 accepts everything.
        option: The name of the option that sets `least`, for the message.
        first: The number of the first level, for the message.
        whose: "assigned", or "likeliest" for codes predicted by a network.
    """
    if not len(codes) or not least:
        return
    sample = vectors
    if len(vectors) > _SAMPLE:
        step = len(vectors) / _SAMPLE
        sample = vectors[(np.arange(_SAMPLE) * step).astype(np.int64)]
    possible = min(size, len(np.unique(sample, axis=0)))
    for level in range(codes.shape[1]):
        counts = np.bincount(codes[:, level])
        shares = counts[counts > 0] / len(codes)
        perplexity = float(np.exp(-(shares * np.log(shares)).sum()))
        if perplexity < least * possible:
            raise InputError(
                f"the codebook of level {first + level} has collapsed: {len(shares)} of {size} "
                f"codes are {whose}, with a perplexity of {perplexity:.1f}",
                where=f"{option} {least:g}",
                hint="Use fewer levels, smaller codebooks or other document vectors, or lower "
                "this threshold",
            )

"""Naive identifiers: arbitrary integers, spelled in decimal digits (DSI, section 3.2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from docids.kinds.base import KINDS, Built, Documents, Kind, NoOptions
from docids.ragged import Ragged
from docids.table import END, FIRST_CODE, DocidTable


class Naive(Kind):
    """The integers below the number of documents in random order, spelled in digits and terminated.

    The alphabet is ten digits; END follows the last digit because 1 is a prefix of 10.
    """

    uses_content = False

    def build(self, documents: Documents, options: NoOptions, seed: int) -> Built:
        """Assigns a random permutation of the integers."""
        table = DocidTable.from_sequences(
            documents.doc_ids,
            spell(np.random.default_rng([seed, 0]).permutation(len(documents))),
            alphabet_size=FIRST_CODE + 10,
            kind="naive",
        )
        return Built(table)

    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Assigns the next integers, in random order.

        Every row, retired or not, holds one integer, so the number of rows is the first free one.
        """
        assigned = len(built.table)
        order = np.random.default_rng([seed, assigned]).permutation(len(documents))
        return Built(built.table.append(documents.doc_ids, spell(assigned + order)))


def spell(numbers: npt.NDArray[np.int64]) -> Ragged:
    """Returns integers as decimal digits, most significant first, followed by END.

    Args:
        numbers: Non-negative integers; int64 [numbers].
    """
    powers = 10 ** np.arange(1, 19, dtype=np.int64)
    digits = np.searchsorted(powers, numbers, side="right") + 1
    offsets = np.zeros(len(numbers) + 1, np.int64)
    np.cumsum(digits + 1, out=offsets[1:])
    codes = np.full(int(offsets[-1]), END, np.int32)
    rest = numbers.copy()
    for place in range(int(digits.max(initial=0))):
        running = digits > place
        codes[offsets[1:][running] - 2 - place] = FIRST_CODE + rest[running] % 10
        rest //= 10
    return Ragged(codes, offsets)


KINDS.register("naive")(Naive())

"""Atomic identifiers: every document has a code of its own (DSI, section 3.2)."""

from __future__ import annotations

import numpy as np

from docids.kinds.base import KINDS, Built, Documents, Kind, NoOptions
from docids.table import FIRST_CODE, DocidTable


class Atomic(Kind):
    """One code for each document: FIRST_CODE plus the row number."""

    form = "atomic"
    uses_content = False
    uses_new_codes = True

    def build(self, documents: Documents, options: NoOptions, seed: int) -> Built:
        """Numbers the documents in order; nothing is random."""
        codes = FIRST_CODE + np.arange(len(documents))
        table = DocidTable.from_sequences(
            documents.doc_ids,
            codes[:, None],
            alphabet_size=FIRST_CODE + len(documents),
            kind="atomic",
        )
        return Built(table)

    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Continues the numbering: every new document gets a new code."""
        codes = built.table.next_code + np.arange(len(documents))
        return Built(built.table.append(documents.doc_ids, codes[:, None]))

    def expected_alphabet(self, options: NoOptions, documents: int | None) -> int | None:
        """As many codes as documents."""
        return None if documents is None else FIRST_CODE + documents


KINDS.register("atomic")(Atomic())

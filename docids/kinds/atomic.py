"""Atomic identifiers: every document is one code of its own (DSI, section 3.2)."""

from __future__ import annotations

import numpy as np

from docids.kinds.base import KINDS, Built, Documents, Kind, NoOptions
from docids.table import FIRST_CODE, DocidTable


class Atomic(Kind):
    """One code for each document: the row number, from FIRST_CODE on."""

    form = "atomic"
    uses_content = False

    def build(self, documents: Documents, options: NoOptions, seed: int) -> Built:
        """Numbers the documents in their order; nothing is drawn at random."""
        codes = FIRST_CODE + np.arange(len(documents))
        table = DocidTable.from_sequences(
            documents.doc_ids,
            codes[:, None],
            alphabet_size=FIRST_CODE + len(documents),
            kind="atomic",
        )
        return Built(table)

    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Goes on numbering: every new document is a new code."""
        codes = built.table.alphabet_size + np.arange(len(documents))
        return Built(built.table.append(documents.doc_ids, codes[:, None]))

    def expected_alphabet(self, options: NoOptions, documents: int | None) -> int | None:
        """As many codes as documents."""
        return None if documents is None else FIRST_CODE + documents


KINDS.register("atomic")(Atomic())

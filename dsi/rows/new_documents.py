"""The documents that an update adds to an index, and their codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from docids.table import FIRST_CODE, DocidTable
from dsi.rows.corpus import Corpus, code_vectors


@dataclass(frozen=True)
class NewDocuments:
    """The documents of an index, and which of them are new to the model.

    Attributes:
        corpus: The documents of all rows; a retired one has no tokens.
        rows: Table rows of the documents that are new or have a new text, ascending;
            int64 [new].
        known_tokens: Previous number of tokens of the text encoder.
        known_codes: Previous number of codes in use; new ones follow them.
        code_tokens: The token of each code, for identifiers in the tokens of a language model;
            int64 [codes], -1 for none. None for any other.
    """

    corpus: Corpus
    rows: npt.NDArray[np.int64]
    known_tokens: int
    known_codes: int
    code_tokens: npt.NDArray[np.int64] | None = None

    @property
    def table(self) -> DocidTable:
        """All identifiers."""
        return self.corpus.table

    @property
    def old_rows(self) -> npt.NDArray[np.int64]:
        """The other live rows, ascending; int64 [old]."""
        return np.setdiff1d(self.table.live, self.rows)

    def own_codes(self) -> npt.NDArray[np.int64]:
        """Returns the codes that occur in identifiers of new documents only, ascending.

        Their rows in the model represent no old document and may be overwritten; int64 [codes].
        """
        new, others = self._codes()
        return np.setdiff1d(new, others)

    def shared_codes(self) -> npt.NDArray[np.int64]:
        """Returns the codes that occur in identifiers of new and of other documents, ascending."""
        new, others = self._codes()
        return np.intersect1d(new, others)

    def _codes(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns the codes of new documents, and those of all others, including retired ones."""
        owner = np.repeat(self.table.owners, self.table.lengths)
        codes = np.asarray(self.table.codes)
        new = np.isin(owner, self.rows) & (codes >= FIRST_CODE)
        others = ~new & (codes >= FIRST_CODE)
        return codes[new].astype(np.int64), codes[others].astype(np.int64)

    def vectors_of_codes(
        self, vectors: npt.NDArray[np.float32], alphabet_size: int
    ) -> npt.NDArray[np.float32]:
        """Returns a vector for each code of new documents: their mean, as at the start.

        Args:
            vectors: One for each of `rows`; float32 [new, width].
            alphabet_size: Size of the docid alphabet.

        Returns:
            float32 [alphabet_size, width]; 0 for other codes.
        """
        several = [self.table.sequences(row) for row in self.rows.tolist()]
        part = DocidTable.from_sequences(
            [str(row) for row in self.rows.tolist()],
            [identifier for identifiers in several for identifier in identifiers],
            alphabet_size=self.table.alphabet_size,
            kind=self.table.kind,
            counts=[len(identifiers) for identifiers in several],
            shared=self.table.shared,
        )
        return code_vectors(part, vectors, alphabet_size)

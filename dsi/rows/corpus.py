"""The documents that rows stand for, and the vectors of their codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from docids.code_learning.seq2seq import CodeVectors
from docids.table import FIRST_CODE, DocidTable

if TYPE_CHECKING:
    import scipy.sparse as sparse


@dataclass(frozen=True)
class Codebooks:
    """What codes of quantized identifiers stand for.

    Attributes:
        words: The codeword of each code, that of `FIRST_CODE` first; float32 [codes, dimensions].
        vectors: The vectors that were quantized, one for each row of the table; float32
            [documents, dimensions].
    """

    words: npt.NDArray[np.float32]
    vectors: npt.NDArray[np.float32]

    def projected(self, documents: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns the codewords in the space of a model's vectors of the same documents.

        By the linear map that takes the quantized vectors to the model's with least squares: as
        codewords add up to the vector of a document, so do their images.

        Args:
            documents: float32 [documents, width].

        Returns:
            float32 [codes, width].
        """
        projection = np.linalg.lstsq(self.vectors, documents, rcond=None)[0]
        return (self.words @ projection).astype(np.float32)


def tokens_of(document: Sequence[int], start: int, length: int) -> list[int]:
    """Returns some tokens of a document that is read as it is."""
    return list(document[start : start + length])


@dataclass(frozen=True)
class Corpus:
    """The documents that the docid rows are to stand for.

    Attributes:
        tokens: Token ids of each document, title first, in the row order of `table`.
        table: Their identifiers.
        titles: Token ids of each title, in the same order; none where titles count once.
        title_weight: How often a title counts beside its text.
        latent_weight: Logit of a document whose vector points where the query's does, for a start
            that computes cosines.
        codebooks: What the rows of codes are to stand for; None for the mean of the documents
            that have the code.
        codes: What the codes are to the model that was trained with them; None where none was.
        vectors: What a pretrained encoder of texts makes of each document, in the row order of
            `table`; float32 [documents, width]. None where none has been asked.
        part: Returns some tokens of a document, from a place on, so many of them, as it is read.
    """

    tokens: Sequence[Sequence[int]]
    table: DocidTable
    titles: Sequence[Sequence[int]] = ()
    title_weight: int = 1
    latent_weight: float = 2.0
    codebooks: Codebooks | None = None
    codes: CodeVectors | None = None
    vectors: npt.NDArray[np.float32] | None = None
    part: Callable[[Sequence[int], int, int], list[int]] = tokens_of

    def weighted(self) -> list[list[int]]:
        """Returns the tokens with each title as often as it counts; once is in `tokens`."""
        titles = self.titles or [()] * len(self.tokens)
        extra = self.title_weight - 1
        return [
            [*text, *(list(title) * extra)] for text, title in zip(self.tokens, titles, strict=True)
        ]


def code_rows(
    corpus: Corpus, vectors: npt.NDArray[np.float32], alphabet_size: int
) -> npt.NDArray[np.float32]:
    """Returns the output row that each code starts from.

    Args:
        corpus: The documents, with their codebooks where rows are to start from these.
        vectors: What the model makes of each document; float32 [rows, width].
        alphabet_size: How many codes there are.

    Returns:
        float32 [alphabet_size, width]: the projected codeword of a code that has one, the mean
        of its documents (`code_vectors`) for any other.
    """
    rows = code_vectors(corpus.table, vectors, alphabet_size)
    if corpus.codebooks is not None:
        words = corpus.codebooks.projected(vectors)
        rows[FIRST_CODE : FIRST_CODE + len(words)] = words
    return rows


def code_vectors(
    table: DocidTable, vectors: npt.NDArray[np.float32], alphabet_size: int
) -> npt.NDArray[np.float32]:
    """Returns one vector for each code: the mean over the documents whose identifier has it.

    A code that the identifiers of many documents share points at what they have in common; the
    mean is stretched to the mean length of the documents' vectors. Unused codes get zeros.

    Args:
        table: The identifiers.
        vectors: One vector for each row of the table; float32 [rows, width].
        alphabet_size: How many codes there are.

    Returns:
        float32 [alphabet_size, width].
    """
    having = members(table, np.arange(len(table)), np.arange(alphabet_size))
    sums = np.asarray(having @ vectors, dtype=np.float32)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    typical = float(np.linalg.norm(vectors, axis=1).mean()) or 1.0
    shared = np.asarray(having.sum(axis=1)).reshape(-1, 1)
    scale = np.where(shared > 1, typical / np.maximum(lengths, 1e-12), 1.0)
    return sums * scale.astype(np.float32)


def members(
    table: DocidTable, rows: npt.NDArray[np.int64], codes: npt.NDArray[np.int64]
) -> sparse.csr_matrix:
    """Returns how often some documents have some codes in their identifiers.

    Args:
        table: The identifiers.
        rows: Table rows of the documents; int64 [documents].
        codes: int64 [codes].

    Returns:
        float32 [codes, documents], sparse.
    """
    import scipy.sparse as sparse

    row_places = np.full(len(table), -1, np.int64)
    row_places[rows] = np.arange(len(rows))
    code_places = np.full(int(max(table.alphabet_size, codes.max(initial=-1) + 1)), -1, np.int64)
    code_places[codes] = np.arange(len(codes))
    places = code_places[np.asarray(table.codes)]
    owners = row_places[np.repeat(table.owners, table.lengths)]
    both = (places >= 0) & (owners >= 0)
    return sparse.csr_matrix(
        (np.ones(int(both.sum()), np.float32), (places[both], owners[both])),
        shape=(len(codes), len(rows)),
    )

"""The documents that rows represent, and the vectors of their codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from docids.code_learning.encoder_decoder import CodeVectors
from docids.table import FIRST_CODE, DocidTable
from dsi.text_encoders.tokenized_corpus import TokenizedCorpus

if TYPE_CHECKING:
    import scipy.sparse as sparse


@dataclass(frozen=True)
class Codebooks:
    """The vectors behind the codes of quantized identifiers.

    Attributes:
        words: The codeword of each code, starting at `FIRST_CODE`; float32 [codes, dimensions].
        vectors: The quantized vectors, one for each row of the table; float32 [documents,
            dimensions].
    """

    words: npt.NDArray[np.float32]
    vectors: npt.NDArray[np.float32]

    def projected(self, documents: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Maps the codewords into the space of a model's vectors of the same documents.

        The map is the linear least-squares fit from the quantized vectors to the model's: since
        codewords add up to the vector of a document, so do their images.

        Args:
            documents: float32 [documents, width].

        Returns:
            float32 [codes, width].
        """
        projection = np.linalg.lstsq(self.vectors, documents, rcond=None)[0]
        return (self.words @ projection).astype(np.float32)


def tokens_of(document: Sequence[int], start: int, length: int) -> list[int]:
    """Returns a slice of the tokens of a document without a prompt."""
    return list(document[start : start + length])


@dataclass(frozen=True)
class Corpus:
    """The documents that the docid rows should represent.

    Attributes:
        tokens: Token ids of each document, title first, in the row order of `table`.
        table: Their identifiers.
        title_tokens: Token ids of each title, in the same order; empty if titles count once.
        title_weight: How often a title counts relative to its text.
        latent_weight: Logit of a document whose vector has the direction of the query's, for a
            start that computes cosines.
        codebooks: The vectors for the rows of codes; None for the mean of the documents that have
            the code.
        codes: The vectors of codes in the model that was trained with them; None if none was.
        vectors: Each document's vector from a pretrained text encoder, in the row order of `table`;
            float32 [documents, width]. None if none was used.
        part: Returns the tokens of a document from a given start, up to a given number, as the
            model reads them.
        precision: Precision of the matrix products where a pretrained model reads the documents:
            "fp32" or "bf16".
    """

    tokens: Sequence[Sequence[int]]
    table: DocidTable
    title_tokens: Sequence[Sequence[int]] = ()
    title_weight: int = 1
    latent_weight: float = 2.0
    codebooks: Codebooks | None = None
    codes: CodeVectors | None = None
    vectors: npt.NDArray[np.float32] | None = None
    part: Callable[[Sequence[int], int, int], list[int]] = tokens_of
    precision: str = "fp32"

    @classmethod
    def of(cls, documents: TokenizedCorpus) -> Corpus:
        """Returns tokenized documents with default settings."""
        return cls(
            documents.tokens, documents.table, documents.title_tokens, part=documents.text.part
        )

    def weighted(self, rows: Iterable[int]) -> list[list[int]]:
        """Returns the tokens of some documents with each title repeated by its weight."""
        extra = self.title_weight - 1
        if not self.title_tokens:
            return [list(self.tokens[row]) for row in rows]
        return [[*self.tokens[row], *(list(self.title_tokens[row]) * extra)] for row in rows]


def code_rows(
    corpus: Corpus, vectors: npt.NDArray[np.float32], alphabet_size: int
) -> npt.NDArray[np.float32]:
    """Returns the initial output row of each code.

    Args:
        corpus: The documents, with their codebooks if rows should start from these.
        vectors: The model's vector of each document; float32 [rows, width].
        alphabet_size: Size of the docid alphabet.

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

    A code that many documents share points at what they have in common; the mean is rescaled to the
    mean norm of the documents' vectors. Unused codes get zeros.

    Args:
        table: The identifiers.
        vectors: One vector for each row of the table; float32 [rows, width].
        alphabet_size: Size of the docid alphabet.

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
    """Returns the counts of some codes in the identifiers of some documents.

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

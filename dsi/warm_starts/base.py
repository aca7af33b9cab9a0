"""What a warm start is given, and the registry of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from data_prep.registry import Registry
from docids.table import DocidTable

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Corpus:
    """The documents that the docid rows are to stand for.

    Attributes:
        tokens: Token ids of each document, title first, in the row order of `table`.
        table: Their identifiers.
        titles: Token ids of each title, in the same order; none where titles count once.
        title_weight: How often a title counts beside its text.
    """

    tokens: Sequence[Sequence[int]]
    table: DocidTable
    titles: Sequence[Sequence[int]] = ()
    title_weight: int = 1

    def weighted(self) -> list[list[int]]:
        """Returns the tokens with each title as often as it counts; once is in `tokens`."""
        titles = self.titles or [()] * len(self.tokens)
        extra = self.title_weight - 1
        return [
            [*text, *(list(title) * extra)] for text, title in zip(self.tokens, titles, strict=True)
        ]


class WarmStart(Protocol):
    """Changes a model's weights before the first step so that it ranks sensibly at once."""

    def __call__(self, model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
        """Changes the weights in place.

        Raises:
            InputError: The model is of a kind that this warm start cannot prepare.
        """
        ...


WARM_STARTS: Registry[WarmStart] = Registry("warm start")


@WARM_STARTS.register("none")
def no_warm_start(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Leaves the weights as they were drawn or loaded."""


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
    import scipy.sparse as sparse

    codes = np.asarray(table.codes)
    owners = np.repeat(table.owners, table.lengths)
    members = sparse.csr_matrix(
        (np.ones(len(codes), np.float32), (codes, owners)), shape=(alphabet_size, len(table))
    )
    sums = np.asarray(members @ vectors, dtype=np.float32)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    typical = float(np.linalg.norm(vectors, axis=1).mean()) or 1.0
    shared = np.asarray(members.sum(axis=1)).reshape(-1, 1)
    scale = np.where(shared > 1, typical / np.maximum(lengths, 1e-12), 1.0)
    return sums * scale.astype(np.float32)


def set_rows(weight: torch.Tensor, rows: npt.NDArray[np.float32]) -> None:
    """Copies an array into the weights of an embedding or output layer, outside the graph."""
    import torch

    with torch.no_grad():
        weight.copy_(torch.from_numpy(np.ascontiguousarray(rows)).to(weight))

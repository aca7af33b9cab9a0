"""What growing a model is given, the registry of ways, and the rows that all of them need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from data_prep.registry import Registry
from docids.table import FIRST_CODE, DocidTable
from dsi.warm_starts.base import Corpus, code_vectors

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Newcomers:
    """The documents of an index, and which of them the model has not seen yet.

    Attributes:
        table: All identifiers.
        rows: Table rows of the documents that are new or have a new text, ascending;
            int64 [new].
        tokens: Token ids of the document of every row, title first; empty for retired rows.
        titles: Token ids of the titles, likewise.
        known_tokens: How many tokens the text encoder had before.
        title_weight: How often a title counts beside its text.
    """

    table: DocidTable
    rows: npt.NDArray[np.int64]
    tokens: Sequence[Sequence[int]]
    titles: Sequence[Sequence[int]]
    known_tokens: int
    title_weight: int = 1

    def texts(self, rows: npt.NDArray[np.int64]) -> list[list[int]]:
        """Returns the tokens of some documents with each title as often as it counts."""
        part = rows.tolist()
        return Corpus(
            [self.tokens[row] for row in part],
            self.table,
            [self.titles[row] for row in part],
            self.title_weight,
        ).weighted()

    @property
    def old_rows(self) -> npt.NDArray[np.int64]:
        """The other live rows, ascending; int64 [old]."""
        return np.setdiff1d(self.table.live, self.rows)

    def own_codes(self) -> npt.NDArray[np.int64]:
        """Returns the codes that occur in identifiers of new documents only, ascending.

        Their rows in the model stand for no old document and may be written; int64 [codes].
        """
        new, others = self._codes()
        return np.setdiff1d(new, others)

    def shared_codes(self) -> npt.NDArray[np.int64]:
        """Returns the codes that occur in identifiers of new and of other documents, ascending."""
        new, others = self._codes()
        return np.intersect1d(new, others)

    def _codes(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns the codes of new documents, and those of all others, retired ones too."""
        owner = np.repeat(self.table.owners, self.table.lengths)
        codes = np.asarray(self.table.codes)
        new = np.isin(owner, self.rows) & (codes >= FIRST_CODE)
        others = ~new & (codes >= FIRST_CODE)
        return codes[new].astype(np.int64), codes[others].astype(np.int64)

    def vectors_of_codes(
        self, vectors: npt.NDArray[np.float32], alphabet_size: int
    ) -> npt.NDArray[np.float32]:
        """Returns a vector for each code of new documents: the mean of theirs, as at the start.

        Args:
            vectors: One for each of `rows`; float32 [new, width].
            alphabet_size: How many codes there are.

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


class Growth(Protocol):
    """Gives the rows of new documents weights with which the model ranks them sensibly at once."""

    def __call__(self, model: PreTrainedModel, newcomers: Newcomers, seed: int) -> PreTrainedModel:
        """Returns the model with rows written."""
        ...


GROWTHS: Registry[Growth] = Registry("growth")
"""By the name of the warm start that the first version had."""


def grow(
    model: PreTrainedModel, newcomers: Newcomers, *, start: str, text_vocabulary: int, seed: int
) -> PreTrainedModel:
    """Makes room for new documents in a model and writes their rows.

    The rows of old codes and old tokens come out as they went in, but for what the growth of
    that name says.

    Args:
        model: The model of the version before; changed in place.
        newcomers: The documents.
        start: The warm start of the first version.
        text_vocabulary: Tokens of the text encoder now.
        seed: Of new random weights.
    """
    before = model.get_output_embeddings().weight.shape[0]
    add_rows(model, text_vocabulary, newcomers.table.alphabet_size, seed)
    if not len(newcomers.rows):
        return model
    start_new_codes(model, newcomers, before, seed)
    return GROWTHS[start](model, newcomers, seed)


def add_rows(model: PreTrainedModel, text_vocabulary: int, alphabet_size: int, seed: int) -> None:
    """Lengthens embeddings and output layer in place; new rows are small and random.

    Args:
        model: The model.
        text_vocabulary: Tokens that it is to read.
        alphabet_size: Codes that it is to write.
        seed: Of the new rows.
    """
    import torch

    from dsi.backbone import set_text_rows

    generator = torch.Generator().manual_seed(seed)
    layers: list[tuple[Any, int]] = [
        (model.get_encoder().get_input_embeddings(), text_vocabulary),
        (model.get_decoder().get_input_embeddings(), alphabet_size),
        (model.get_output_embeddings(), alphabet_size),
    ]
    for layer, rows in layers:
        old = layer.weight.detach()
        more = rows - len(old)
        if more <= 0:
            continue
        typical = float(old.norm(dim=1).mean()) * old.shape[1] ** -0.5
        drawn = torch.randn((more, old.shape[1]), generator=generator).to(old) * (0.1 * typical)
        layer.weight = torch.nn.Parameter(torch.cat([old, drawn]))
        for name in ("num_embeddings", "out_features"):
            if hasattr(layer, name):
                setattr(layer, name, rows)
    if hasattr(model, "final_logits_bias"):
        bias: Any = model.final_logits_bias
        longer = bias.new_zeros((1, max(alphabet_size, bias.shape[1])))
        longer[:, : bias.shape[1]] = bias
        model.register_buffer("final_logits_bias", longer)
    if hasattr(model, "pawa"):
        adaptor: Any = model.pawa
        adaptor.lengthen(alphabet_size)
    model.config.vocab_size = max(alphabet_size, model.config.vocab_size)
    set_text_rows(model, max(text_vocabulary, len(layers[0][0].weight)))


def start_new_codes(model: PreTrainedModel, newcomers: Newcomers, before: int, seed: int) -> None:
    """Lets new codes enter the decoder as old ones do on average, with a little of their own.

    Args:
        model: The model, with rows for all codes; changed in place.
        newcomers: Which documents are new.
        before: How many codes there were.
        seed: Of whatever is drawn at random.
    """
    import torch

    embedding: torch.Tensor = model.get_decoder().get_input_embeddings().weight
    if len(embedding) <= before:
        return
    with torch.no_grad():
        embedding[before:] += embedding[FIRST_CODE:before].mean(dim=0)

"""Growing a model that started spectrally: a new document's row is the state that its text makes.

The vectors of tokens stay what they are, so that a new document is exactly where it would be had
it been there from the beginning with these vectors, and old documents stay where they were
(folding-in; Deerwester et al., Indexing by Latent Semantic Analysis, 1990). New words count for
nothing until training gives them a direction. Codes that old documents share with new ones, such
as a branch of a tree, turn towards what they have in common now.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from dsi.updating.growth.base import GROWTHS, Newcomers
from dsi.updating.states import last_states
from dsi.warm_starts.base import members
from dsi.warm_starts.spectral import silence_tokens

_TOGETHER = 10_000
"""Old documents whose states are added up at once."""


@GROWTHS.register("spectral")
def spectral(model: PreTrainedModel, newcomers: Newcomers, seed: int) -> PreTrainedModel:
    """Writes the state of each new document's text, at length 1, into the rows of its own codes.

    Args:
        model: A T5 after the spectral warm start, trained or not.
        newcomers: The documents.
        seed: Unused; nothing is drawn.
    """
    import torch

    silence_tokens(model, newcomers.known_tokens)
    vectors = document_states(model, newcomers, newcomers.rows)
    output = model.get_output_embeddings().weight
    own = newcomers.own_codes()
    of_codes = newcomers.vectors_of_codes(vectors, len(output))[own]
    with torch.no_grad():
        output[own] = torch.from_numpy(of_codes).to(output)
    _turn_shared_codes(model, newcomers, vectors)
    return model


def document_states(
    model: PreTrainedModel, newcomers: Newcomers, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Returns what the output layer reads for whole documents, at length 1.

    Args:
        model: The model.
        newcomers: Has the documents; titles count as often as there.
        rows: Table rows of those that are asked for; int64 [documents].

    Returns:
        float32 [documents, width]; zero for documents without a token, or without a known one.
    """
    texts = newcomers.texts(rows)
    some = [number for number, text in enumerate(texts) if text]
    states = np.zeros((len(texts), model.config.d_model), np.float32)
    if some:
        states[some] = last_states(model, [texts[number] for number in some], [()] * len(some))
    # Indexes from before there was a constant keep the start here.
    states[:, -2] = 0
    return _directions(states)


def _directions(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns rows at length 1, and those of zeros as they are; float32, shaped like them."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


def _turn_shared_codes(
    model: PreTrainedModel, newcomers: Newcomers, vectors: npt.NDArray[np.float32]
) -> None:
    """Turns the rows of codes that new documents share with old ones as the warm start would.

    The warm start points such a row at the sum of the vectors of its documents. Of a row that has
    been trained since, the part that lies along that sum is turned; the rest stays.

    Args:
        model: The model; changed in place.
        newcomers: The documents.
        vectors: Of the new ones; float32 [new, width].
    """
    import torch

    table, old = newcomers.table, newcomers.old_rows
    shared = newcomers.shared_codes()
    if not len(shared):
        return
    before = np.zeros((len(shared), vectors.shape[1]), np.float32)
    for first in range(0, len(old), _TOGETHER):
        some = old[first : first + _TOGETHER]
        before += members(table, some, shared) @ document_states(model, newcomers, some)
    after = before + members(table, newcomers.rows, shared) @ vectors
    turn = _directions(after) - _directions(before)
    output = model.get_output_embeddings().weight
    with torch.no_grad():
        rows = output[shared].float().cpu().numpy()
        along = np.einsum("ij,ij->i", rows, _directions(before))
        rows += np.maximum(along, 0)[:, None] * turn
        output[shared] = torch.from_numpy(rows).to(output)

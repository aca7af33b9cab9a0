"""Growing a model that started spectrally: new documents are folded into its factorisation.

The model computes `sum of token vectors . document vector`, an approximation of BM25. A new
document's vector is the one whose products with the token vectors come nearest to its BM25
weights (folding-in; Deerwester et al., Indexing by Latent Semantic Analysis, 1990, with least
squares). What is left of the new documents' BM25 matrix, the words above all that no old document
has, is factorised by itself, in dimensions that the model gets for it: old documents are zero
there, so that their order among themselves stays what it was. Codes that old documents share with
new ones, such as a branch of a tree, turn towards what they have in common now.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg as linalg
import scipy.sparse as sparse
from transformers import PreTrainedModel

from dsi.updating.growth.base import GROWTHS, Newcomers
from dsi.updating.widening import RESERVED, can_widen, widen
from dsi.warm_starts.base import Corpus, members
from dsi.warm_starts.spectral import bm25_matrix

WIDEST = 3072
"""As `dsi.backbone.lexical_width`: a model gets no wider than this."""
_RIDGE = 1e-3
_SAMPLE = 500
"""Old documents that the scale of the document vectors is learned from."""


@GROWTHS.register("spectral")
def spectral(model: PreTrainedModel, newcomers: Newcomers, seed: int) -> PreTrainedModel:
    """Folds new documents in, in as many new dimensions as there are new documents.

    Args:
        model: A T5 after the spectral warm start, trained or not.
        newcomers: The documents.
        seed: Of the choice of old documents that set the scale.
    """
    tokens = read_tokens(model)
    tokens[newcomers.known_tokens :] = 0  # of these the model knows nothing yet
    known = Corpus(
        newcomers.tokens, newcomers.table, newcomers.titles, newcomers.title_weight
    ).weighted()
    live = newcomers.table.live
    matrix = bm25_matrix([known[row] for row in live.tolist()], len(tokens)).astype(np.float32)
    places = np.searchsorted(live, newcomers.rows)
    folded = _Fold(tokens)
    vectors = folded(matrix[places])
    old = newcomers.old_rows
    if len(old) > _SAMPLE:
        old = np.sort(np.random.default_rng([seed, 11]).choice(old, _SAMPLE, replace=False))
    scale = _scale(model, newcomers, tokens, old, matrix[np.searchsorted(live, old)])
    vectors *= scale
    extra = _room(model, len(newcomers.rows))
    if extra:
        more_tokens, more = _factorise_rest(matrix[places], scale, tokens, vectors, folded, extra)
        model = widen(model, extra)
        write_tokens(model, np.concatenate([tokens, more_tokens], axis=1))
        vectors = np.concatenate([vectors, more], axis=1)
    elif len(tokens) > newcomers.known_tokens:
        new_words = matrix[places][:, newcomers.known_tokens :] * scale
        tokens[newcomers.known_tokens :] = _words_by_documents(new_words, vectors)
        write_tokens(model, tokens)
    _write_documents(model, newcomers, vectors)
    old_matrix = matrix[np.searchsorted(live, newcomers.old_rows)]
    # Folding is linear: sums are folded, and no document by itself.
    _turn_shared_codes(
        model, newcomers, vectors, lambda having: folded(having @ old_matrix) * scale
    )
    return model


class _Fold:
    """Finds the document vectors whose products with the token vectors are given weights."""

    def __init__(self, tokens: npt.NDArray[np.float32]) -> None:
        self.tokens = tokens
        self.gram = tokens.T @ tokens
        # What training has left in dimensions that no document needed must not be built upon.
        ridge = _RIDGE * max(_largest(self.gram), 1e-12)
        held = self.gram.astype(np.float64)
        np.einsum("ii->i", held)[:] += ridge
        self._factor = linalg.cho_factor(held, lower=True, overwrite_a=True, check_finite=False)

    def __call__(self, matrix: sparse.csr_matrix) -> npt.NDArray[np.float32]:
        """Returns float32 [documents, dimensions] for weights [documents, tokens]."""
        wanted = np.asarray(matrix @ self.tokens, np.float64)
        return linalg.cho_solve(self._factor, wanted.T, check_finite=False).T.astype(np.float32)


def read_tokens(model: PreTrainedModel) -> npt.NDArray[np.float32]:
    """Returns the vectors by which tokens count in the model; float32 [tokens, width - 2].

    The encoder embeds a token as its direction and its log weight, and its RMS norm divides
    by the length of the whole.
    """
    rows = model.get_encoder().get_input_embeddings().weight.detach().float().cpu().numpy()
    shrunk = _length(model) / np.maximum(_norms(rows), 1e-12)
    scale = shrunk * np.exp(rows[:, -RESERVED] * shrunk)
    return np.asarray(rows[:, :-RESERVED] * scale[:, None], np.float32)


def write_tokens(model: PreTrainedModel, vectors: npt.NDArray[np.float32]) -> None:
    """Embeds tokens so that they count by these vectors; `read_tokens` backwards, up to scale."""
    from dsi.warm_starts.base import set_rows

    weights = _norms(vectors)
    known = weights > 1e-12
    lightest = weights[known].min() if known.any() else 1.0
    logs = np.log(np.where(known, weights, lightest))
    # Attention weighs tokens relative to one another: only differences of logs count.
    logs -= (logs.max() + logs.min()) / 2
    rows = np.empty((len(vectors), vectors.shape[1] + RESERVED), np.float32)
    np.divide(vectors, np.maximum(weights, 1e-12)[:, None], out=rows[:, :-RESERVED])
    rows[:, -2] = logs
    rows[:, -1] = np.sqrt(np.maximum(_length(model) ** 2 - 1 - np.square(logs), 0))
    set_rows(model.get_encoder().get_input_embeddings().weight, rows)


def _norms(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The lengths of rows, without a squared copy of them; float32 [rows]."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)), np.float32)


def _directions(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns rows at length 1, and those of zeros as they are; float32, shaped like them."""
    return np.asarray(rows / np.maximum(_norms(rows), 1e-12)[:, None], np.float32)


def _length(model: PreTrainedModel) -> float:
    """The length of an embedding whose log weight the decoder reads as it is."""
    network: Any = model
    width = network.config.d_model
    key = network.decoder.block[0].layer[1].EncDecAttention.k.weight[0, width - RESERVED]
    gain = network.encoder.final_layer_norm.weight[width - RESERVED]
    return abs(float(key.detach() * gain.detach())) * width**0.5


def _room(model: PreTrainedModel, documents: int) -> int:
    """How many dimensions the model gets: one a document, whole heads, up to the widest."""
    if not can_widen(model):
        return 0
    per_head, width = model.config.d_kv, model.config.d_model
    wanted = -(-documents // per_head) * per_head
    return max(0, min(wanted, (WIDEST - width) // per_head * per_head))


def _largest(gram: npt.NDArray[np.float32]) -> float:
    """The largest eigenvalue of a symmetric matrix, nearly, by power iteration."""
    vector = np.ones(len(gram), np.float32)
    value = 0.0
    for _ in range(20):
        vector = gram @ vector
        value = float(np.linalg.norm(vector))
        if value == 0:
            return 0.0
        vector /= value
    return value


def _scale(
    model: PreTrainedModel,
    newcomers: Newcomers,
    tokens: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    matrix: sparse.csr_matrix,
) -> float:
    """The factor between BM25 weights and what the model computes for old documents.

    Args:
        model: The model.
        newcomers: The documents.
        tokens: Token vectors.
        rows: Table rows of old documents.
        matrix: Their BM25 weights.
    """
    output = model.get_output_embeddings().weight.detach().float().cpu().numpy()
    lasts = newcomers.table.last_codes(rows)
    trained = output[lasts, : tokens.shape[1]]
    product = float((np.asarray(matrix @ tokens) * trained).sum())
    return product / float(matrix.multiply(matrix).sum()) if product > 0 else 1.0


def _factorise_rest(
    matrix: sparse.csr_matrix,
    scale: float,
    tokens: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float32],
    folded: _Fold,
    rank: int,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Factorises `scale * matrix - vectors @ tokens.T` without making it.

    Returns:
        Token vectors float32 [tokens, rank] and document vectors float32 [documents, rank],
        the latter as long as makes the whole rows of new documents 1 long on average.
    """
    scaled = matrix * scale
    mixed = np.asarray(scaled @ tokens) @ vectors.T
    gram = np.asarray((scaled @ scaled.T).todense()) - mixed - mixed.T
    gram = (gram + vectors @ folded.gram @ vectors.T).astype(np.float64)
    values, left = np.linalg.eigh((gram + gram.T) / 2)
    kept = min(rank, len(values))
    values, left = values[::-1][:kept], left[:, ::-1][:, :kept]
    singular = np.sqrt(np.maximum(values, 0))
    good = singular > 1e-4 * max(float(singular[0]), 1e-12)
    left, singular = left[:, good].astype(np.float32), singular[good].astype(np.float32)
    right = np.asarray(scaled.T @ left) - tokens @ (vectors.T @ left)
    documents = left * np.sqrt(singular)
    missing = 1 - float(np.square(vectors).sum(axis=1).mean())
    present = float(np.square(documents).sum(axis=1).mean())
    stretch = (missing / present) ** 0.5 if missing > 0 and present > 0 else 1.0
    more = np.zeros((len(vectors), rank), np.float32)
    more_tokens = np.zeros((len(tokens), rank), np.float32)
    more[:, : len(singular)] = documents * stretch
    more_tokens[:, : len(singular)] = right / np.maximum(np.sqrt(singular) * stretch, 1e-12)
    return more_tokens, more


def _words_by_documents(
    matrix: sparse.csr_matrix, vectors: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Where there is no room: vectors of words by which they find the documents that have them.

    Args:
        matrix: Weights [documents, words].
        vectors: Of the documents; float32 [documents, dimensions].

    Returns:
        float32 [words, dimensions].
    """
    gram = vectors.T @ vectors
    ridge = _RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
    wanted = np.asarray(matrix.T @ vectors, np.float32)
    solved = np.linalg.solve(gram + ridge * np.eye(len(gram), dtype=np.float32), wanted.T)
    return np.asarray(solved.T, np.float32)


def _write_documents(
    model: PreTrainedModel, newcomers: Newcomers, vectors: npt.NDArray[np.float32]
) -> None:
    import torch

    output = model.get_output_embeddings().weight
    rows = np.zeros((len(vectors), output.shape[1]), np.float32)
    rows[:, :-RESERVED] = vectors
    of_codes = newcomers.vectors_of_codes(rows, len(output))
    own = newcomers.own_codes()
    with torch.no_grad():
        output[own] = torch.from_numpy(of_codes[own]).to(output)


def _turn_shared_codes(
    model: PreTrainedModel,
    newcomers: Newcomers,
    vectors: npt.NDArray[np.float32],
    old_sums: Callable[[sparse.csr_matrix], npt.NDArray[np.float32]],
) -> None:
    """Turns the rows of codes that new documents share with old ones as the warm start would.

    The warm start points such a row at the sum of the vectors of its documents. Of a row that has
    been trained since, the part that lies along that sum is turned; the rest stays.

    Args:
        model: The model, wide enough for the vectors; changed in place.
        newcomers: The documents.
        vectors: Of the new ones; float32 [new, dimensions].
        old_sums: Given which old documents have which code [codes, old], returns the sums of
            their vectors; float32 [codes, dimensions that there were].
    """
    import torch

    table = newcomers.table
    shared = newcomers.shared_codes()
    if not len(shared):
        return
    sums = old_sums(members(table, newcomers.old_rows, shared))
    before = np.zeros((len(shared), vectors.shape[1]), np.float32)
    before[:, : sums.shape[1]] = sums
    after = before + np.asarray(members(table, newcomers.rows, shared) @ vectors)
    turn = _directions(after) - _directions(before)
    output = model.get_output_embeddings().weight
    with torch.no_grad():
        rows = output[shared].float().cpu().numpy()
        part = rows[:, :-RESERVED]
        along = np.einsum("ij,ij->i", part, _directions(before))
        part += np.maximum(along, 0)[:, None] * turn
        output[shared] = torch.from_numpy(rows).to(output)

"""The spectral warm start: a T5 from scratch that ranks by words before its first step.

The corpus's BM25 matrix (documents x tokens) is factorised by truncated SVD into token vectors
and document vectors, and written into the weights of a T5 so that the untouched network computes
`sum of token vectors . document vector`:

- encoder embedding: a token's direction, its log weight in one reserved dimension, and in a
  second one what keeps all embeddings equally long (so that T5's RMS norm scales all alike);
- cross-attention: queries are constant and keys read the log weight, so that softmax attention
  is the weighted mean of the tokens; values and output pass vectors through;
- self-attention output and feed-forward output are zero, to be learned;
- output rows: document vectors, or for a code that several documents share their mean, or its
  codeword;
- final norm: the scale of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse
from transformers import PreTrainedModel, T5ForConditionalGeneration

from data_prep.errors import InputError
from dsi.warm_starts.base import WARM_STARTS, Corpus, code_rows, random_rotation, set_rows

LOGIT_SCALE = 20.0
"""Logit of a document whose unit vector equals the query's; about exp(1) between neighbours."""
_SMALL = 0.01
_START = 4.0
_START_WIDTH = 2048
_DENSE_DOCUMENTS = 6000
"""Up to this many documents the SVD is exact, by the eigenvectors of the documents' Gram matrix."""


@WARM_STARTS.register("spectral")
def spectral(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Writes the factorised BM25 matrix of a corpus into a T5.

    Args:
        model: A T5 from scratch, its attention as wide as its hidden states.
        corpus: The documents and their identifiers.
        seed: Of the random rotation that spreads the factors over all dimensions, and of the
            randomised SVD of a large corpus.

    Raises:
        InputError: The model is no T5, or its attention is narrower than its hidden states.
    """
    if not isinstance(model, T5ForConditionalGeneration):
        raise InputError(
            f"--warm-start spectral prepares a T5 from scratch, not a {type(model).__name__}",
            mend="Take --warm-start encodings",
        )
    width = model.config.d_model
    if model.config.num_heads * model.config.d_kv != width:
        raise InputError(
            f"--warm-start spectral needs heads x head width = width ({width}), not "
            f"{model.config.num_heads} x {model.config.d_kv}",
            mend="Take --warm-start none",
        )
    vocabulary = model.get_encoder().get_input_embeddings().weight.shape[0]
    matrix = bm25_matrix(corpus.weighted(), vocabulary)
    tokens, documents = factorise(matrix, width - 2, seed)
    _write_encoder(model, tokens, seed)
    _write_attention(model, seed)
    _write_decoder(model, corpus, documents, seed)


def bm25_matrix(
    tokens: Sequence[Sequence[int]], vocabulary: int, k1: float = 1.5, b: float = 0.75
) -> sparse.csr_matrix:
    """Returns the BM25 weight of every token in every document (Lucene's variant).

    Args:
        tokens: Token ids of each document.
        vocabulary: How many tokens there are.
        k1: Saturation of the term frequency.
        b: Strength of the normalisation by length.

    Returns:
        float64 [documents, vocabulary], sparse.
    """
    lengths = np.array([len(line) for line in tokens])
    flat = np.fromiter((token for line in tokens for token in line), np.int64, lengths.sum())
    owners = np.repeat(np.arange(len(tokens)), lengths)
    counts = sparse.csr_matrix(
        (np.ones(len(flat)), (owners, flat)), shape=(len(tokens), vocabulary)
    )
    counts.sum_duplicates()
    frequency = np.bincount(counts.indices, minlength=vocabulary)
    idf = np.log1p((len(tokens) - frequency + 0.5) / (frequency + 0.5))
    norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9))
    per_entry = np.repeat(norm, np.diff(counts.indptr))
    counts.data = idf[counts.indices] * counts.data / (counts.data + per_entry)
    return counts


def factorise(
    matrix: sparse.csr_matrix, rank: int, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Splits a matrix into token and document vectors whose products approximate it.

    Args:
        matrix: [documents, tokens], sparse.
        rank: Width of the vectors; dimensions past the matrix's own rank are zero before the
            rotation.
        seed: Of the rotation, and of the randomised SVD.

    Returns:
        Token vectors float32 [tokens, rank] and document vectors float32 [documents, rank].
    """
    documents, tokens = matrix.shape
    kept = min(rank, documents, tokens)
    if documents <= _DENSE_DOCUMENTS:
        gram = np.asarray((matrix @ matrix.T).todense())
        values, vectors = np.linalg.eigh(gram)
        values, left = values[::-1][:kept], vectors[:, ::-1][:, :kept]
        singular = np.sqrt(np.maximum(values, 0))
        safe = np.where(singular > 1e-6 * max(singular[0], 1e-12), singular, np.inf)
        right = np.asarray(matrix.T @ left) / safe
    else:
        from sklearn.utils.extmath import randomized_svd

        left, singular, transposed = randomized_svd(matrix, kept, random_state=seed)
        right = transposed.T
    # A square root on either side: neither tokens nor documents hold all of the spectrum.
    root = np.sqrt(singular)
    rotation = random_rotation(rank, seed)[:kept]
    return (
        ((right * root) @ rotation).astype(np.float32),
        ((left * root) @ rotation).astype(np.float32),
    )


def _start(width: int) -> float:
    """The decoder's constant input, in its reserved dimension.

    Output rows are zero there, so it does not reach the logits but through the norm. It is large
    so that training the codes' embeddings cannot drown it, and shrinks with the states beside it
    (as the root of the width) in narrow models, whose logits it would flatten otherwise.
    """
    return float(_START * min(1.0, (width / _START_WIDTH) ** 0.5))


def _write_encoder(
    model: T5ForConditionalGeneration, tokens: npt.NDArray[np.float32], seed: int
) -> None:
    width = model.config.d_model
    weights = np.linalg.norm(tokens, axis=1)
    known = weights > 0
    directions = np.random.default_rng([seed, 2]).standard_normal(tokens.shape).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[known] = tokens[known] / weights[known, None]
    # A token that no document has starts as light as the lightest that some document has.
    lightest = weights[known].min() if known.any() else 1.0
    logs = np.log(np.where(known, weights, lightest))
    logs = logs - logs[known].mean() if known.any() else logs
    length = 1 + float(np.square(logs).max())
    rows = np.empty((len(tokens), width), np.float32)
    rows[:, : width - 2] = directions
    rows[:, width - 2] = logs
    rows[:, width - 1] = np.sqrt(length - 1 - np.square(logs) + _SMALL)
    set_rows(model.get_encoder().get_input_embeddings().weight, rows)


def _write_attention(model: T5ForConditionalGeneration, seed: int) -> None:
    """Makes cross-attention weigh tokens and hand them on, and silences everything else."""
    import torch

    width, per_head = model.config.d_model, model.config.d_kv
    embeddings = model.get_encoder().get_input_embeddings().weight
    length = float(embeddings[0].detach().norm())
    # What an RMS norm divides by.
    epsilon = model.config.layer_norm_epsilon
    start = _start(width)
    decoder_norm = (start**2 / width + epsilon) ** 0.5
    encoder_norm = (length**2 / width + epsilon) ** 0.5
    generator = torch.Generator().manual_seed(seed)
    decoder: list[Any] = list(model.decoder.block)
    encoder: list[Any] = list(model.encoder.block)
    with torch.no_grad():
        for block in (*encoder, *decoder):
            block.layer[0].SelfAttention.o.weight.zero_()
            block.layer[-1].DenseReluDense.wo.weight.zero_()
        for number, block in enumerate(decoder):
            attention = block.layer[1].EncDecAttention
            attention.q.weight.zero_()
            attention.k.weight.normal_(std=_SMALL, generator=generator)
            if number:
                attention.o.weight.zero_()
                continue
            # The query of every head is 1, whatever the code; the key is the log weight.
            attention.q.weight[::per_head, width - 2] = decoder_norm / start
            attention.k.weight[::per_head] = 0
            attention.k.weight[::per_head, width - 2] = encoder_norm
            passed = torch.eye(width)
            passed[width - 2 :] = 0
            attention.v.weight.copy_(passed)
            attention.o.weight.copy_(torch.eye(width))


def _write_decoder(
    model: T5ForConditionalGeneration,
    corpus: Corpus,
    documents: npt.NDArray[np.float32],
    seed: int,
) -> None:
    import torch

    width, alphabet = model.config.d_model, model.config.vocab_size
    vectors = np.zeros((len(documents), width), np.float32)
    vectors[:, : width - 2] = documents
    vectors /= max(float(np.linalg.norm(vectors, axis=1).mean()), 1e-12)
    set_rows(model.get_output_embeddings().weight, code_rows(corpus, vectors, alphabet))
    # Every code enters the decoder as the constant that drives the cross-attention, with a
    # random direction too weak to matter until training makes something of it.
    codes = np.random.default_rng([seed, 3]).standard_normal((alphabet, width)).astype(np.float32)
    codes *= _SMALL * width**-0.5
    codes[:, width - 2] = _start(width)
    set_rows(model.get_decoder().get_input_embeddings().weight, codes)
    with torch.no_grad():
        model.decoder.final_layer_norm.weight.fill_(LOGIT_SCALE * width**-0.5)

"""The spectral warm start: a T5 from scratch that initially computes latent semantic analysis.

The corpus' term matrix (documents x tokens) is factorized by a truncated SVD (Deerwester et al.,
Indexing by Latent Semantic Analysis, 1990), and the result is written into the weights, so that the
untrained network computes, exactly for any number of documents,

    weight * cos(sum of the vectors of the query's tokens, sum of those of the document's)

- encoder embedding: a token's direction, its log weight in one reserved dimension, a constant in a
  second, and in a third the value that gives all embeddings the same norm (so that T5's RMS norm
  scales them equally);
- cross-attention: queries are constant and keys read the log weight, so that softmax attention is
  the weighted mean of the tokens; values and output pass vectors through, and use the constant to
  subtract the decoder's start embedding;
- self-attention output and feed-forward output are zero, left to training;
- output rows: document vectors of norm 1; for a code that several documents share, their mean or
  its codeword;
- final norm: the weight.

Token vectors do not change, so that a new document is exactly where it would have been from the
beginning with these vectors, and old documents do not move (folding-in; Deerwester et al., Indexing
by Latent Semantic Analysis, 1990). New words have no effect until training gives them a direction.
Codes that old documents share with new ones, such as a branch of a tree, turn towards their new
common direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse
from transformers import PreTrainedModel, T5ForConditionalGeneration

from data_prep.errors import InputError
from data_prep.progress import track
from dsi.rows.base import WARM_STARTS, WarmStart, random_rotation, set_rows
from dsi.rows.corpus import Corpus, code_rows, members
from dsi.rows.new_documents import NewDocuments
from dsi.rows.states import last_states

RESERVED = 3
"""Dimensions at the end of the states: a constant, a token's log weight, what is left of length."""
_SMALL = 0.01
_START = 0.088
"""The decoder's constant input, as a fraction of the root of the width."""
_SPREAD = 4.0
"""Norm of the state of a single token, before the final norm."""
_LIGHTEST = 1e-3
"""Weight of the lightest tokens, as a fraction of the heaviest; below it directions are shorter."""
_ITERATIONS = 4
_TOGETHER = 20_000
"""Documents per batch of counting."""
_SUMMED = 10_000
"""Old documents per batch whose states are summed."""


def start(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Writes the latent semantic analysis of a corpus into the weights of a T5.

    Args:
        model: A T5 from scratch, its attention as wide as its hidden states.
        corpus: The documents and their identifiers.
        seed: Seed of the randomized SVD, and of the random rotation that spreads its factors over
            all dimensions.

    Raises:
        InputError: The model is not a T5, or its attention is narrower than its hidden states.
    """
    if not isinstance(model, T5ForConditionalGeneration):
        raise InputError(
            f"--model.warm_start spectral prepares a T5 from scratch, not a {type(model).__name__}",
            hint="Use --model.warm_start encodings",
        )
    width = model.config.d_model
    if model.config.num_heads * model.config.d_kv != width:
        raise InputError(
            f"--model.warm_start spectral needs heads x head width = width ({width}), not "
            f"{model.config.num_heads} x {model.config.d_kv}",
            hint="Use --model.warm_start none",
        )
    vocabulary = model.get_encoder().get_input_embeddings().weight.shape[0]
    counts = term_counts(corpus, vocabulary)
    tokens = token_vectors(counts, width - RESERVED, seed)
    documents = np.asarray(counts @ tokens, np.float32)
    documents /= np.maximum(np.linalg.norm(documents, axis=1, keepdims=True), 1e-12)
    _write_encoder(model, tokens)
    _write_attention(model, seed)
    _write_decoder(model, corpus, documents, seed)


def term_counts(corpus: Corpus, vocabulary: int) -> sparse.csr_matrix:
    """Returns the count of every token in every document, with titles weighted.

    Args:
        corpus: The documents.
        vocabulary: Number of tokens.

    Returns:
        float32 [documents, vocabulary], sparse.
    """
    parts = []
    for first in range(0, len(corpus.tokens), _TOGETHER):
        rows = range(first, min(first + _TOGETHER, len(corpus.tokens)))
        parts.append(_counts(corpus.weighted(rows), vocabulary))
    if not parts:
        return sparse.csr_matrix((0, vocabulary), dtype=np.float32)
    return sparse.vstack(parts, format="csr")


def _counts(lines: Sequence[Sequence[int]], vocabulary: int) -> sparse.csr_matrix:
    lengths = np.array([len(line) for line in lines])
    flat = np.fromiter((token for line in lines for token in line), np.int32, lengths.sum())
    starts = np.concatenate([[0], np.cumsum(lengths)])
    counts = sparse.csr_matrix(
        (np.ones(len(flat), np.float32), flat, starts), shape=(len(lines), vocabulary)
    )
    counts.sum_duplicates()
    return counts


def inverse_frequencies(counts: sparse.csr_matrix) -> npt.NDArray[np.float32]:
    """Returns the inverse document frequency of every token, 0 if no document has it.

    log(1 + (N - n + 0.5) / (n + 0.5)) for a token that n of N documents have, as in BM25.

    Args:
        counts: [documents, tokens], sparse.

    Returns:
        float32 [tokens].
    """
    documents, tokens = counts.shape
    having = np.bincount(counts.indices, minlength=tokens)
    weights = np.log1p((documents - having + 0.5) / (having + 0.5))
    return np.asarray(np.where(having > 0, weights, 0), np.float32)


def term_weights(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Returns (1 + log tf) * idf of every token in every document, each row of norm 1.

    Args:
        counts: [documents, tokens], sparse.

    Returns:
        float32, of the same shape; rows of documents without a token are zero.
    """
    weights = counts.copy()
    weights.data = (1 + np.log(weights.data)) * inverse_frequencies(counts)[weights.indices]
    owners = np.repeat(np.arange(counts.shape[0]), np.diff(weights.indptr))
    squares = np.bincount(owners, np.square(weights.data), minlength=counts.shape[0])
    weights.data /= np.sqrt(squares, dtype=np.float32)[owners]
    return weights


def token_vectors(counts: sparse.csr_matrix, rank: int, seed: int) -> npt.NDArray[np.float32]:
    """Returns the token vectors, which are summed over texts: idf times the right singular vectors.

    Args:
        counts: Count of every token in every document; [documents, tokens], sparse.
        rank: Width of the vectors; before the rotation, dimensions past the matrix's own rank are
            zero.
        seed: Seed of the randomized SVD and the rotation.

    Returns:
        float32 [tokens, rank]; zero for tokens that no document has.
    """
    from sklearn.utils.extmath import randomized_svd

    documents, tokens = counts.shape
    components = min(rank, documents, tokens)
    # A single step, to show progress.
    for _ in track(range(1), "latent semantic analysis"):
        _, singular, basis = randomized_svd(
            term_weights(counts), components, n_iter=_ITERATIONS, random_state=seed
        )
    # Past the rank of the matrix, directions are arbitrary and unrelated to the corpus.
    basis = basis[singular > 1e-5 * max(float(singular[0]), 1e-12)]
    scaled = basis.T * inverse_frequencies(counts)[:, None]
    rotation = random_rotation(rank, seed)[: len(basis)].astype(np.float32)
    return np.asarray(scaled @ rotation, np.float32)


def silence_tokens(model: PreTrainedModel, first: int) -> None:
    """Makes all tokens from a given number on have no effect until training gives them a direction.

    Their directions are zero, so that sums are exactly the same. Their log weights are those of an
    average token: gradients reach them like any other.

    Args:
        model: A T5 after the spectral warm start; changed in place.
        first: The first of these tokens; all after it are zeroed too.
    """
    import torch

    network: Any = model
    width = model.config.d_model
    attention = network.decoder.block[0].layer[1].EncDecAttention
    with torch.no_grad():
        gain = float(network.encoder.final_layer_norm.weight[width - 2])
        length = abs(float(attention.k.weight[0, width - 2]) * gain) * width**0.5
        # Indexes written before the constant existed keep the start embedding in their states.
        constant = float(attention.v.weight[width - 2, width - RESERVED] != 0)
        rows = model.get_encoder().get_input_embeddings().weight[first:]
        rows.zero_()
        rows[:, width - RESERVED] = constant
        rows[:, width - 1] = max(length**2 - constant, 0.0) ** 0.5


def _write_encoder(model: T5ForConditionalGeneration, tokens: npt.NDArray[np.float32]) -> None:
    width = model.config.d_model
    weights = np.linalg.norm(tokens, axis=1)
    heaviest = float(weights.max(initial=0.0)) or 1.0
    # Attention cannot represent larger differences between weights; a shorter direction can.
    held = np.maximum(weights, _LIGHTEST * heaviest)
    middle = 0.5 * np.log(_LIGHTEST)
    logs = np.where(weights > 0, np.log(held / heaviest) - middle, 0.0)
    rows = np.zeros((len(tokens), width), np.float32)
    rows[:, : width - RESERVED] = tokens / held[:, None]
    rows[:, width - RESERVED] = 1.0
    rows[:, width - 2] = logs
    rest = 2 + middle**2 - np.square(rows, dtype=np.float64).sum(axis=1)
    rows[:, width - 1] = np.sqrt(np.maximum(rest, 0.0))
    set_rows(model.get_encoder().get_input_embeddings().weight, rows)


def _write_attention(model: T5ForConditionalGeneration, seed: int) -> None:
    """Makes cross-attention weight tokens and pass them through, and zeroes everything else."""
    import torch

    width, per_head = model.config.d_model, model.config.d_kv
    embeddings = model.get_encoder().get_input_embeddings().weight
    length = float(embeddings[0].detach().norm())
    # The divisor of an RMS norm.
    epsilon = model.config.layer_norm_epsilon
    start = _START * width**0.5
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
            # The query of every head is 1 for any code; the key is the log weight.
            attention.q.weight[::per_head, width - 2] = decoder_norm / start
            attention.k.weight[::per_head] = 0
            attention.k.weight[::per_head, width - 2] = encoder_norm
            passed = torch.eye(width) * _SPREAD * encoder_norm
            passed[width - RESERVED :] = 0
            passed[width - 2, width - RESERVED] = -start * encoder_norm
            attention.v.weight.copy_(passed)
            attention.o.weight.copy_(torch.eye(width))


def _write_decoder(
    model: T5ForConditionalGeneration,
    corpus: Corpus,
    documents: npt.NDArray[np.float32],
    seed: int,
) -> None:
    import torch

    from docids.table import PAD

    width, alphabet = model.config.d_model, model.config.vocab_size
    vectors = np.zeros((len(documents), width), np.float32)
    vectors[:, : width - RESERVED] = documents
    set_rows(model.get_output_embeddings().weight, code_rows(corpus, vectors, alphabet))
    # The embedding of every code is the constant that drives the cross-attention, plus a random
    # direction too small to matter before training.
    codes = np.random.default_rng([seed, 3]).standard_normal((alphabet, width), np.float32)
    codes *= _SMALL * width**-0.5
    codes[PAD] = 0
    codes[:, width - 2] = _START * width**0.5
    set_rows(model.get_decoder().get_input_embeddings().weight, codes)
    with torch.no_grad():
        model.decoder.final_layer_norm.weight.fill_(corpus.latent_weight * width**-0.5)


def extend(model: PreTrainedModel, new: NewDocuments, seed: int) -> PreTrainedModel:
    """Writes the normalized state of each new document's text into the rows of its own codes.

    Args:
        model: A T5 after the spectral warm start, trained or not.
        new: The documents.
        seed: Unused; nothing is random.
    """
    import torch

    silence_tokens(model, new.known_tokens)
    vectors = document_states(model, new, new.rows)
    output = model.get_output_embeddings().weight
    new_codes = new.own_codes()
    of_codes = new.vectors_of_codes(vectors, len(output))[new_codes]
    with torch.no_grad():
        output[new_codes] = torch.from_numpy(of_codes).to(output)
    _turn_shared_codes(model, new, vectors)
    return model


def document_states(
    model: PreTrainedModel, new: NewDocuments, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Returns the normalized input of the output layer for whole documents.

    Args:
        model: The model.
        new: The documents, with the weight of their titles.
        rows: Table rows of the requested documents; int64 [documents].

    Returns:
        float32 [documents, width]; zero for documents without a token, or without a known one.
    """
    texts = new.corpus.weighted(rows.tolist())
    some = [number for number, text in enumerate(texts) if text]
    states = np.zeros((len(texts), model.config.d_model), np.float32)
    if some:
        states[some] = last_states(model, [texts[number] for number in some], [()] * len(some))
    # Indexes written before the constant existed keep the start embedding here.
    states[:, -2] = 0
    return _directions(states)


def _directions(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Normalizes rows, leaving zero rows unchanged; float32, same shape."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


def _turn_shared_codes(
    model: PreTrainedModel, new: NewDocuments, vectors: npt.NDArray[np.float32]
) -> None:
    """Turns the rows of codes that new and old documents share, as the warm start would.

    The warm start points such a row at the sum of the vectors of its documents. In a row that has
    been trained since, the component along that sum is turned; the rest is unchanged.

    Args:
        model: The model; changed in place.
        new: The documents.
        vectors: Vectors of the new documents; float32 [new, width].
    """
    import torch

    table, old = new.table, new.old_rows
    shared = new.shared_codes()
    if not len(shared):
        return
    before = np.zeros((len(shared), vectors.shape[1]), np.float32)
    for first in range(0, len(old), _SUMMED):
        some = old[first : first + _SUMMED]
        before += members(table, some, shared) @ document_states(model, new, some)
    after = before + members(table, new.rows, shared) @ vectors
    change = _directions(after) - _directions(before)
    output = model.get_output_embeddings().weight
    with torch.no_grad():
        rows = output[shared].float().cpu().numpy()
        projection = np.einsum("ij,ij->i", rows, _directions(before))
        rows += np.maximum(projection, 0)[:, None] * change
        output[shared] = torch.from_numpy(rows).to(output)


WARM_STARTS.register("spectral")(WarmStart(start, extend))

"""The warm start of a pretrained model: docid rows from its own encodings of documents."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from transformers import PreTrainedModel

from data_prep.progress import track
from docids.table import FIRST_CODE
from dsi.backbones.backbone import decoder_without_head, longest_text
from dsi.backbones.inference import evaluating, padded
from dsi.backbones.language_model import is_prompted
from dsi.rows.base import WARM_STARTS, WarmStart, set_rows
from dsi.rows.corpus import Corpus, code_rows, tokens_of
from dsi.rows.new_documents import NewDocuments

_BATCH = 64
_TOKENS = 256
"""Tokens of a document that are read."""
_PIECE = 32
"""Tokens of a piece of a document: as long as queries are by default."""
_SAMPLE = 200
"""Number of old documents from whose encodings the common component is estimated."""
_SHRINKAGE = 0.2
"""Shrinkage of the covariance: this many mean variances are added to its diagonal."""
_OWN_LOGIT = 12.0
"""Mean logit of a document for its own state, beside 0 for the mean state. With smaller ones the
softmax starts flat, and training overwrites the rows before it learns from them."""
_LEAST_COSINE = 0.1
"""Mean cosine of row and state that rows are scaled for at least. Of a model that hardly tells
documents apart, the logits for other texts would be too large."""
_MOST_HALVINGS = 6
"""Factor of the scale of rows, for states that dropout changes."""
_TINY = 1e-12


def start(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Initializes output rows and decoder embeddings from the model's encodings of the documents.

    A document is read in pieces as long as a query. Its state is the mean over them of that after
    the first decoder step (the input of the output layer), and its output row the direction in
    which it differs from other documents (`discriminants`): the row responds to texts with similar
    states. A code that several documents share gets their mean, or its codeword.

    Args:
        model: Any pretrained network with the docid alphabet.
        corpus: The documents and their identifiers.
        seed: Of the dropout that bounds the scale of the rows.
    """
    states, pieces = document_states(model, corpus.tokens, corpus.part, corpus.precision)
    alphabet = model.config.vocab_size
    rows = discriminants(states, pieces)
    mean_logit = float((states * rows).sum(axis=1).mean())
    least = _LEAST_COSINE * float(np.linalg.norm(states, axis=1).mean())
    rows *= _OWN_LOGIT / max(mean_logit, least, _TINY)
    rows *= _factor(*_states_with_dropout(model, corpus, seed), rows)
    output_rows = code_rows(corpus, rows, alphabet)
    set_rows(model.get_output_embeddings().weight, output_rows)
    embedding = model.get_decoder().get_input_embeddings().weight
    before = embedding.detach().float().cpu().numpy()
    typical = float(np.linalg.norm(before[FIRST_CODE:], axis=1).mean())
    directions = code_rows(corpus, _normalized(states - states.mean(axis=0)), alphabet)
    # PAD, the start token, is in no identifier: its embedding stays as it was for the states.
    used = directions.any(axis=1, keepdims=True)
    set_rows(embedding, np.where(used, directions * typical, before))


def _states_with_dropout(
    model: PreTrainedModel, corpus: Corpus, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Returns states as training computes them for the beginnings of some documents, and which."""
    import torch

    documents = len(corpus.tokens)
    generator = np.random.default_rng([seed, 13])
    chosen = np.sort(generator.choice(documents, min(documents, _SAMPLE), replace=False))
    lines = [corpus.part(corpus.tokens[row], 0, _PIECE) or [0] for row in chosen]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _decoder_states(model, lines, corpus.precision, dropout=True), chosen


def _factor(
    states: npt.NDArray[np.float32], owners: npt.NDArray[np.int64], rows: npt.NDArray[np.float32]
) -> float:
    """Returns the largest power of a half that makes rows no worse than equal ones for some states.

    Dropout moves the states of a narrow network, or of one that hardly tells documents apart, by
    more than they differ. Large rows then favor other documents in every step. The cross-entropy is
    convex in the scale of the rows, and that of equal rows at 0: wherever a scale is worse than
    that, a smaller one is better.

    Args:
        states: float32 [texts, width].
        owners: The row of the document of each text.
        rows: float32 [documents, width].
    """
    logits = (states @ rows.T).astype(np.float64)
    own_logits = logits[np.arange(len(owners)), owners]
    for halvings in range(_MOST_HALVINGS):
        factor = 0.5**halvings
        if np.mean(logsumexp(factor * logits, axis=1) - factor * own_logits) <= math.log(len(rows)):
            return float(factor)
    return float(0.5**_MOST_HALVINGS)


def discriminants(
    states: npt.NDArray[np.float32], among: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Returns the direction of each state that separates it best from those of other documents.

    The states of a pretrained model have most of their norm in a few directions that all texts
    share (Ethayarajh, EMNLP 2019): multiplied with one another, they rank documents alike for every
    query. As in linear discriminant analysis, centered states are multiplied by the inverse of a
    covariance, shrunk towards a multiple of the identity. What is left along the mean state would
    give a document the same logit for every query, and is removed.

    Args:
        states: float32 [documents, width].
        among: The states that define mean and covariance, at least one; float32 [others, width].

    Returns:
        float32 [documents, width], of norm 1; 0 for a state that equals the mean.
    """
    mean = among.mean(axis=0, dtype=np.float64)
    spread = among - mean
    covariance = spread.T @ spread / len(among)
    level = _SHRINKAGE * float(np.trace(covariance)) / len(covariance)
    covariance[np.diag_indices_from(covariance)] += max(level, _TINY)
    solved = np.linalg.solve(covariance, np.column_stack([(states - mean).T, mean]))
    rows, common = solved[:, :-1].T, solved[:, -1]
    rows -= np.outer(rows @ mean / max(float(mean @ common), _TINY), common)
    return _normalized(rows).astype(np.float32)


def _normalized(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)


def document_states(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    part: Callable[[Sequence[int], int, int], list[int]] = tokens_of,
    precision: str = "fp32",
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Reads documents in pieces; returns the mean state of each, and the states of all pieces.

    Args:
        model: The model; temporarily in evaluation mode.
        texts: Token ids of each document; only the first 256 are read. Pieces have at most 32, or
            as many as the model has positions.
        part: Takes a slice of a text, with the prompt around it.
        precision: Precision of the matrix products: "fp32" or "bf16".

    Returns:
        float32 [documents, width], and float32 [pieces, width].
    """
    lines, owners = [], []
    for number, text in enumerate(texts):
        prompt_tokens = len(part(text, 0, 0))
        room = (longest_text(model) or _TOKENS) - prompt_tokens - int(is_prompted(model))
        length = min(len(text) - prompt_tokens, _TOKENS)
        # All pieces of a document have about the same length.
        pieces = max(1, math.ceil(length / max(1, min(_PIECE, room))))
        ends = [length * place // pieces for place in range(pieces + 1)]
        lines += [part(text, *bounds) or [0] for bounds in _slices(ends)]
        owners += [number] * pieces
    states = _decoder_states(model, lines, precision)
    sums = np.zeros((len(texts), states.shape[1]), np.float32)
    np.add.at(sums, owners, states)
    counts = np.bincount(owners, minlength=len(texts)).astype(np.float32)
    sums /= counts[:, None]
    return sums, states


def _slices(ends: Sequence[int]) -> list[tuple[int, int]]:
    """Returns start and length of what lies between consecutive places."""
    return [(start, end - start) for start, end in itertools.pairwise(ends)]


def _decoder_states(
    model: PreTrainedModel, lines: Sequence[Sequence[int]], precision: str, *, dropout: bool = False
) -> npt.NDArray[np.float32]:
    """Returns the input of the output layer at the first step for each line; float32."""
    import torch

    device = model.get_output_embeddings().weight.device
    order = np.argsort([len(line) for line in lines], kind="stable")
    states = np.zeros((len(lines), model.get_output_embeddings().in_features), np.float32)
    base = decoder_without_head(model)
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with evaluating(model), half:
        model.train(dropout)
        for start in track(range(0, len(order), _BATCH), "encoding documents"):
            rows = order[start : start + _BATCH]
            input_ids, mask = padded([lines[row] for row in rows])
            input_ids, mask = input_ids.to(device), mask.to(device)
            encoded = model.get_encoder()(input_ids=input_ids, attention_mask=mask)
            first = torch.zeros((len(rows), 1), dtype=torch.int64, device=device)
            state = base(
                input_ids=first,
                encoder_hidden_states=encoded.last_hidden_state,
                encoder_attention_mask=mask,
            ).last_hidden_state[:, 0]
            states[rows] = state.float().cpu().numpy()
    return states


def extend(model: PreTrainedModel, new: NewDocuments, seed: int) -> PreTrainedModel:
    """Initializes new output rows from the first decoder states of the new documents.

    They are `discriminants`, as in this warm start, scaled to the norm of the existing rows.

    Args:
        model: Any encoder-decoder of the toolkit.
        new: The documents.
        seed: Seed of the sample of old documents that defines mean and covariance.
    """
    import torch

    old = new.old_rows
    if len(old) > _SAMPLE:
        old = np.sort(np.random.default_rng([seed, 12]).choice(old, _SAMPLE, replace=False))
    read = [*new.rows.tolist(), *old.tolist()]
    tokens = [new.corpus.tokens[row] for row in read]
    states, pieces = document_states(model, tokens, new.corpus.part)
    vectors = discriminants(states[: len(new.rows)], pieces)
    output = model.get_output_embeddings().weight
    new_codes = new.own_codes()
    of_codes = new.vectors_of_codes(vectors, len(output))[new_codes]
    other_rows = np.setdiff1d(np.unique(np.asarray(new.table.codes)), new_codes)
    typical = float(output.detach()[torch.from_numpy(other_rows).long()].norm(dim=1).mean())
    with torch.no_grad():
        output[new_codes] = torch.from_numpy(of_codes * typical).to(output)
    return model


WARM_STARTS.register("encodings")(WarmStart(start, extend))

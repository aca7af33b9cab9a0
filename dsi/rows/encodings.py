"""The warm start of a pretrained model: docid rows from its own encodings of documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from data_prep.progress import track
from dsi.backbones.backbone import decoder_without_head, longest_text
from dsi.backbones.inference import evaluating, padded
from dsi.backbones.language_model import is_prompted
from dsi.rows.base import WARM_STARTS, WarmStart, set_rows
from dsi.rows.corpus import Corpus, code_rows, tokens_of
from dsi.rows.new_documents import NewDocuments

_BATCH = 16
_TOKENS = 256
"""Tokens of a document that are read, unless the model has positions for fewer."""
_SAMPLE = 200
"""Old documents whose encodings tell what all encodings have in common."""


def start(model: PreTrainedModel, corpus: Corpus, seed: int) -> None:
    """Initializes output rows and decoder embeddings from the model's encodings of the documents.

    A document's vector is the state after its first decoder step (the input of the output layer),
    centered over the corpus and normalized: the row of a document thus already responds to texts
    with similar states. A code that several documents share gets their mean, or its codeword.

    Args:
        model: Any pretrained network with the docid alphabet.
        corpus: The documents and their identifiers.
        seed: Unused; the encodings are deterministic.
    """
    vectors = decoder_states(model, corpus.tokens, corpus.part, corpus.precision)
    vectors -= vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    rows_of_codes = code_rows(corpus, vectors, model.config.vocab_size)
    set_rows(model.get_output_embeddings().weight, rows_of_codes)
    embedding = model.get_decoder().get_input_embeddings().weight
    typical = float(embedding.detach().norm(dim=1).mean())
    # PAD, the start token, is in no identifier: its embedding stays as it was for the states.
    used = rows_of_codes.any(axis=1, keepdims=True)
    before = embedding.detach().float().cpu().numpy()
    set_rows(embedding, np.where(used, rows_of_codes * typical, before))


def decoder_states(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    part: Callable[[Sequence[int], int, int], list[int]] = tokens_of,
    precision: str = "fp32",
) -> npt.NDArray[np.float32]:
    """Returns the input of the output layer at the first step, for each text.

    Args:
        model: The model; temporarily in evaluation mode.
        texts: Token ids of each text; only the first 256 are read, or as many as the model has
            positions.
        part: Takes a slice of a text, with the prompt around it.
        precision: Precision of the matrix products: "fp32" or "bf16".

    Returns:
        float32 [texts, width].
    """
    import torch

    device = model.get_output_embeddings().weight.device
    longest = _TOKENS
    if longest_text(model) is not None and len(texts):
        beside = len(part(texts[0], 0, 0)) + int(is_prompted(model))
        longest = max(1, min(_TOKENS, (longest_text(model) or 0) - beside))
    order = np.argsort([min(len(line), longest) for line in texts], kind="stable")
    vectors = np.zeros((len(texts), model.get_output_embeddings().in_features), np.float32)
    base = decoder_without_head(model)
    half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with evaluating(model), half:
        for start in track(range(0, len(order), _BATCH), "encoding documents"):
            rows = order[start : start + _BATCH]
            lines = [part(texts[row], 0, longest) or [0] for row in rows]
            input_ids, mask = padded(lines)
            input_ids, mask = input_ids.to(device), mask.to(device)
            encoded = model.get_encoder()(input_ids=input_ids, attention_mask=mask)
            first = torch.zeros((len(lines), 1), dtype=torch.int64, device=device)
            state = base(
                input_ids=first,
                encoder_hidden_states=encoded.last_hidden_state,
                encoder_attention_mask=mask,
            ).last_hidden_state[:, 0]
            vectors[rows] = state.float().cpu().numpy()
    return vectors


def extend(model: PreTrainedModel, new: NewDocuments, seed: int) -> PreTrainedModel:
    """Initializes new output rows from the first decoder states of the new documents.

    As in this warm start, they are centered; they are scaled to the norm of the existing rows.

    Args:
        model: Any encoder-decoder of the toolkit.
        new: The documents.
        seed: Seed of the sample of old documents that defines the center.
    """
    import torch

    old = new.old_rows
    if len(old) > _SAMPLE:
        old = np.sort(np.random.default_rng([seed, 12]).choice(old, _SAMPLE, replace=False))
    read = [*new.rows.tolist(), *old.tolist()]
    vectors = decoder_states(model, [new.tokens[row] for row in read], new.part)
    vectors = vectors[: len(new.rows)] - vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    output = model.get_output_embeddings().weight
    own = new.own_codes()
    of_codes = new.vectors_of_codes(vectors, len(output))[own]
    kept = np.setdiff1d(np.unique(np.asarray(new.table.codes)), own)
    typical = float(output.detach()[torch.from_numpy(kept).long()].norm(dim=1).mean())
    with torch.no_grad():
        output[own] = torch.from_numpy(of_codes * typical).to(output)
    return model


WARM_STARTS.register("encodings")(WarmStart(start, extend))

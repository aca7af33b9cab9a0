"""The input of the output layer for a text: the vector multiplied with a document's row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel, T5ForConditionalGeneration

from docids.table import PAD
from dsi.backbones.backbone import decoder_without_head
from dsi.backbones.inference import evaluating, padded
from dsi.backbones.output_states import map_of
from dsi.backbones.position_edits import edited_layer

_BATCH = 128
_TOKENS = 1 << 16
"""Maximum tokens of a batch, unless a single text has more."""
_TOGETHER = 512
"""Texts per batch whose states are summed."""


def last_states(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    prefixes: Sequence[Sequence[int]],
) -> npt.NDArray[np.float32]:
    """Returns the decoder's state at the position of each identifier's last code.

    Args:
        model: The model; temporarily in evaluation mode.
        texts: Token ids, at least one each.
        prefixes: The codes of the identifier before its last; empty for atomic ones.

    Returns:
        float32 [texts, width].
    """
    if not any(prefixes) and is_latent(model):
        return _latent_states(model, texts)
    device = model.get_output_embeddings().weight.device
    width = model.get_output_embeddings().in_features
    states = np.zeros((len(texts), width), np.float32)
    with evaluating(model):
        for batch in _batches([len(text) for text in texts]):
            input_ids, mask = padded([texts[number] for number in batch])
            decoder_input, decoder_mask = padded([[PAD, *prefixes[number]] for number in batch])
            encoded = model.get_encoder()(
                input_ids=input_ids.to(device), attention_mask=mask.to(device)
            )
            outputs = decoder_without_head(model)(
                input_ids=decoder_input.to(device),
                encoder_hidden_states=encoded.last_hidden_state,
                encoder_attention_mask=mask.to(device),
            ).last_hidden_state
            lasts = (decoder_mask.sum(dim=1) - 1).to(device)
            states[batch] = outputs[torch.arange(len(batch)), lasts].float().cpu().numpy()
    return states


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yields batches of texts of similar length, smaller ones for long texts."""
    batch: list[int] = []
    for number in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) == _BATCH or (len(batch) + 1) * lengths[number] > _TOKENS):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def is_latent(model: PreTrainedModel) -> bool:
    """Tells whether a T5 is unchanged since the spectral warm start, except for its rows.

    Then its state is the weighted mean of the tokens' vectors, which needs no matrix product.
    """
    if not isinstance(model, T5ForConditionalGeneration):
        return False
    network: Any = model
    if len(getattr(network.encoder, "block", "?")) or len(network.decoder.block) != 1:
        return False
    self_attention, cross, inner = network.decoder.block[0].layer
    attention = cross.EncDecAttention
    per_head, width = model.config.d_kv, model.config.d_model
    if attention.v.weight.shape != (width, width):
        return False
    with torch.no_grad():
        straight = _selects_inputs(attention.v.weight) and _selects_inputs(attention.o.weight)
        key, query = attention.k.weight, attention.q.weight
        heads = torch.arange(0, width, per_head)
        return bool(
            straight
            and not self_attention.SelfAttention.o.weight.any()
            and not inner.DenseReluDense.wo.weight.any()
            and edited_layer(model) is None
            and map_of(model) is None
            # With a query of 0, any key will do.
            and _only_at(key[heads], torch.arange(len(heads)), width - 2)
            and _only_at(query, heads, width - 2)
            and (key[heads, width - 2] == key[0, width - 2]).all()
            and (query[heads, width - 2] == query[0, width - 2]).all()
        )


def _selects_inputs(weight: torch.Tensor) -> bool:
    """Whether every output is a multiple of a single input, or zero."""
    return bool(((weight != 0).sum(dim=1) <= 1).all())


def _only_at(weight: torch.Tensor, rows: torch.Tensor, column: int) -> bool:
    rest = weight.clone()
    rest[rows, column] = 0
    return not rest.any()


def _latent_states(
    model: PreTrainedModel, texts: Sequence[Sequence[int]]
) -> npt.NDArray[np.float32]:
    """The states of a model for which `is_latent` holds, as sums over tokens."""
    from torch.nn.functional import embedding_bag

    network: Any = model
    width = model.config.d_model
    lengths = np.array([len(text) for text in texts])
    flat = np.fromiter(chain.from_iterable(texts), np.int64, int(lengths.sum()))
    tokens, places = np.unique(flat, return_inverse=True)
    begins = np.concatenate([[0], np.cumsum(lengths)])
    latent = np.empty((len(texts), width), np.float32)
    with torch.no_grad():
        attention = network.decoder.block[0].layer[1].EncDecAttention
        norm = network.decoder.block[0].layer[1].layer_norm
        read = network.encoder.final_layer_norm(
            network.encoder.embed_tokens.weight[torch.from_numpy(tokens)]
        )
        begun = network.decoder.embed_tokens.weight[PAD]
        query = float(norm(begun)[width - 2] * attention.q.weight[0, width - 2])
        logs = read[:, width - 2] * attention.k.weight[0, width - 2] * query
        weights = torch.exp(logs - logs.max())
        # The token dimension that each state dimension comes from, and its factor.
        heads, gains = _selected_inputs(attention.o.weight)
        ways, factors = (part[heads] for part in _selected_inputs(attention.v.weight))
        open_ways = gains * factors
        values = read[:, ways].mul_(open_ways).mul_(weights[:, None])
        # Processed in blocks, so that each is still in the cache when it is normalized.
        for first in range(0, len(texts), _TOGETHER):
            last = min(first + _TOGETHER, len(texts))
            bag = torch.from_numpy(places[begins[first] : begins[last]])
            starts = torch.from_numpy(begins[first:last] - begins[first])
            sums = embedding_bag(bag, values, starts, mode="sum")
            totals = embedding_bag(bag, weights[:, None], starts, mode="sum")
            states = network.decoder.final_layer_norm(begun + sums.div_(totals))
            latent[first:last] = states.numpy()
    return latent


def _selected_inputs(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The input that each output of a layer selects, and its factor."""
    places = weight.abs().argmax(dim=1)
    return places, weight.gather(1, places[:, None]).squeeze(1)

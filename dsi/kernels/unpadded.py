"""T5 training without padding, in one pass over texts of all lengths.

The tokens of a batch are concatenated, in groups of texts of similar length, as if they were one
text. Token-wise layers (products, normalizations, dropout) thus run once, on hardly any padding,
and a step computes the gradient of each weight once. Only attention sees separate texts, a group at
a time. The values are those of a padded batch.

In an encoder without layers and dropout, the state of a token depends on the token alone. Each
distinct token of a batch is then computed once, and its keys and values are reused in every text.

It supports T5 and mT5 in training. Encoder and decoder still take and return padded batches, so
that callers need not know about it.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import MT5ForConditionalGeneration, PreTrainedModel, T5ForConditionalGeneration
from transformers.models.mt5.modeling_mt5 import MT5Stack
from transformers.models.t5.modeling_t5 import T5Stack

from dsi.backbones.position_edits import edited_layer
from dsi.kernels.dropout import dropped
from dsi.kernels.length_buckets import length_buckets
from dsi.kernels.patching import replaced_forward


@dataclass(frozen=True)
class Group:
    """Texts of similar length.

    Attributes:
        count: Number of texts.
        length: Number of tokens of the longest text; the others are padded to it.
        absent: Which tokens are padding, bool [texts, 1, 1, length]; None if none is.
    """

    count: int
    length: int
    absent: torch.Tensor | None

    @property
    def tokens(self) -> int:
        """The number of tokens, including padding."""
        return self.count * self.length


@dataclass(frozen=True)
class Layout:
    """The layout of a padded batch as one row of tokens.

    Attributes:
        groups: The groups, in the order of the row.
        examples: Index in the batch of the first, second, ... text of the row; int64 [texts].
        places: Index in the flattened batch of each token of the row; int64 [tokens].
        shape: Shape of the batch: texts, longest.
        states: Index of each token's state among those of the distinct tokens; int64 [tokens]. None
            if every token has a state of its own.
    """

    groups: tuple[Group, ...]
    examples: torch.Tensor
    places: torch.Tensor
    shape: tuple[int, int]
    states: torch.Tensor | None = None

    @classmethod
    def of(cls, attention_mask: torch.Tensor, most: int) -> Layout:
        """Groups the texts of a right-padded batch.

        Args:
            attention_mask: [texts, longest].
            most: Maximum number of groups.
        """
        device, longest = attention_mask.device, attention_mask.shape[1]
        lengths = attention_mask.sum(dim=1).cpu().numpy()
        kinds = len(np.unique(np.maximum(lengths, 1)))
        groups, examples, places = [], [], []
        for texts in length_buckets(lengths, min(most, kinds)):
            length = max(1, int(lengths[texts].max()))
            absent = np.arange(length) >= lengths[texts][:, None]
            padding = torch.from_numpy(absent)[:, None, None].to(device) if absent.any() else None
            groups.append(Group(len(texts), length, padding))
            examples.append(texts)
            places.append((texts[:, None] * longest + np.arange(length)).ravel())
        return cls(
            tuple(groups),
            torch.from_numpy(np.concatenate(examples)).to(device),
            torch.from_numpy(np.concatenate(places)).to(device),
            (len(lengths), longest),
        )

    def spread(self, states: torch.Tensor) -> torch.Tensor:
        """Expands values of states to values of tokens; [tokens, width]."""
        return states if self.states is None else _Spread.apply(states, self.states)

    def row(self, batch: torch.Tensor) -> torch.Tensor:
        """Returns a padded batch [texts, longest, ...] as a row [1, tokens, ...]."""
        return batch.flatten(0, 1).index_select(0, self.places).unsqueeze(0)

    def batch(self, row: torch.Tensor) -> torch.Tensor:
        """Returns a row of states [1, states, width] as a batch, 0 where the row has no token."""
        texts, longest = self.shape
        empty = row.new_zeros(texts * longest, row.shape[-1])
        return empty.index_copy(0, self.places, self.spread(row[0])).view(texts, longest, -1)


Rows: TypeAlias = MutableMapping[torch.Tensor, tuple[Layout, torch.Tensor]]
"""What an encoder has given -> the same as a row, which the decoder reads."""


@contextmanager
def without_padding(model: PreTrainedModel, most: int, *, states: bool = True) -> Iterator[None]:
    """Makes a T5 compute without padding while it is in training mode, within the context.

    Args:
        model: A model that `supports_unpadded` accepts.
        most: Maximum number of length groups for attention.
        states: Whether the encoder returns its last states as a padded batch, for readers other
            than the decoder, which costs a few memory passes. Otherwise it returns a row that only
            the decoder of the same call understands.
    """
    network: Any = model
    encoding, decoding = network.encoder, network.decoder
    rows = WeakTensorKeyDictionary()
    with (
        replaced_forward(
            [block.layer[0].SelfAttention for block in encoding.block], _self_attention
        ),
        replaced_forward(
            [block.layer[1].EncDecAttention for block in decoding.block], _cross_attention
        ),
        replaced_forward([encoding], partial(_encoder, most, rows, states)),
        replaced_forward([decoding], partial(_decoder, most, rows)),
    ):
        yield


def supports_unpadded(model: torch.nn.Module) -> bool:
    """Whether a model can be run without padding.

    Before transformers 5.15, attention has no `scaling`, and the layers above it do not forward
    extra arguments to it.
    """
    if not isinstance(model, (T5ForConditionalGeneration, MT5ForConditionalGeneration)):
        return False
    if type(model.get_encoder()) not in (T5Stack, MT5Stack):
        return False
    if edited_layer(model) is not None:
        return False  # it reads the rows of one identifier after another
    decoder: Any = model.get_decoder()
    return all(hasattr(block.layer[0].SelfAttention, "scaling") for block in decoder.block)


def _encoder(
    most: int,
    rows: Rows,
    padded: bool,
    stack: Any,
    input_ids: Any = None,
    attention_mask: Any = None,
    **options: Any,
) -> Any:
    """Encodes a padded batch, and keeps the resulting row for the decoder."""
    whole = partial(type(stack).forward, stack)
    if not stack.training or input_ids is None or attention_mask is None:
        return whole(input_ids=input_ids, attention_mask=attention_mask, **options)
    layout = Layout.of(attention_mask, most)
    tokens = layout.row(input_ids)
    if not len(stack.block) and not stack.dropout.p:
        kinds, states = tokens[0].unique(return_inverse=True)
        layout, tokens = replace(layout, states=states), kinds.unsqueeze(0)
    outputs = whole(input_ids=tokens, layout=layout, **options)
    row = outputs.last_hidden_state
    if padded:
        outputs.last_hidden_state = layout.batch(row)
    rows[outputs.last_hidden_state] = layout, row
    if outputs.get("hidden_states") is not None:
        outputs.hidden_states = tuple(map(layout.batch, outputs.hidden_states))
    return outputs


def _decoder(
    most: int,
    rows: Rows,
    stack: Any,
    *,
    encoder_hidden_states: Any = None,
    encoder_attention_mask: Any = None,
    **options: Any,
) -> Any:
    """Decodes with states of a padded batch of texts."""
    if not stack.training or encoder_hidden_states is None or encoder_attention_mask is None:
        options["encoder_attention_mask"] = encoder_attention_mask
    else:
        states = encoder_hidden_states
        known = rows.get(states)
        if known is None:
            layout = Layout.of(encoder_attention_mask, most)
            known = layout, layout.row(states)
        options["layout"], encoder_hidden_states = known
    return type(stack).forward(stack, encoder_hidden_states=encoder_hidden_states, **options)


def _self_attention(
    layer: Any,
    hidden_states: torch.Tensor,
    mask: Any = None,
    position_bias: Any = None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[torch.Tensor, Any, None]:
    """Attention of the tokens of each text to each other; states [1, tokens, width]."""
    if layout is None:
        return type(layer).forward(
            layer, hidden_states, mask=mask, position_bias=position_bias, **options
        )
    if position_bias is None:  # the first layer; the others receive its result
        position_bias = [_bias(layer, group) for group in layout.groups]
    sizes = [group.tokens for group in layout.groups]
    queries, keys, values = (
        part(hidden_states)[0].split(sizes) for part in (layer.q, layer.k, layer.v)
    )
    outputs = [
        _attended(layer, query, key, value, bias, group.count)
        for query, key, value, bias, group in zip(
            queries, keys, values, position_bias, layout.groups, strict=True
        )
    ]
    return layer.o(torch.cat(outputs).unsqueeze(0)), position_bias, None


def _cross_attention(
    layer: Any,
    hidden_states: torch.Tensor,
    mask: Any = None,
    key_value_states: Any = None,
    position_bias: Any = None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[torch.Tensor, Any, None]:
    """Attention of the codes of each identifier, [texts, codes, width], to its text's tokens."""
    if layout is None:
        return type(layer).forward(
            layer,
            hidden_states,
            mask=mask,
            key_value_states=key_value_states,
            position_bias=position_bias,
            **options,
        )
    codes = hidden_states.shape[1]
    queries = layer.q(hidden_states).index_select(0, layout.examples).flatten(0, 1)
    sizes = [group.tokens for group in layout.groups]
    keys, values = (
        layout.spread(part(key_value_states)[0]).split(sizes) for part in (layer.k, layer.v)
    )
    outputs = [
        _attended(layer, query, key, value, _padding_mask(group, query.dtype), group.count)
        for query, key, value, group in zip(
            queries.split([group.count * codes for group in layout.groups]),
            keys,
            values,
            layout.groups,
            strict=True,
        )
    ]
    back = layout.examples.argsort()
    states = torch.cat(outputs).view(len(back), codes, -1).index_select(0, back)
    return layer.o(states), position_bias, None


class _Spread(torch.autograd.Function):
    """Selects rows by index; the gradients of repeated rows are summed in float32."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(numbers)
        ctx.count = len(states)
        return states.index_select(0, numbers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (numbers,) = ctx.saved_tensors
        precise = gradient if gradient.dtype == torch.float64 else gradient.float()
        summed = torch.ops.aten.embedding_dense_backward(precise, numbers, ctx.count, -1, False)
        return summed.to(gradient.dtype), None


def _bias(layer: Any, group: Group) -> torch.Tensor:
    """Returns the bias of a group's attention scores; [1 or texts, heads, tokens, tokens]."""
    bias = layer.compute_bias(group.length, group.length, device=layer.q.weight.device)
    absent = group.absent
    return bias if absent is None else bias.masked_fill(absent, torch.finfo(bias.dtype).min)


def _padding_mask(group: Group, dtype: torch.dtype) -> torch.Tensor | None:
    """Returns the mask that hides padding; [texts, 1, 1, tokens]."""
    absent = group.absent
    if absent is None:
        return None
    return torch.zeros(absent.shape, dtype=dtype, device=absent.device).masked_fill_(
        absent, torch.finfo(dtype).min
    )


def _attended(
    layer: Any,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    bias: torch.Tensor | None,
    texts: int,
) -> torch.Tensor:
    """Returns the attention output for the queries of some texts; [texts x queries, width]."""
    queries, keys, values = (
        part.view(texts, -1, layer.n_heads, layer.key_value_proj_dim).transpose(1, 2)
        for part in (queries, keys, values)
    )
    scores = torch.matmul(queries, keys.transpose(2, 3)) * layer.scaling
    if bias is not None:
        scores = scores + bias
    shares = dropped(scores.softmax(dim=-1), layer.dropout)
    return torch.matmul(shares, values).transpose(1, 2).flatten(0, 1).flatten(1)

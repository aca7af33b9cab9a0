"""T5 in training without padding, in one pass over texts of all lengths.

The tokens of a batch's texts stand one after another, in groups of similar lengths, as if they were
one text. So layers that look at one token at a time (products, normalizations, dropout) do their
work once, on hardly any padding, and a step makes the gradient of each weight once. Attention
alone sees texts, a group at a time. The values are those of a padded batch.

An encoder without layers and dropout gives every token a state that depends on the token alone.
Then each different token of a batch is computed once, and its keys and values stand in every text.

It is for T5 and mT5 in training. Encoder and decoder take and give padded batches as ever, so that
whoever calls them needs to know nothing of it.
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

from dsi.kernels.dropout import dropped
from dsi.kernels.length_buckets import length_buckets
from dsi.kernels.patching import replaced_forward


@dataclass(frozen=True)
class Group:
    """Texts of similar lengths.

    Attributes:
        count: How many.
        length: Tokens of the longest; the others are padded to it.
        absent: Which tokens are padding, bool [texts, 1, 1, length]; None where none is.
    """

    count: int
    length: int
    absent: torch.Tensor | None

    @property
    def tokens(self) -> int:
        """How many there are, padding counted in."""
        return self.count * self.length


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a padded batch stand in one row of tokens.

    Attributes:
        groups: In the order of the row.
        examples: Which text of the batch is the first, second, ... of the row; int64 [texts].
        places: Of each token of the row in the flattened batch; int64 [tokens].
        shape: Of the batch: texts, longest.
        states: Which state of the row's different tokens is that of each token; int64 [tokens].
            None where every token has a state of its own.
    """

    groups: tuple[Group, ...]
    examples: torch.Tensor
    places: torch.Tensor
    shape: tuple[int, int]
    states: torch.Tensor | None = None

    @classmethod
    def of(cls, attention_mask: torch.Tensor, most: int) -> Layout:
        """Groups the texts of a batch that is padded at the right.

        Args:
            attention_mask: [texts, longest].
            most: Up to how many groups.
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
        """Returns something of every token, [tokens, width], from that of every state."""
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
    """Lets a T5 compute without padding while it is in training mode, until the end.

    Args:
        model: One that `can_do_without` tells of.
        most: Up to how many groups of similar lengths attention takes texts in.
        states: Whether the encoder gives its last states as a padded batch, for others than the
            decoder; it costs a few walks through memory. Else it gives a row that only the decoder
            of the same call understands.
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


def can_do_without(model: torch.nn.Module) -> bool:
    """Whether a model is one whose padding can be left out.

    The attention of transformers before 5.15 has no `scaling`, and the layers above it do not pass
    on to it what their callers add.
    """
    if not isinstance(model, (T5ForConditionalGeneration, MT5ForConditionalGeneration)):
        return False
    if type(model.get_encoder()) not in (T5Stack, MT5Stack):
        return False
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
    """Encodes a padded batch, and keeps for the decoder the row of what it gives."""
    whole = partial(type(stack).forward, stack)
    if not stack.training or input_ids is None or attention_mask is None:
        return whole(input_ids=input_ids, attention_mask=attention_mask, **options)
    layout = Layout.of(attention_mask, most)
    tokens = layout.row(input_ids)
    if not len(stack.block) and not stack.dropout.p:
        kinds, states = tokens[0].unique(return_inverse=True)
        layout, tokens = replace(layout, states=states), kinds.unsqueeze(0)
    found = whole(input_ids=tokens, layout=layout, **options)
    row = found.last_hidden_state
    if padded:
        found.last_hidden_state = layout.batch(row)
    rows[found.last_hidden_state] = layout, row
    if found.get("hidden_states") is not None:
        found.hidden_states = tuple(map(layout.batch, found.hidden_states))
    return found


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
    if position_bias is None:  # the first layer; the others get what it returns
        position_bias = [_bias(layer, group) for group in layout.groups]
    sizes = [group.tokens for group in layout.groups]
    queries, keys, values = (
        part(hidden_states)[0].split(sizes) for part in (layer.q, layer.k, layer.v)
    )
    found = [
        _attended(layer, query, key, value, bias, group.count)
        for query, key, value, bias, group in zip(
            queries, keys, values, position_bias, layout.groups, strict=True
        )
    ]
    return layer.o(torch.cat(found).unsqueeze(0)), position_bias, None


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
    found = [
        _attended(layer, query, key, value, _absence(group, query.dtype), group.count)
        for query, key, value, group in zip(
            queries.split([group.count * codes for group in layout.groups]),
            keys,
            values,
            layout.groups,
            strict=True,
        )
    ]
    back = layout.examples.argsort()
    states = torch.cat(found).view(len(back), codes, -1).index_select(0, back)
    return layer.o(states), position_bias, None


class _Spread(torch.autograd.Function):
    """Rows by their numbers; the gradients of those with one number are summed in float32."""

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
    """Returns what is added to a group's scores; [1 or texts, heads, tokens, tokens]."""
    bias = layer.compute_bias(group.length, group.length, device=layer.q.weight.device)
    absent = group.absent
    return bias if absent is None else bias.masked_fill(absent, torch.finfo(bias.dtype).min)


def _absence(group: Group, dtype: torch.dtype) -> torch.Tensor | None:
    """Returns what keeps scores from padding; [texts, 1, 1, tokens]."""
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
    """Returns what the queries of some texts gather from the values; [texts x queries, width]."""
    queries, keys, values = (
        part.view(texts, -1, layer.n_heads, layer.key_value_proj_dim).transpose(1, 2)
        for part in (queries, keys, values)
    )
    scores = torch.matmul(queries, keys.transpose(2, 3)) * layer.scaling
    if bias is not None:
        scores = scores + bias
    shares = dropped(scores.softmax(dim=-1), layer.dropout)
    return torch.matmul(shares, values).transpose(1, 2).flatten(0, 1).flatten(1)

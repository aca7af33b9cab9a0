"""The encoder of T5 and mT5 over queries of different lengths, without padding.

The linear layers, which take most of the time, read the concatenated tokens of all queries. Only
attention sees queries as padded lines.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from dsi.kernels.packed_linear import linear_of, plain, together
from dsi.search.decoders.t5_layers import feed_forward, linear_layers, norm

_ENCODERS = ("T5Stack", "MT5Stack", "StackWeights")


def knows(encoder: Any) -> bool:
    """Whether `encode` matches this encoder: no part of it has been replaced."""
    if type(encoder).__name__ not in _ENCODERS:
        return False
    return all(plain(*linear_layers(block)) for block in encoder.block)


def encode(encoder: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Encodes queries as the encoder itself does in evaluation mode.

    Args:
        encoder: A known encoder.
        input_ids: int64 [queries, length].
        attention_mask: 1 at tokens, 0 at padding; [queries, length].

    Returns:
        The encoded queries, 0 at padding; [queries, length, width].
    """
    lines = _Lines(attention_mask)
    states = encoder.embed_tokens(lines.tokens_of(input_ids))
    mask = None
    for place, block in enumerate(encoder.block):
        self_attention, last = block.layer
        attention = self_attention.SelfAttention
        if place == 0:
            mask = attention.compute_bias(*[input_ids.shape[1]] * 2, device=input_ids.device)
            mask = lines.masked(mask.to(states.dtype))
        normed = norm(self_attention.layer_norm, states)
        read = together(normed, attention.q, attention.k, attention.v).to(states.dtype)
        read = lines.lines_of(read)
        query, key, value = read.unflatten(2, (3, attention.n_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, mask, scale=1.0)
        attended = lines.tokens_of(attended.transpose(1, 2).flatten(2))
        states += linear_of(attention.o, attended)
        states += feed_forward(last.DenseReluDense, norm(last.layer_norm, states))
    return lines.lines_of(norm(encoder.final_layer_norm, states))


class _Lines:
    """The positions of the queries' tokens in padded lines.

    Args:
        attention_mask: 1 at tokens, 0 at padding; [queries, length].
    """

    def __init__(self, attention_mask: torch.Tensor) -> None:
        self._mask = attention_mask != 0
        self._padded = not bool(self._mask.all())
        if self._padded:
            self._places = self._mask.flatten().nonzero().squeeze(1)

    def tokens_of(self, lines: torch.Tensor) -> torch.Tensor:
        """Returns [queries, length, ...] without padding: [tokens, ...]."""
        flat = lines.flatten(0, 1)
        return flat[self._places] if self._padded else flat

    def lines_of(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns tokens [tokens, width] as lines, 0 at padding: [queries, length, width]."""
        if not self._padded:
            return tokens.view(*self._mask.shape, -1)
        flat = tokens.new_zeros((self._mask.numel(), tokens.shape[1]))
        return flat.index_copy_(0, self._places, tokens).view(*self._mask.shape, -1)

    def masked(self, bias: torch.Tensor) -> torch.Tensor:
        """Returns a bias [1, heads, length, length] that hides padding."""
        if not self._padded:
            return bias
        hidden = ~self._mask[:, None, None, :]
        return bias.masked_fill(hidden, torch.finfo(bias.dtype).min)

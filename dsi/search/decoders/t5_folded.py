"""T5 in int8 for short queries: all layers in one call, and fewer products.

For a single query, weights come from memory for a few rows, and what stands between products takes
as long as the products. So all layers run in one TorchScript function, and two products of a layer
are folded into the encoded query. In head h of the cross-attention, with the encoded query H,

    scores = x Wq_h (H Wk_h)^T = x A_h            A_h = Wq_h (H Wk_h)^T    [width, length]
    output = shares H Wv_h Wo_h = shares B_h      B_h = H Wv_h Wo_h        [length, width]

A and B are computed once per query, in float32, and are smaller than the weights that they replace
as long as all queries together have fewer tokens than a head has dimensions. The encoder, too,
reads a single query in one function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from dsi.kernels.int8_linear import Int8Linear, int8_product
from dsi.kernels.packed_linear import PackedPart, together
from dsi.kernels.scripting import scripted
from dsi.search.decoders import t5_encoder
from dsi.search.decoders.t5 import T5Decoder
from dsi.search.decoders.t5_layers import norm

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.search.decoders.tree import EncodedTreeDecoder


class FoldedT5Decoder(T5Decoder):
    """A `T5Decoder` whose cross-attention is folded into the encoded queries."""

    @classmethod
    def knows(cls, model: PreTrainedModel) -> bool:
        """See `TreeDecoder.knows`. All layers are in int8, and their activation is ReLU."""
        return super().knows(model) and all(_of(layer) is not None for layer in cls.layers(model))

    @classmethod
    def start(
        cls, model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> EncodedTreeDecoder:
        """See `EncodedTreeDecoder.start`. Long or many queries get a `T5Decoder`."""
        attention = cls.layers(model)[0].layer[1].EncDecAttention
        if input_ids.numel() * attention.n_heads > attention.inner_dim:
            return T5Decoder.start(model, input_ids, attention_mask)
        return super().start(model, input_ids, attention_mask)

    @classmethod
    def encode(
        cls, model: PreTrainedModel, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """See `EncodedTreeDecoder.encode`."""
        encoder: Any = model.get_encoder()
        layers = list(getattr(encoder, "block", []))
        known = [_of(layer) for layer in layers] if t5_encoder.knows(encoder) else []
        if len(input_ids) > 1 or not bool(attention_mask.all()) or not known or None in known:
            return super().encode(model, input_ids, attention_mask)
        length = input_ids.shape[1]
        bias = (
            layers[0].layer[0].SelfAttention.compute_bias(length, length, device=input_ids.device)
        )
        states = encoder.embed_tokens(input_ids[0])
        weights = [layer.weights for layer in known]
        found = scripted(_encoder_layers)(states, weights, bias[0].to(states.dtype))
        return norm(encoder.final_layer_norm, found).unsqueeze(0)

    def __init__(
        self, model: PreTrainedModel, hidden: torch.Tensor, attention_mask: torch.Tensor
    ) -> None:
        super().__init__(model, hidden, attention_mask)
        self._weights = [_of(layer).weights for layer in self._layers]
        attention = self._layers[0].layer[0].SelfAttention
        self._heads, self._size = attention.n_heads, attention.inner_dim // attention.n_heads
        # One line of scores for all heads; [queries, 1, heads * length].
        self._cross_mask = self._cross_mask.squeeze(1).repeat(1, 1, self._heads)

    def _cross_keys_values(
        self, layer: Any, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns A, [queries, width, heads * length], and B, [queries, heads * length, width]."""
        attention = layer.layer[1].EncDecAttention
        queries, length, width = hidden.shape
        query_weight, output_weight, norm_weight = _of(layer).cross
        read = together(hidden, attention.k, attention.v)
        parts = read.view(queries * length, 2, attention.n_heads, -1).permute(1, 2, 0, 3)
        key, value = (
            torch.bmm(states, weight).view(-1, queries, length, width).transpose(0, 1).flatten(1, 2)
            for states, weight in zip(parts, (query_weight, output_weight), strict=True)
        )
        return key.mul_(norm_weight).transpose(1, 2), value

    def _through(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        lines, rows, width = states.shape
        shape = (2, lines, self._heads, rows, self._size)
        caches = [self._cache(place, shape, states.dtype) for place in range(len(self._layers))]
        found: torch.Tensor = scripted(_layers)(
            states.view(-1, width),
            self._weights,
            caches,
            mask.expand(lines, -1, -1, -1).flatten(0, 1),
            [keys for keys, _ in self._cross],
            [values for _, values in self._cross],
            self._cross_mask,
            rows,
        )
        return found.view(lines, rows, width)


@dataclass(frozen=True)
class _Layer:
    """The weights of a layer in the layout that `FoldedT5Decoder` reads.

    Attributes:
        weights: Weights of the two norms, times the square root of the width; the norm of a state
            whose mean square is the epsilon of the norms; what is added to the step of a row, which
            may be 0; and weights, scales and zeros of each product.
        cross: In a decoder, Wq^T and Wo, float32 [heads, size, width] each, and the weight of the
            norm before the cross-attention, times the square root of the width.
    """

    weights: list[torch.Tensor]
    cross: list[torch.Tensor]


def _of(layer: Any) -> Any:
    """Returns the `_Layer` of a layer, which keeps it; None if it has other parts."""
    found = getattr(layer, "folded", None)
    if found is None:
        found = _layer_of(layer)
        if found is not None:
            layer.folded = found
    return found


def _layer_of(layer: Any) -> _Layer | None:
    attention, dense = layer.layer[0].SelfAttention, layer.layer[-1].DenseReluDense
    if not (isinstance(attention.q, PackedPart) and hasattr(dense, "wi")):
        return None
    products = (attention.q.whole, attention.o, dense.wi, dense.wo)
    if type(dense.act) is not nn.ReLU or any(type(each) is not Int8Linear for each in products):
        return None
    norms = [part.layer_norm for part in layer.layer]
    width = len(norms[0].weight)
    # The norms divide by the length of a state, not by its root mean square.
    first, *middle, last = (norm.weight.detach() * width**0.5 for norm in norms)
    least = torch.tensor((width * norms[0].variance_epsilon) ** 0.5)
    weights = [first, last, least, torch.tensor(1e-14)]
    for each in products:
        weights += [each.packed, each.scales, each.zeros]
    cross = []
    if middle:  # a layer of a decoder
        query, output = layer.layer[1].EncDecAttention.exact
        heads = attention.n_heads
        cross = [query.unflatten(0, (heads, -1)), output.t().unflatten(0, (heads, -1)), *middle]
    return _Layer(weights, cross)


def _layers(
    states: torch.Tensor,
    layers: list[list[torch.Tensor]],
    caches: list[torch.Tensor],
    mask: torch.Tensor,
    keys: list[torch.Tensor],
    values: list[torch.Tensor],
    cross_mask: torch.Tensor,
    rows: int,
) -> torch.Tensor:
    """Runs all layers, which changes the states.

    Args:
        states: [lines * rows, width].
        layers: `_Layer.weights`.
        caches: Keys and values of the nodes, the last `rows` of which are entered here; [2, lines,
            heads, nodes and room, size].
        mask: Added to the scores of nodes; [lines * heads, rows, nodes].
        keys: A of each layer.
        values: B of each layer.
        cross_mask: Added to the scores of a query's tokens; [queries, 1, heads * length].
        rows: Number of rows of a line.

    Returns:
        float32 [lines * rows, width].
    """
    nodes = mask.shape[2]
    heads = caches[0].shape[2]
    by_query = states.view(cross_mask.shape[0], -1, states.shape[1])
    for place, layer in enumerate(layers):
        found, least = _read(states, layer), layer[2]
        parts = found.view(-1, rows, 3, heads, caches[place].shape[4]).permute(2, 0, 3, 1, 4)
        cache = caches[place].narrow(3, 0, nodes)
        cache.narrow(3, nodes - rows, rows).copy_(parts[1:])
        key, value = cache.flatten(1, 2).unbind(0)
        scores = torch.baddbmm(mask, parts[0].flatten(0, 1), key.transpose(1, 2))
        attended = torch.bmm(scores.softmax(-1), value).view(-1, heads, rows, value.shape[2])
        attended = attended.transpose(1, 2).reshape(states.shape[0], -1)
        _write(states, attended, layer)
        # The weight of this norm is in the keys.
        sizes = torch.linalg.vector_norm(by_query, dim=[-1], keepdim=True).hypot_(least)
        scores = torch.addcdiv(cross_mask, torch.bmm(by_query, keys[place]), sizes)
        shares = scores.unflatten(2, [heads, -1]).softmax(-1).flatten(2)
        by_query.baddbmm_(shares, values[place])
        _feed_forward(states, layer)
    return states


def _encoder_layers(
    states: torch.Tensor, layers: list[list[torch.Tensor]], bias: torch.Tensor
) -> torch.Tensor:
    """Runs all layers of the encoder for one query, which changes the states.

    Args:
        states: [tokens, width].
        layers: `_Layer.weights`.
        bias: Added to the scores; [heads, tokens, tokens].

    Returns:
        float32 [tokens, width].
    """
    tokens, heads = states.shape[0], bias.shape[0]
    for layer in layers:
        found = _read(states, layer).view(tokens, 3, heads, -1)
        query, key, value = found.permute(1, 2, 0, 3).unbind(0)
        shares = torch.baddbmm(bias, query, key.transpose(1, 2)).softmax(-1)
        _write(states, torch.bmm(shares, value).transpose(0, 1).reshape(tokens, -1), layer)
        _feed_forward(states, layer)
    return states


def _read(states: torch.Tensor, layer: list[torch.Tensor]) -> torch.Tensor:
    """Returns queries, keys and values of the self-attention; float32 [rows, 3 * inner]."""
    rounded, steps = _normed(states, layer[0], layer[2], layer[3])
    return int8_product(rounded, layer[4], layer[5], layer[6], False).mul_(steps)


def _write(states: torch.Tensor, attended: torch.Tensor, layer: list[torch.Tensor]) -> None:
    """Adds the output of the self-attention, from [rows, inner], to the states."""
    steps = torch.add(layer[3], attended.abs().amax(1, True), alpha=1 / 127)
    rounded = attended.div_(steps).round_().to(torch.int8)
    states.addcmul_(int8_product(rounded, layer[7], layer[8], layer[9], False), steps)


def _feed_forward(states: torch.Tensor, layer: list[torch.Tensor]) -> None:
    """Adds the output of the feed-forward network to the states."""
    rounded, steps = _normed(states, layer[1], layer[2], layer[3])
    hidden = int8_product(rounded, layer[10], layer[11], layer[12], True)
    more = torch.add(layer[3], hidden.amax(1, True), alpha=1 / 127)  # none is negative
    rounded = hidden.div_(more).round_().to(torch.int8)
    found = int8_product(rounded, layer[13], layer[14], layer[15], False)
    states.addcmul_(found, more.mul_(steps))


def _normed(
    states: torch.Tensor, weight: torch.Tensor, least: torch.Tensor, tiny: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns states after a norm, rounded to int8, and what to multiply each row with.

    A norm divides each row by its size, which does not change how it is rounded.
    """
    scaled = states * weight
    steps = torch.add(tiny, scaled.abs().amax(1, True), alpha=1 / 127)
    rounded = scaled.div_(steps).round_().to(torch.int8)
    sizes = torch.linalg.vector_norm(states, dim=[-1], keepdim=True).hypot_(least)
    return rounded, steps.div_(sizes)

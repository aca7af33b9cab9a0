"""Building blocks of T5's encoder and decoder layers, in few operations on a CPU."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dsi.kernels import int8_linear
from dsi.kernels.packed_linear import linear_of, relu_of
from dsi.kernels.scripting import scripted

_FEED_FORWARDS = (
    "T5DenseActDense",
    "T5DenseGatedActDense",
    "MT5DenseActDense",
    "MT5DenseGatedActDense",
    "DenseWeights",
    "GatedDenseWeights",
)


def norm(module: Any, states: torch.Tensor) -> torch.Tensor:
    """T5's norm, which scales and does not shift; [..., width] in and out."""
    width = states.shape[-1]
    if states.device.type != "cpu" or states.dtype != torch.float32:
        return functional.rms_norm(states, (width,), module.weight, module.variance_epsilon)
    # On a CPU, the operation above runs as seven, with three copies of the states.
    least = _least_size(width, module.variance_epsilon)
    normed: torch.Tensor = scripted(_norm)(states, module.weight, least, width**-0.5)
    return normed


def _norm(
    states: torch.Tensor, weight: torch.Tensor, least: torch.Tensor, factor: float
) -> torch.Tensor:
    """Returns states [..., width] divided by their root mean square, times the weight."""
    size = torch.linalg.vector_norm(states, dim=[-1], keepdim=True)
    size.hypot_(least).mul_(factor)  # the root of the mean square plus epsilon
    return (states / size).mul_(weight)


@functools.cache
def _least_size(width: int, epsilon: float) -> torch.Tensor:
    """Returns the norm of states whose mean square is epsilon; float32 []."""
    return torch.tensor((width * epsilon) ** 0.5)


def feed_forward(dense: Any, states: torch.Tensor) -> torch.Tensor:
    """T5's two linear layers with an activation in between, to be added to states; [..., width]."""
    if hasattr(dense, "wi") and type(dense.act) is nn.ReLU:
        if type(dense.wi) is type(dense.wo) is int8_linear.Int8Linear:  # without biases in T5
            return int8_linear.feed_forward(dense.wi, dense.wo, states)
        return linear_of(dense.wo, relu_of(dense.wi, states))
    return dense(states)


def linear_layers(block: Any) -> list[Any]:
    """Returns the linear layers of a block of the encoder or the decoder.

    A replacement of the feed-forward network, such as one with a side memory, is returned itself.
    """
    *attentions, last = block.layer
    layers = []
    for layer in attentions:
        part = layer.SelfAttention if hasattr(layer, "SelfAttention") else layer.EncDecAttention
        layers += [part.q, part.k, part.v, part.o]
    dense = last.DenseReluDense
    if type(dense).__name__ not in _FEED_FORWARDS:
        return [*layers, dense]
    return [*layers, dense.wo, *([dense.wi] if hasattr(dense, "wi") else [dense.wi_0, dense.wi_1])]

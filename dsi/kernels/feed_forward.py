"""Feed-forward layers of T5 in training, without memory passes that a product does not need.

These are the widest states of the network. ReLU and dropout are fused here, and under autocast
their output goes straight into the next product; transformers casts it to the dtype of that
product's weights, and autocast casts it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.models.mt5.modeling_mt5 import MT5DenseActDense, MT5DenseGatedActDense
from transformers.models.t5.modeling_t5 import T5DenseActDense, T5DenseGatedActDense

from dsi.kernels.dropout import relu_dropped
from dsi.kernels.patching import replaced_forward


@contextmanager
def fast_feed_forward(model: nn.Module) -> Iterator[None]:
    """Speeds up the feed-forward layers of a T5 or mT5, within the context."""
    plain = [part for part in model.modules() if type(part) in (T5DenseActDense, MT5DenseActDense)]
    gated = [
        part
        for part in model.modules()
        if type(part) in (T5DenseGatedActDense, MT5DenseGatedActDense)
    ]
    with replaced_forward(plain, _plain), replaced_forward(gated, _gated):
        yield


def _plain(layer: Any, states: torch.Tensor) -> torch.Tensor:
    inner = layer.wi(states)
    if layer.training and type(layer.act) is nn.ReLU:
        return _out(layer, relu_dropped(inner, layer.dropout.p))
    return _out(layer, layer.dropout(layer.act(inner)))


def _gated(layer: Any, states: torch.Tensor) -> torch.Tensor:
    return _out(layer, layer.dropout(layer.act(layer.wi_0(states)) * layer.wi_1(states)))


def _out(layer: Any, inner: torch.Tensor) -> torch.Tensor:
    if not torch.is_autocast_enabled(inner.device.type):
        inner = inner.to(layer.wo.weight.dtype)  # transformers may keep it in float32
    return layer.wo(inner)

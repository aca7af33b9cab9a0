"""Linear layers for training on a CPU in float32, with oneDNN forward and backward."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dsi.kernels.matmul import has_onednn_kernel, onednn_linear
from dsi.kernels.patching import replaced_forward


def fast_linear(model: nn.Module) -> AbstractContextManager[None]:
    """Uses oneDNN in a model's plain linear layers where it can, within the context."""
    layers = [
        layer
        for layer in model.modules()
        if type(layer) is nn.Linear and has_onednn_kernel(layer.weight)
    ]
    return replaced_forward(layers, _linear)


def _linear(layer: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    weight, bias = layer.weight, layer.bias
    cast = torch.is_autocast_enabled("cpu") or states.dtype != torch.float32
    if cast or weight.dtype != torch.float32:
        return functional.linear(states, weight, bias)
    rows = states.reshape(-1, states.shape[-1])
    flat = _Product.apply(rows, weight).view(*states.shape[:-1], -1)
    return flat if bias is None else flat + bias


class _Product(torch.autograd.Function):
    """states [rows, in] times weight [out, in], transposed; [rows, out]."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(states, weight)
        return onednn_linear(states, weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        of_states = of_weight = None
        if ctx.needs_input_grad[0]:
            of_states = onednn_linear(gradient, weight.t())
        if ctx.needs_input_grad[1]:
            of_weight = onednn_linear(gradient.t(), states.t())
        return of_states, of_weight

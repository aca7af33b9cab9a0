"""Root-mean-square normalization for training on a CPU, with an explicit backward pass.

For a row x of width d, weights w and a small eps (Zhang and Sennrich 2019, arXiv 1910.07467,
equation 4, with eps inside the root as T5 has it):

    y = r x w,    r = 1 / sqrt(|x|^2 / d + eps)

and for a gradient g of y, with n = r x:

    of w: sum over rows of g n,    of x: r (g w - n (g w . n) / d)

PyTorch derives the same from the single operations, with many more memory passes. Under autocast
the result has autocast's dtype right away: only products read it, and each would have to cast it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.models.mt5.modeling_mt5 import MT5LayerNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from dsi.kernels.patching import replaced_forward


def fast_norms(model: nn.Module) -> AbstractContextManager[None]:
    """Speeds up the normalizations of a T5 or mT5 on a CPU, within the context."""
    layers = [layer for layer in model.modules() if type(layer) in (T5LayerNorm, MT5LayerNorm)]
    return replaced_forward(layers, _norm)


def _norm(layer: Any, states: torch.Tensor) -> torch.Tensor:
    if states.device.type != "cpu" or states.dtype != layer.weight.dtype:
        return type(layer).forward(layer, states)
    kind = states.dtype
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
    return _Norm.apply(states, layer.weight, layer.variance_epsilon, kind)


class _Norm(torch.autograd.Function):
    """The normalization of states [..., width], in a dtype."""

    @staticmethod
    def forward(
        ctx: Any, states: torch.Tensor, weight: torch.Tensor, eps: float, kind: torch.dtype
    ) -> torch.Tensor:
        square = torch.linalg.vector_norm(states, dim=-1, keepdim=True).square_()
        root = square.div_(states.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(states, weight, root)
        return (states * root).mul_(weight).to(kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight, root = ctx.saved_tensors
        gradient = gradient.to(states.dtype)
        normal = states * root
        scaled = gradient * normal
        of_weight = scaled.view(-1, len(weight)).sum(dim=0) if ctx.needs_input_grad[1] else None
        along = scaled.mul_(weight).sum(dim=-1, keepdim=True).div_(-states.shape[-1])
        of_states = (gradient * weight).addcmul_(normal, along).mul_(root)
        return of_states, of_weight, None, None

"""Dropout in training on a CPU, with random bits that cost less.

PyTorch draws a Bernoulli number for each element on one thread, which a small network feels. Here
an element takes 16 bits of a stream (SFC64) that is seeded from PyTorch's generator, so that a seed
still fixes a run, and what is computed again (gradient checkpointing) drops the same elements.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from dsi.training.layers import computing

_STEPS = 2**16
"""A probability is a multiple of one over this."""


def cheap_dropout(model: nn.Module) -> AbstractContextManager[None]:
    """Lets a model's dropout layers draw cheaper bits on a CPU, until the end."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Dropout]
    return computing(layers, _dropout)


def dropped(states: torch.Tensor, share: float) -> torch.Tensor:
    """Returns states with a share of them dropped, and the others scaled up."""
    steps = round(share * _STEPS)
    if states.device.type != "cpu" or not 0 < steps < _STEPS:
        return functional.dropout(states, share)
    return _Dropout.apply(states, steps)


def _dropout(layer: nn.Dropout, states: torch.Tensor) -> torch.Tensor:
    return dropped(states, layer.p) if layer.training else states


class _Dropout(torch.autograd.Function):
    """Puts zeros into `dropped` of 65,536 elements, and scales the others up."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, dropped: int) -> torch.Tensor:
        count = states.numel()
        seed = int(torch.randint(2**62, (1,)))
        bits = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)[:count]
        kept = (torch.from_numpy(bits) >= dropped - _STEPS // 2).view(states.shape)
        ctx.save_for_backward(kept)
        ctx.scale = _STEPS / (_STEPS - dropped)
        return torch.ops.aten.native_dropout_backward(states, kept, ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kept,) = ctx.saved_tensors
        return torch.ops.aten.native_dropout_backward(gradient, kept, ctx.scale), None

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

from dsi.kernels.patching import replaced_forward

_STEPS = 2**16
"""A probability is a multiple of one over this."""


def fast_dropout(model: nn.Module) -> AbstractContextManager[None]:
    """Lets a model's dropout layers draw cheaper bits on a CPU, until the end."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Dropout]
    return replaced_forward(layers, _dropout)


def dropped(states: torch.Tensor, share: float) -> torch.Tensor:
    """Returns states with a share of them dropped, and the others scaled up."""
    steps = _steps(states, share)
    return _Dropout.apply(states, steps) if steps else functional.dropout(states, share)


def relu_dropped(states: torch.Tensor, share: float) -> torch.Tensor:
    """Returns the positive ones among states, as `dropped` does."""
    steps = _steps(states, share)
    if not steps:
        return functional.dropout(functional.relu(states), share)
    return _ReluDropout.apply(states, steps)


def _dropout(layer: nn.Dropout, states: torch.Tensor) -> torch.Tensor:
    return dropped(states, layer.p) if layer.training else states


def _steps(states: torch.Tensor, share: float) -> int:
    """Returns how many of 65,536 elements are dropped here; 0 where it is left to PyTorch."""
    steps = round(share * _STEPS)
    return steps if states.device.type == "cpu" and steps < _STEPS else 0


def _drawn(states: torch.Tensor, steps: int) -> torch.Tensor:
    """Draws which states are kept; uint8, of which PyTorch makes numbers faster than of bool."""
    count = states.numel()
    seed = int(torch.randint(2**62, (1,)))
    bits = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)[:count]
    kept = np.greater_equal(bits, steps - _STEPS // 2)
    return torch.from_numpy(kept.view(np.uint8)).view(states.shape)


def _kept(states: torch.Tensor, kept: torch.Tensor, steps: int) -> torch.Tensor:
    """Returns states where they are kept, scaled up, and 0 elsewhere."""
    return torch.addcmul(
        states.new_zeros(()), states, kept.to(states.dtype), value=_STEPS / (_STEPS - steps)
    )


class _Dropout(torch.autograd.Function):
    """Puts zeros into `steps` of 65,536 elements, and scales the others up."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, steps: int) -> torch.Tensor:
        kept = _drawn(states, steps)
        ctx.save_for_backward(kept)
        ctx.steps = steps
        return _kept(states, kept, steps)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kept,) = ctx.saved_tensors
        return _kept(gradient, kept, ctx.steps), None


class _ReluDropout(torch.autograd.Function):
    """The same of ReLU; what it gives says where the gradient passes, and is kept anyway."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, steps: int) -> torch.Tensor:
        found = _kept(states.clamp_min(0), _drawn(states, steps), steps)
        ctx.save_for_backward(found)
        ctx.scale = _STEPS / (_STEPS - steps)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (found,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, found, 0).mul_(ctx.scale), None

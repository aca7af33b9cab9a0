"""Dropout for training on a CPU, with cheaper random bits.

PyTorch draws a Bernoulli number for each element on one thread, a noticeable cost in a small
network. Here an element takes 16 bits of a stream (SFC64) seeded from PyTorch's generator, so that
runs stay reproducible from a seed and recomputation (gradient checkpointing) drops the same
elements.
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
    """Makes a model's dropout layers draw cheaper bits on a CPU, within the context."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Dropout]
    return replaced_forward(layers, _dropout)


def dropped(states: torch.Tensor, share: float) -> torch.Tensor:
    """Drops a fraction of the states and scales up the others."""
    steps = _steps(states, share)
    return _Dropout.apply(states, steps) if steps else functional.dropout(states, share)


def relu_dropped(states: torch.Tensor, share: float) -> torch.Tensor:
    """Applies ReLU, then dropout as in `dropped`."""
    steps = _steps(states, share)
    if not steps:
        return functional.dropout(functional.relu(states), share)
    return _ReluDropout.apply(states, steps)


def _dropout(layer: nn.Dropout, states: torch.Tensor) -> torch.Tensor:
    return dropped(states, layer.p) if layer.training else states


def _steps(states: torch.Tensor, share: float) -> int:
    """Returns how many of 65,536 elements are dropped here; 0 if PyTorch handles it."""
    steps = round(share * _STEPS)
    return steps if states.device.type == "cpu" and steps < _STEPS else 0


def _drawn(states: torch.Tensor, steps: int) -> torch.Tensor:
    """Draws the keep mask; uint8, which PyTorch converts to floats faster than bool."""
    count = states.numel()
    seed = int(torch.randint(2**62, (1,)))
    bits = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)[:count]
    kept = np.greater_equal(bits, steps - _STEPS // 2)
    return torch.from_numpy(kept.view(np.uint8)).view(states.shape)


def _kept(states: torch.Tensor, kept: torch.Tensor, steps: int) -> torch.Tensor:
    """Returns the kept states, scaled up, and 0 elsewhere."""
    return torch.addcmul(
        states.new_zeros(()), states, kept.to(states.dtype), value=_STEPS / (_STEPS - steps)
    )


class _Dropout(torch.autograd.Function):
    """Zeroes `steps` of 65,536 elements, and scales up the others."""

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
    """The same after ReLU; its output, which is kept anyway, tells where the gradient passes."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, steps: int) -> torch.Tensor:
        outputs = _kept(states.clamp_min(0), _drawn(states, steps), steps)
        ctx.save_for_backward(outputs)
        ctx.scale = _STEPS / (_STEPS - steps)
        return outputs

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (outputs,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, outputs, 0).mul_(ctx.scale), None

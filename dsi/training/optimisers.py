"""Optimisers by name, and the learning rate of every step."""

from __future__ import annotations

import math

import torch

from dsi.training.options import OptimiserOptions


def make_optimiser(model: torch.nn.Module, options: OptimiserOptions) -> torch.optim.Optimizer:
    """Returns the optimiser that the options name, over all trainable weights."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if options.name == "adafactor":
        return torch.optim.Adafactor(weights, lr=options.lr, weight_decay=options.weight_decay)
    return torch.optim.AdamW(
        weights,
        lr=options.lr,
        betas=(0.9, options.beta2),
        weight_decay=options.weight_decay,
        fused=True,
    )


def learning_rate(options: OptimiserOptions, step: int, steps: int) -> float:
    """Returns the learning rate of step `step` (from 0) of `steps`.

    It rises linearly over the warm-up, then follows the schedule; linear and cosine end at 0
    one step after the last.
    """
    if step < options.warmup:
        return options.lr * (step + 1) / (options.warmup + 1)
    if options.schedule == "constant":
        return options.lr
    if options.schedule == "inverse-sqrt":
        return options.lr * math.sqrt(max(options.warmup, 1) / max(step, 1))
    done = (step - options.warmup) / max(steps - options.warmup, 1)
    if options.schedule == "cosine":
        return options.lr * 0.5 * (1 + math.cos(math.pi * done))
    return options.lr * (1 - done)


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = lr

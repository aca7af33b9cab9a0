"""Optimisers by name, and the learning rate of every step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from dsi.training.options import BODY_SHARE, OptimiserOptions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.training.engines.base import Engine


def make_optimiser(model: PreTrainedModel, options: OptimiserOptions) -> torch.optim.Optimizer:
    """Returns the optimiser that the options name, over all trainable weights.

    Two groups: embeddings and output rows, then the body of the network, which is frozen
    where its share of the learning rate is 0: its gradients are then not computed either.
    """
    share = BODY_SHARE if options.body is None else options.body
    rows = {
        id(layer.weight)
        for layer in (
            model.get_encoder().get_input_embeddings(),
            model.get_decoder().get_input_embeddings(),
            model.get_output_embeddings(),
        )
    }
    for weight in model.parameters():
        weight.requires_grad_(share > 0 or id(weight) in rows)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in weights if id(weight) in rows], "share": 1.0},
        {"params": [weight for weight in weights if id(weight) not in rows], "share": share},
    ]
    groups = [group for group in groups if group["params"]]
    if options.name == "adafactor":
        return torch.optim.Adafactor(groups, lr=options.lr, weight_decay=options.weight_decay)
    return torch.optim.AdamW(
        groups,
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


def set_learning_rate(optimiser: torch.optim.Optimizer | Engine, lr: float) -> None:
    """Sets the learning rate of every group to its share of `lr`."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["share"]

"""The learning rate of every step: warm-up, then the schedule."""

from __future__ import annotations

import math
from typing import Any, Protocol

from dsi.training.options import OptimizerOptions


def learning_rate(options: OptimizerOptions, step: int, steps: int) -> float:
    """Returns the learning rate of step `step` (from 0) of `steps`.

    It rises linearly during warm-up, then follows the schedule; linear and cosine reach 0 one step
    after the last.

    Args:
        options: Peak learning rate, warm-up steps and schedule.
        step: Current step, from 0.
        steps: Total number of steps.
    """
    if step < options.warmup:
        return options.lr * (step + 1) / (options.warmup + 1)
    if options.schedule == "constant":
        return options.lr
    if options.schedule == "inverse-sqrt":
        return options.lr * math.sqrt(max(options.warmup, 1) / max(step, 1))
    decayed = (step - options.warmup) / max(steps - options.warmup, 1)
    if options.schedule == "cosine":
        return options.lr * 0.5 * (1 + math.cos(math.pi * decayed))
    return options.lr * (1 - decayed)


class _HasGroups(Protocol):
    """An optimizer, or an engine."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...


def set_learning_rate(optimizer: _HasGroups, lr: float) -> None:
    """Sets the learning rate of every group to `lr` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]

"""Single-process training, or DDP with the whole model in every process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from dsi.training.engines.base import Engine, OptimizerState
from dsi.training.optimization.row_adamw import clip_grad_norm
from dsi.training.optimization.sam import Shards, WholeWeights

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


class PlainEngine(Engine):
    """Every process holds all weights; DDP averages the gradients.

    Args:
        accelerator: An `Accelerator` with the precision set.
        model: The model, with `requires_grad` already set.
        optimizer: Over the model's weights.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.accelerator = accelerator
        self._raw = optimizer
        self._plain = model
        self.model, self._optimizer = accelerator.prepare(model, optimizer)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the optimizer."""
        return self._raw.param_groups

    @property
    def network(self) -> torch.nn.Module:
        """The model itself."""
        return self._plain

    @contextmanager
    def part(self, *, last: bool, own: bool = False) -> Iterator[torch.nn.Module]:
        """Opens a part; DDP synchronizes gradients in the backward pass of the last one."""
        with nullcontext() if last and not own else self.accelerator.no_sync(self.model):
            yield self.model

    def backward(self, loss: torch.Tensor, *, own: bool = False) -> None:
        """Adds gradients to `.grad`."""
        self.accelerator.backward(loss)

    def shards(self, names: Sequence[str], *, own: bool) -> Shards:
        """Returns whole weights, with local or averaged gradients as `part` was told."""
        chosen = set(names)
        weights = dict(self._plain.named_parameters())
        return WholeWeights(
            [weight for name, weight in weights.items() if name in chosen],
            [weight for name, weight in weights.items() if name not in chosen],
        )

    def step(self, clip: float) -> None:
        """Clips gradients, steps, clears gradients."""
        weights = list(self._plain.parameters())
        if clip and any(weight.grad is not None and weight.grad.is_sparse for weight in weights):
            clip_grad_norm(weights, clip)
        elif clip:
            self.accelerator.clip_grad_norm_(weights, clip)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def whole(self) -> PreTrainedModel | None:
        """Returns the model itself."""
        return self._plain if self.accelerator.is_main_process else None

    def optimizer_state(self) -> OptimizerState:
        """Returns the optimizer's own state."""
        return self._raw.state_dict()["state"] if self.accelerator.is_main_process else {}

"""The interface between the training loop and an engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from dsi.training.optimization.sam import Shards

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel

OptimizerState = dict[int, dict[str, torch.Tensor]]
"""Optimizer state of each weight, by the index of the weight, in the format of
`torch.optim.Optimizer.state_dict()["state"]`. Tensors have the weight's shape, or none."""


class Engine(ABC):
    """A model being trained by all processes of the run.

    All processes call the same methods in the same order. Gradients are summed over the parts of a
    step and averaged over processes.

    Attributes:
        accelerator: The `Accelerator`: device, processes and reductions.
        model: The wrapped module that computes logits and synchronizes gradients.
    """

    accelerator: Accelerator
    model: torch.nn.Module

    @property
    @abstractmethod
    def network(self) -> torch.nn.Module:
        """The model without any wrapper."""

    @property
    @abstractmethod
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's parameter groups; the loop sets their learning rates."""

    @abstractmethod
    def part(self, *, last: bool, own: bool = False) -> AbstractContextManager[torch.nn.Module]:
        """Opens a part of a step (a micro-batch): one loss and one call of `backward`.

        Args:
            last: Whether this is the last part, after which gradients are synchronized.
            own: Whether gradients stay local to this process (for `shards(..., own=True)`).

        Returns:
            A context manager that yields the module that computes the logits.
        """

    @abstractmethod
    def backward(self, loss: torch.Tensor, *, own: bool = False) -> None:
        """Accumulates the gradients of a loss."""

    @abstractmethod
    def shards(self, names: Sequence[str], *, own: bool) -> Shards:
        """Returns the named weights in the form that SAM perturbs.

        Args:
            names: Names of trained weights.
            own: Whether each process uses its local gradients for the perturbation.
        """

    @abstractmethod
    def step(self, clip: float) -> None:
        """Updates the weights and clears the gradients.

        Args:
            clip: Maximum global gradient norm; 0 disables clipping.
        """

    @abstractmethod
    def whole(self) -> PreTrainedModel | None:
        """Returns a plain model with the current weights in the first process, None in others.

        It shares memory with the trained model, or the next call overwrites it.
        """

    @abstractmethod
    def optimizer_state(self) -> OptimizerState:
        """Returns the full optimizer state in the first process, as in single-process training.

        The other processes get an empty dict.
        """

"""What the training loop asks of an engine."""

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
"""What an optimizer remembers of each weight, by the weight's number: the form of
`torch.optim.Optimizer.state_dict()["state"]`. Tensors have the weight's shape, or none."""


class Engine(ABC):
    """A model in training, over all processes of the run.

    All processes call the same methods in the same order. Gradients of several parts add up;
    over the processes they are averaged.

    Attributes:
        accelerator: Of accelerate: the device, the processes, and sums over them.
        model: What computes logits, with all that exchanges gradients.
        whole_weights: Whether every process has all weights of the network at any time.
    """

    accelerator: Accelerator
    model: torch.nn.Module
    whole_weights: bool = True

    @property
    @abstractmethod
    def network(self) -> torch.nn.Module:
        """The model in training without any wrapping."""

    @property
    @abstractmethod
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups, whose learning rates the loop sets."""

    @abstractmethod
    def part(self, *, last: bool, own: bool = False) -> AbstractContextManager[torch.nn.Module]:
        """Opens a part of a step, in which one loss is computed and `backward` is called.

        Args:
            last: Whether gradients are complete after this part, and are exchanged.
            own: Whether they stay this process's own (of `shards(..., own=True)`) instead.

        Returns:
            A context manager that gives the module to compute the logits with.
        """

    @abstractmethod
    def backward(self, loss: torch.Tensor, *, own: bool = False) -> None:
        """Adds the gradients of a loss to those there are."""

    @abstractmethod
    def shards(self, names: Sequence[str], *, own: bool) -> Shards:
        """Returns the weights of these names as SAM perturbs them.

        Args:
            names: Of weights that are trained.
            own: Whether each process perturbs by its own gradients.
        """

    @abstractmethod
    def step(self, clip: float) -> None:
        """Moves the weights by their gradients, and forgets these.

        Args:
            clip: Largest norm of the gradient of all weights; 0 for no limit.
        """

    @abstractmethod
    def whole(self) -> PreTrainedModel | None:
        """Returns a plain model with the weights of now in the first process, None in others.

        It shares memory with the model in training, or is written over by the next call.
        """

    @abstractmethod
    def optimizer_state(self) -> OptimizerState:
        """Returns the optimizer's state in the first process, as one process alone would have it.

        In the others, it returns an empty dict.
        """

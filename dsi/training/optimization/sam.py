"""Sharpness-aware minimization: the gradient is taken at the worst point near the weights.

Each step first moves the weights w by a perturbation e of norm rho, along the gradient of the loss.
The optimizer then updates w with the gradient at w + e.

- SAM (Foret et al. 2021, arXiv 2010.01412, equation 2): e = rho * g / ||g||
- ASAM (Kwon et al. 2021, arXiv 2102.11600, equation 8, T = |w|):
  e = rho * w^2 * g / || |w| * g ||

Norms are taken over all perturbed weights together. DSI++ (Mehta et al. 2023, arXiv 2212.09744)
trains its index with SAM so that memorized documents are forgotten less often.

`SAM` wraps any PyTorch optimizer. The training loop uses the lower-level `Perturbation`, which also
handles weights that are sharded over several processes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import get_total_norm

from data_prep.errors import InputError
from dsi.backbones.backbone import row_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SMALLEST_NORM = 1e-12
"""Added to the norm, so that a zero gradient gives no perturbation (as in the authors' code)."""


class Shards(ABC):
    """This process's shards of the weights that SAM perturbs, with their gradients."""

    @abstractmethod
    def pieces(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Returns all shards that have a gradient, with it, in a fixed order."""

    @abstractmethod
    def swap(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Replaces the values of the last `pieces` wherever they are used; returns the old ones."""

    def total(self, square: torch.Tensor) -> torch.Tensor:
        """Returns the sum of a scalar over the processes that hold the other shards."""
        return square

    @abstractmethod
    def clear(self) -> None:
        """Clears the gradients."""


class WholeWeights(Shards):
    """Weights that this process holds whole, with their gradients in `.grad`.

    With several processes, each has its own perturbation if the gradients are local (m-sharpness),
    and all have the same one if the gradients have been averaged.

    Args:
        weights: Weights to perturb.
        others: Weights whose gradients are cleared together with theirs.
    """

    def __init__(
        self, weights: Iterable[torch.nn.Parameter], others: Iterable[torch.nn.Parameter] = ()
    ) -> None:
        self._weights = list(weights)
        self._others = list(others)
        self._last: list[torch.nn.Parameter] = []

    def pieces(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Returns the weights that have a gradient."""
        self._last = [weight for weight in self._weights if weight.grad is not None]
        return [(weight.data, weight.grad) for weight in self._last if weight.grad is not None]

    def swap(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Swaps the storage of the weights; nothing is copied."""
        old = [weight.data for weight in self._last]
        for weight, value in zip(self._last, values, strict=True):
            weight.data = value
        return old

    def clear(self) -> None:
        """Clears the gradients of all weights."""
        for weight in (*self._weights, *self._others):
            weight.grad = None


class Perturbation:
    """Perturbs weights along their gradients, and restores them.

    Args:
        shards: The weights to perturb.
        rho: Norm of the perturbation, above 0.
        adaptive: Scale the perturbation by the magnitude of each weight (ASAM).
    """

    def __init__(self, shards: Shards, *, rho: float, adaptive: bool = False) -> None:
        self._shards = shards
        self._rho = rho
        self._adaptive = adaptive
        self._spare: list[torch.Tensor] = []

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Perturbs the weights inside the block, then clears their gradients.

        On exit, even after an error, every weight is restored bit for bit.
        """
        pieces = self._shards.pieces()
        before = self._shards.swap(self._perturbed(pieces))
        del pieces
        self._shards.clear()
        try:
            yield
        finally:
            self._spare = self._shards.swap(before)

    @torch.no_grad()
    def _perturbed(self, pieces: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
        """Returns w + e of every shard, reusing the buffers of the last call if they fit."""
        # If nothing has to be cast, the gradient's memory is reused for its product with the
        # weight.
        directions = [
            gradient
            if not self._adaptive
            else gradient.mul_(weight)
            if _single(weight, gradient)
            else gradient.float() * weight.float()
            for weight, gradient in pieces
        ]
        device = pieces[0][0].device if pieces else torch.device("cpu")
        norm = get_total_norm([direction.float() for direction in directions]).to(device)
        total = self._shards.total(norm.square()).sqrt()
        scale = self._rho / (float(total) + _SMALLEST_NORM)
        moved = []
        for number, ((weight, gradient), direction) in enumerate(
            zip(pieces, directions, strict=True)
        ):
            spare = self._spare[number] if number < len(self._spare) else None
            if spare is None or spare.shape != weight.shape or spare.dtype != weight.dtype:
                spare = torch.empty_like(weight)
            single = _single(weight, gradient)
            if self._adaptive and single:
                torch.addcmul(weight, weight, direction, value=scale, out=spare)
            elif single:
                torch.add(weight, direction, alpha=scale, out=spare)
            elif self._adaptive:
                spare.copy_(weight.float() + weight.float() * direction * scale)
            else:
                spare.copy_(weight.float() + direction.float() * scale)
            moved.append(spare)
        self._spare = []
        return moved


def _single(weight: torch.Tensor, gradient: torch.Tensor) -> bool:
    """Whether both are in float32."""
    return weight.dtype == gradient.dtype == torch.float32


class SAM(torch.optim.Optimizer):
    """SAM around any optimizer.

    Its groups, learning rates and state are the wrapped optimizer's own, so schedulers and
    checkpoints of PyTorch work on it::

        optimizer = SAM(torch.optim.AdamW(model.parameters(), lr=1e-3), rho=0.05)

        def closure():
            loss = loss_of(model(batch))
            loss.backward()
            return loss

        loss = optimizer.step(closure)

    Args:
        base: The optimizer that makes the step.
        rho: Length of the perturbation; 0.05 is usual, 0.15 with `adaptive`.
        adaptive: ASAM instead of SAM.
        every: Perturb every `every` steps; the other steps are those of the base optimizer.
        weights: Weights to perturb; by default all weights of the optimizer.
    """

    def __init__(
        self,
        base: torch.optim.Optimizer,
        *,
        rho: float = 0.05,
        adaptive: bool = False,
        every: int = 1,
        weights: Iterable[torch.nn.Parameter] | None = None,
    ) -> None:
        if not rho > 0:
            raise ValueError(f"rho is {rho}, which is not above 0")
        if every < 1:
            raise ValueError(f"every is {every}, which is less than 1")
        super().__init__(base.param_groups, base.defaults)
        self.base = base
        self.param_groups = base.param_groups
        self.state = base.state
        self.every = every
        self.steps = 0
        """Number of completed steps; it determines which steps perturb."""
        held = [weight for group in base.param_groups for weight in group["params"]]
        self._all = WholeWeights(held)
        chosen = held if weights is None else list(weights)
        self._perturbation = Perturbation(WholeWeights(chosen, held), rho=rho, adaptive=adaptive)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step.

        Args:
            closure: Computes the loss, calls `backward` on it and returns it. Called once, or twice
                in a step that perturbs. Gradients are cleared before each call.

        Returns:
            What the closure returned at the unperturbed weights.
        """
        if closure is None:
            raise ValueError("SAM needs a closure that computes the loss and its gradients")
        with torch.enable_grad():
            self._all.clear()
            loss = closure()
            if self.steps % self.every == 0:
                with self._perturbation.applied():
                    closure()
        self.base.step()
        self.steps += 1
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns the wrapped optimizer's state and the number of completed steps."""
        return {**self.base.state_dict(), "sam_steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        rest = dict(state_dict)
        self.steps = int(rest.pop("sam_steps"))
        self.base.load_state_dict(rest)
        self.param_groups = self.base.param_groups
        self.state = self.base.state


def weights_to_perturb(model: PreTrainedModel, which: str) -> list[str]:
    """Returns the names of the trained weights that `--sam.weights` selects.

    Args:
        model: The model, with `requires_grad` already set.
        which: all; rows (embeddings and output rows); backbone (all but these); encoder; decoder
            (with the output rows); or norms (scales and offsets of normalizations only, Mueller
            et al. 2023, arXiv 2306.04226).

    Raises:
        InputError: None of these weights is trained.
    """
    rows = {id(weight) for weight in row_weights(model)}
    encoder = {id(weight) for weight in model.get_encoder().parameters()}
    norms = {
        id(weight)
        for module in model.modules()
        if "Norm" in type(module).__name__
        for weight in module.parameters(recurse=False)
    }
    meant: dict[str, Callable[[torch.Tensor], bool]] = {
        "all": lambda weight: True,
        "rows": lambda weight: id(weight) in rows,
        "backbone": lambda weight: id(weight) not in rows,
        "encoder": lambda weight: id(weight) in encoder,
        "decoder": lambda weight: id(weight) not in encoder,
        "norms": lambda weight: id(weight) in norms,
    }
    names = [
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and meant[which](weight)
    ]
    if not names:
        raise InputError(
            f"--sam.weights {which}: none of these weights are trained",
            hint="Use --sam.weights all; --optimizer.backbone_lr_scale 0 freezes all but the rows",
        )
    return names

"""AdamW with sparse updates: it touches only the embedding rows in the batch.

The gradient of an embedding table is zero except for the rows in the batch. AdamW still updates all
rows: without a gradient, the moments of a row decay, and the row keeps moving by what is left of
them. Here such a row stays fixed: its value and moments are unchanged until it appears in a batch
again (the rule of `torch.optim.SparseAdam`, with AdamW's decoupled weight decay on updated rows).
This is a different optimizer, identical to AdamW only if every batch contains the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class RowAdamW(torch.optim.AdamW):
    """Fused AdamW that updates only the rows of a sparse gradient.

    Weights with dense gradients are updated as by `torch.optim.AdamW`; the state has the same
    format.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs one step."""
        loss = None if closure is None else closure()
        held: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None and weight.grad.is_sparse:
                    self._move_rows(weight, weight.grad.coalesce(), group)
                    held.append((weight, weight.grad))
                    weight.grad = None
        super().step()
        for weight, gradient in held:
            weight.grad = gradient
        return loss

    def _move_rows(
        self, weight: torch.nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]
    ) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        state["step"] += 1
        steps, (beta1, beta2), lr = float(state["step"]), group["betas"], group["lr"]
        rows, values = gradient.indices()[0], gradient.values()
        mean = state["exp_avg"][rows].lerp_(values, 1 - beta1)
        square = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(values, values, value=1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        size = square.sqrt_().div_((1 - beta2**steps) ** 0.5).add_(group["eps"])
        moved = weight[rows].mul_(1 - lr * group["weight_decay"])
        weight[rows] = moved.addcdiv_(mean, size, value=-lr / (1 - beta1**steps))


@torch.no_grad()
def clip_grad_norm(weights: Iterable[torch.nn.Parameter], limit: float) -> None:
    """Clips the global norm of dense and sparse gradients to `limit`."""
    gradients = []
    for weight in weights:
        if weight.grad is not None:
            if weight.grad.is_sparse:
                weight.grad = weight.grad.coalesce()
            gradients.append(weight.grad.values() if weight.grad.is_sparse else weight.grad)
    norm = torch.nn.utils.get_total_norm(gradients)
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(scale)

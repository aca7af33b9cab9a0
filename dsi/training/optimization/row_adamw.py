"""AdamW that costs an embedding what a batch touches of it.

The gradient of a table of rows is zero but for the rows that a batch has read. AdamW goes through
all of them all the same: where a row has no gradient its moments shrink, and it moves on by what is
left of them. Here such a row rests: its value and its moments stay as they are until a batch reads
it again (the rule of `torch.optim.SparseAdam`, with AdamW's decoupled weight decay on the rows that
move). That is another optimizer, equal to AdamW where every batch reads the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class RowAdamW(torch.optim.AdamW):
    """AdamW, fused, which moves only the rows that a sparse gradient names.

    Weights with dense gradients are moved as by `torch.optim.AdamW`. The state is of its form.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes one step."""
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
def clip_sparse_too(weights: Iterable[torch.nn.Parameter], limit: float) -> None:
    """Scales gradients, dense and sparse, to a norm of at most `limit` over all of them."""
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

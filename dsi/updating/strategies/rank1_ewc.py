"""`rank1-ewc`: penalizes weight changes along the mean gradient of old documents.

arXiv 2509.23593: the Fisher information F = mean_i g_i g_i^T is replaced by its best multiple of
mu mu^T, with mu the mean gradient: c = mu^T F mu / ||mu||^4 = mean_i <g_i, mu>^2 / ||mu||^4. The
penalty is weight / 2 * c * (mu^T (theta - theta*))^2: one vector to store, one inner product per
step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch

from dsi.updating.plan import Plan
from dsi.updating.regularization.per_sample_gradients import (
    old_batches,
    per_sample_gradients,
    targets_of,
    trained_weights,
)
from dsi.updating.regularization.weight_penalty import WeightPenalty, reference_weights
from dsi.updating.strategies.base import STRATEGIES, Strategy

Gradients = Iterable[Mapping[str, torch.Tensor]]


def rank_one(gradients: Callable[[], Gradients]) -> tuple[dict[str, torch.Tensor], float]:
    """Returns mu by name of the weight, and c.

    Args:
        gradients: Called twice; must yield the gradients of the same examples each time.
    """
    mean: dict[str, torch.Tensor] = {}
    count = 0
    for gradient in gradients():
        count += 1
        for name, value in gradient.items():
            mean[name] = mean[name] + value if name in mean else value.clone()
    mean = {name: value / count for name, value in mean.items()}
    square = sum(float(value.square().sum()) for value in mean.values())
    if square == 0:
        return mean, 0.0
    products = [
        sum(float((value * mean[name]).sum()) for name, value in gradient.items())
        for gradient in gradients()
    ]
    return mean, sum(product**2 for product in products) / len(products) / square**2


class RankOnePenalty(WeightPenalty):
    """Half of c times the squared weight change along mu.

    Args:
        weight: Weight of the term.
        direction: mu.
        scale: c.
        anchor: Values of the weights before the update.
    """

    name = "rank1_ewc"

    def __init__(
        self,
        weight: float,
        direction: Mapping[str, torch.Tensor],
        scale: float,
        anchor: Mapping[str, torch.Tensor],
    ) -> None:
        super().__init__(weight, direction, anchor)
        self.scale = scale

    def of_weights(self, model: torch.nn.Module) -> torch.Tensor:
        """Returns the unweighted penalty."""
        parts = [(direction * move).sum() for direction, move in self.moves(model)]
        return self.scale / 2 * torch.stack(parts).sum().square()


class RankOneEwc(Strategy):
    """Adds the penalty, measured on examples of old documents."""

    name = "rank1-ewc"
    role = "loss"
    reads = frozenset({"rank1"})

    def shape(self, plan: Plan) -> None:
        """Measures mu and c at the weights before the first step."""
        options = plan.update.options.rank1
        weights = trained_weights(plan)
        batches = old_batches(plan, options.samples, 1)
        if not batches:
            return
        direction, scale = rank_one(
            lambda: per_sample_gradients(plan.model, weights, batches, targets_of(plan))
        )
        anchor = reference_weights(weights, direction)
        plan.objectives.append(RankOnePenalty(options.weight, direction, scale, anchor))


STRATEGIES.register("rank1-ewc")(RankOneEwc())

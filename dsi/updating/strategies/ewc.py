"""`ewc`: penalizes changes of weights that matter for old documents.

Elastic weight consolidation (Kirkpatrick et al., PNAS 2017): the penalty is

    weight / 2 * sum_j F_jj (theta_j - theta*_j)^2

with theta* the weights before the update and F_jj the mean over examples of the square of *each
example's* gradient of log p(identifier | query); the square of a summed gradient would be a
different quantity. The examples cover all old documents, including those of the first corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def diagonal_fisher(gradients: Iterable[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Returns the mean of the squares of gradients, by name of the weight."""
    found: dict[str, torch.Tensor] = {}
    count = 0
    for gradient in gradients:
        count += 1
        for name, value in gradient.items():
            if name in found:
                found[name].addcmul_(value, value)
            else:
                found[name] = value.square()
    return {name: value / count for name, value in found.items()}


class ElasticPenalty(WeightPenalty):
    """Half the sum of squared weight changes, weighted by the Fisher information.

    Args:
        weight: Weight of the term.
        measured: Diagonal of the Fisher information by name of the weight.
        anchor: Values of the weights before the update.
    """

    name = "ewc"

    def of_weights(self, model: torch.nn.Module) -> torch.Tensor:
        """Returns the unweighted penalty."""
        parts = [(fisher * move.square()).sum() for fisher, move in self.moves(model)]
        return torch.stack(parts).sum() / 2


class Ewc(Strategy):
    """Adds the penalty, with a Fisher information measured on examples of old documents."""

    name = "ewc"
    role = "loss"
    reads = frozenset({"ewc"})

    def shape(self, plan: Plan) -> None:
        """Measures the Fisher information at the weights before the first step."""
        options = plan.update.options.ewc
        weights = trained_weights(plan)
        batches = old_batches(plan, options.samples, 1)
        fisher = diagonal_fisher(
            per_sample_gradients(plan.model, weights, batches, targets_of(plan))
        )
        if fisher:
            anchor = reference_weights(weights, fisher)
            plan.objectives.append(ElasticPenalty(options.weight, fisher, anchor))


STRATEGIES.register("ewc")(Ewc())

"""`periods`: slow weights move at some updates only, fast ones at each.

Nested Learning (Behrouz et al., NeurIPS 2025) orders the parts of a model by how often they are
updated: fast parts adapt, slow ones hold what several periods have in common. Here embeddings and
output rows move at every update, and a layer with d layers above it in its stack at every p-th one,
p = `every` ** (d + 1), at most `longest`. The number of updates by this strategy is stored with the
version. Weights that are not due get no gradient, so that they stay the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy
from dsi.updating.strategy_state import read_strategy_state

if TYPE_CHECKING:
    import torch

STATE = "periods"


class Periods(Strategy):
    """Blocks the gradients of weights that are not due."""

    name = STATE
    role = "structure"  # adapters have no period
    reads = frozenset({"periods"})

    def shape(self, plan: Plan) -> None:
        """Adds the hooks, and counts the update.

        Raises:
            InputError: Weight decay, which needs no gradient, would move weights that are not due;
                or none is due.
        """
        import torch

        if plan.optimizer.weight_decay:
            raise InputError(
                "--strategy periods and a weight decay cannot be combined",
                hint="Train the index with --optimizer.weight_decay 0",
            )
        options = plan.update.options.periods
        counted = read_strategy_state(plan.update.parent, STATE).get("updates")
        number = 1 + (0 if counted is None else int(counted[0]))
        plan.strategy_state[STATE] = {"updates": torch.tensor([number])}
        due = {
            period
            for _, period in periods_of(plan.model, options.every, options.longest)
            if number % period == 0
        }
        if plan.optimizer.rows == "frozen" and due == {1}:
            raise InputError(
                f"update {number} of --strategy periods moves rows alone, which are frozen in "
                "this index (--optimizer.rows frozen)",
                hint="Use another --strategy, such as append",
            )

        def block(model: Any) -> None:
            for weight, period in periods_of(model, options.every, options.longest):
                if number % period:
                    weight.requires_grad_(True)
                    weight.register_hook(lambda gradient: gradient * 0)

        plan.before_training.append(block)


def periods_of(model: Any, every: int, longest: int) -> Iterator[tuple[torch.Tensor, int]]:
    """Yields every weight of a model with the number of updates after which it moves.

    Args:
        model: The model.
        every: Factor between the periods of neighboring layers.
        longest: The longest period.
    """
    from dsi.backbones.backbone import row_weights
    from dsi.training.optimization.optimizers import layers_above

    rows = {id(weight) for weight in row_weights(model)}
    above = layers_above(name for name, _ in model.named_parameters())
    for name, weight in model.named_parameters():
        fast = id(weight) in rows or name.startswith("pawa.")
        yield weight, 1 if fast else min(every ** (above[name] + 1), longest)


STRATEGIES.register(STATE)(Periods())

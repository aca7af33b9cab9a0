"""`warm-up`: the fraction of new documents rises from zero, to reduce the stability gap.

When an update begins, the model has converged on old documents: their gradient is nearly zero and
does not counteract that of new ones, so that old documents are forgotten at first and relearned
later (De Lange et al., ICLR 2023). With few new examples at first, the gradients of old ones can
keep up.
"""

from __future__ import annotations

from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy


class WarmUp(Strategy):
    """Raises the fraction of new documents linearly over the first part of the steps."""

    name = "warm-up"
    role = "schedule"
    reads = frozenset({"warm_up"})
    excludes = frozenset({"finetune"})

    def shape(self, plan: Plan) -> None:
        """Sets the schedule."""
        part = plan.update.options.warm_up.part

        def factor(step: int, steps: int) -> float:
            return min(1.0, (step + 1) / max(1.0, part * steps))

        plan.schedule = factor


STRATEGIES.register("warm-up")(WarmUp())

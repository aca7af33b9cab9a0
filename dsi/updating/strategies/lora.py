"""`lora`: each update learns a new low-rank adapter instead of training the backbone.

LoRA (Hu et al., ICLR 2022): beside the weight W of a linear layer stands scale * B A of low rank;
B starts at zero. The embeddings and output rows move as always. At the end the adapter is merged
into W, so that the next update begins with a new one and searching costs what it did.
"""

from __future__ import annotations

from dsi.updating.strategies.base import STRATEGIES, Plan, Strategy
from dsi.updating.structures.low_rank import add_low_rank, merge_at_end


class Lora(Strategy):
    """Adds the adapters, and has them merged."""

    name = "lora"
    role = "structure"
    reads = frozenset({"lora"})

    def shape(self, plan: Plan) -> None:
        """Changes the model of the plan.

        Raises:
            InputError: The backbone is frozen, or peft is not installed.
        """
        add_low_rank(plan, self.name)
        merge_at_end(plan)


STRATEGIES.register("lora")(Lora())

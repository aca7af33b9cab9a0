"""`lora`: each update learns a new low-rank adapter instead of training the backbone.

LoRA (Hu et al., ICLR 2022): a low-rank product scale * B A is added to the weight W of a linear
layer; B starts at zero. Embeddings and output rows are trained as usual. At the end the adapter is
merged into W, so that the next update starts with a new one and search costs no more than before.
"""

from __future__ import annotations

from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy
from dsi.updating.structures.low_rank import add_low_rank, merge_at_end


class Lora(Strategy):
    """Adds the adapters, and merges them at the end."""

    name = "lora"
    role = "structure"
    reads = frozenset({"lora"})

    def shape(self, plan: Plan) -> None:
        """Modifies the model of the plan.

        Raises:
            InputError: The backbone is frozen, or peft is not installed.
        """
        add_low_rank(plan, self.name)
        merge_at_end(plan)


STRATEGIES.register("lora")(Lora())

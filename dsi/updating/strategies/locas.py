"""`locas`: a side memory beside every feed-forward network learns the new documents.

Locas (arXiv 2602.05085), of which this project knows a digest only, not the paper's full rules:

    y = FFN(x) + FFN_mem(x)

FFN_mem has the host's form and `units` hidden units. Its keys (first layer) start as copies of the
host's units that are most active on the new documents' texts, its values (second layer) at zero.
The body stays as it is; memories, embeddings and output rows are trained. At the end a memory is
merged (its units become further ones of the host, which computes the same) or dropped, when it was
a crutch for the rows only. The paper's compression of memories is not done.
"""

from __future__ import annotations

from typing import Any

from dsi.data.batching import Batches
from dsi.updating.data.gathering import gather
from dsi.updating.strategies.base import STRATEGIES, Plan, Strategy
from dsi.updating.structures.low_rank import move_body
from dsi.updating.structures.side_memory import add_memories, drop_memories, merge_memories

_READ, _TOGETHER = 256, 32
"""Texts of new documents whose hidden units are looked at, and how many at once."""


class Locas(Strategy):
    """Adds the memories, and says what becomes of them."""

    name = "locas"
    role = "structure"
    reads = frozenset({"locas"})
    plain_head = True  # it widens the body, and an adaptor is as wide as the body says

    def shape(self, plan: Plan) -> None:
        """Changes the model of the plan.

        Raises:
            InputError: The body is frozen, the model is of another kind, or has fewer units.
        """
        move_body(plan, self.name)
        options = plan.update.options.locas
        new = {name: some for name, some in gather(plan).items() if name.endswith("/new")}
        size = min(_TOGETHER, sum(map(len, new.values())))
        drawn = Batches(new, dict.fromkeys(new, 1.0), size, plan.update.options.seed + 2)
        count = max(1, min(_READ, sum(map(len, new.values()))) // size)
        add_memories(
            plan.model,
            options.units,
            [drawn.parts(step, 1)[0] for step in range(count)],
            encoder=not plan.optimiser.freeze_encoder,
        )

        def finish(model: Any) -> Any:
            (merge_memories if options.end == "merge" else drop_memories)(model)
            return model

        plan.after_training.append(finish)


STRATEGIES.register("locas")(Locas())

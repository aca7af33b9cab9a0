"""`locas`: parallel adapters of the feed-forward networks learn the new documents.

After a summary of Locas (arXiv 2602.05085), not the full rules of the paper:

    y = FFN(x) + FFN_mem(x)

FFN_mem has the form of FFN and `units` hidden units. Its keys (first layer) start as copies of the
hidden units of FFN that are most active on the new documents; its values (second layer) start at
zero. The backbone is frozen; adapters, embeddings and output rows are trained. Finally an adapter
is merged (its units become hidden units of FFN, with the same output) or dropped, if it only served
to train the rows. The compression of memories in the paper is not implemented.
"""

from __future__ import annotations

from typing import Any

from dsi.data.batching import Batches
from dsi.updating.data.gathering import gather
from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy
from dsi.updating.structures.low_rank import unfreeze_backbone
from dsi.updating.structures.parallel_adapter import (
    add_parallel_adapters,
    drop_parallel_adapters,
    merge_parallel_adapters,
)

_READ, _TOGETHER = 256, 32
"""Number of new texts on which activations are measured, and the batch size."""


class Locas(Strategy):
    """Adds the side memories, and merges or drops them at the end."""

    name = "locas"
    role = "structure"
    reads = frozenset({"locas"})
    plain_head = True  # it widens the backbone; an adaptor takes its width from there

    def shape(self, plan: Plan) -> None:
        """Modifies the model of the plan.

        Raises:
            InputError: The backbone is frozen, the model is of another kind, or has fewer units.
        """
        unfreeze_backbone(plan, self.name)
        options = plan.update.options.locas
        new = {name: some for name, some in gather(plan).items() if name.endswith("/new")}
        size = min(_TOGETHER, sum(map(len, new.values())))
        drawn = Batches(new, dict.fromkeys(new, 1.0), size, plan.update.options.seed + 2)
        count = max(1, min(_READ, sum(map(len, new.values()))) // size)
        add_parallel_adapters(
            plan.model,
            options.units,
            [drawn.parts(step, 1)[0] for step in range(count)],
            encoder=not plan.optimizer.freeze_encoder,
        )

        def finish(model: Any) -> Any:
            (merge_parallel_adapters if options.end == "merge" else drop_parallel_adapters)(model)
            return model

        plan.after_training.append(finish)


STRATEGIES.register("locas")(Locas())

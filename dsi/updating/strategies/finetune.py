"""`finetune`, cl(D_n) of DSI++: the indexing task of the new documents, and nothing else."""

from __future__ import annotations

from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy


class Finetune(Strategy):
    """The simplest strategy, and the one that forgets most."""

    name = "finetune"
    role = "examples"
    excludes = frozenset({"reindex", "episodic", "generative"})
    ignores = frozenset({"ratio", "new_fraction"})

    def shape(self, plan: Plan) -> None:
        """Samples the texts of new documents only."""
        plan.old = False


STRATEGIES.register("finetune")(Finetune())

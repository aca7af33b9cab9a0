"""`reindex`, cl(U_n) of DSI++: the indexing task of all documents, old and new."""

from __future__ import annotations

from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy


class Reindex(Strategy):
    """Rehearses text-to-identifier pairs; uses no queries."""

    name = "reindex"
    role = "examples"
    excludes = frozenset({"generative", "episodic"})
    ignores = frozenset({"ratio"})

    def shape(self, plan: Plan) -> None:
        """Samples the texts of all documents."""
        plan.old = True


STRATEGIES.register("reindex")(Reindex())

"""`episodic`, cl(U_n) + epsmem of DSI++: stored labeled queries plus the indexing task."""

from __future__ import annotations

from data_prep.errors import InputError
from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy


class Episodic(Strategy):
    """Replays the labeled training queries stored in the index."""

    name = "episodic"
    role = "examples"

    def shape(self, plan: Plan) -> None:
        """Samples labeled queries, with `ratio` document texts per query.

        Raises:
            InputError: The index has no labeled training query.
        """
        if not plan.update.corpus.dataset.info.qrels.get("train"):
            raise InputError(
                "--strategy episodic replays labeled training queries, and this index has none",
                hint="Use --strategy generative",
            )
        plan.queries["labeled"] = 1.0
        plan.old = True


STRATEGIES.register("episodic")(Episodic())

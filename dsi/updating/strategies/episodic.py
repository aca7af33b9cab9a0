"""`episodic`, cl(U_n) + epsmem of DSI++: stored labelled queries beside the indexing task."""

from __future__ import annotations

from data_prep.errors import InputError
from dsi.updating.strategies.base import STRATEGIES, Plan, Strategy


class Episodic(Strategy):
    """Replays the labelled training queries that the index has kept."""

    name = "episodic"
    role = "examples"

    def shape(self, plan: Plan) -> None:
        """Draws labelled queries, `ratio` texts of documents for each of them.

        Raises:
            InputError: The index has no labelled training query.
        """
        if not plan.update.corpus.dataset.info.qrels.get("train"):
            raise InputError(
                "--strategy episodic replays labelled training queries, and this index has none",
                hint="Take --strategy generative",
            )
        plan.queries["labelled"] = 1.0
        plan.old = True


STRATEGIES.register("episodic")(Episodic())

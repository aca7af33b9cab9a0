"""`generative`, cl(U_n) + genmem(U_n) of DSI++: pseudo-queries of old and new documents.

Old documents keep the pseudo-queries that they were trained on; new ones get theirs from the same
generator. With `ratio` r, r document texts are sampled per query (DSI++ uses 32 and 2).
"""

from __future__ import annotations

from data_prep.errors import InputError
from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy


class Generative(Strategy):
    """Rehearses pseudo-queries of all documents, old and new."""

    name = "generative"
    role = "examples"

    def shape(self, plan: Plan) -> None:
        """Samples pseudo-queries of all documents, with `ratio` document texts per query.

        Raises:
            InputError: There are no pseudo-queries.
        """
        if plan.update.generator is None:
            raise InputError(
                "--strategy generative needs pseudo-queries, and there are none",
                hint="Choose a --generator",
            )
        plan.queries["pseudo"] = 1.0
        plan.old = True


STRATEGIES.register("generative")(Generative())

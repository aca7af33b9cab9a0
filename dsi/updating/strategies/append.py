"""`append`: new documents get rows and lexical weights in closed form; nothing is trained."""

from __future__ import annotations

from pathlib import Path

from dsi.updating.plan import Update
from dsi.updating.strategies.base import STRATEGIES, Outcome, Standalone


class Append(Standalone):
    """Adds new documents to the lexical layer and expands the network, without training.

    No weight of an old document changes, so nothing is forgotten. The lexical layer updates its
    document frequencies.
    """

    name = "append"
    ignores = frozenset({"ratio", "new_fraction", "steps", "batch", "lr", "generator", "per_doc"})

    def run(self, update: Update, work: Path) -> Outcome:
        """Expands the network; see `dsi.rows.model_expansion`."""
        from dsi.updating.expansion import expanded_model

        return Outcome(expanded_model(update), update.text, {"steps": 0, "batch": 0})


STRATEGIES.register("append")(Append())

"""Forgetting events: documents that were memorized at one evaluation and are not at the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.former_names import with_current_names


class Forgetting:
    """Counts forgetting events during training (Toneva et al. 2019; DSI++, Mehta et al. 2023).

    A document is memorized if the model, given its text, ranks it first. An event occurs when a
    document memorized at one evaluation is not memorized at the next.

    Args:
        documents: Number of documents that are tracked.

    Attributes:
        memorized: Documents memorized at the last evaluation; bool [documents].
        ever: Documents memorized at any evaluation; bool [documents].
        events: Forgetting events per document; int64 [documents].
    """

    def __init__(self, documents: int) -> None:
        self.memorized = np.zeros(documents, bool)
        self.ever = np.zeros(documents, bool)
        self.events = np.zeros(documents, np.int64)

    def see(self, memorized: npt.NDArray[np.bool_]) -> None:
        """Records an evaluation: which documents are memorized now."""
        self.events += self.memorized & ~memorized
        self.memorized = memorized
        self.ever = self.ever | memorized

    def measures(self) -> dict[str, float]:
        """Returns the fields of an evaluation row: shares of the documents, and the event count."""
        return {
            "documents Success@1": float(self.memorized.mean()),
            "forgetting events": int(self.events.sum()),
            "never forgotten": float((self.events == 0).mean()),
        }

    def summary(self) -> dict[str, Any]:
        """Returns the summary for the manifest.

        Returns:
            documents: Number of tracked documents. memorized: Share at the last evaluation.
            never_memorized: Share never memorized at any evaluation. zero_events: Share without a
            forgetting event (the figure in DSI++, which includes those never memorized). stable:
            Share memorized at least once and never forgotten. events: Number of events -> number of
            documents.
        """
        numbers, counts = np.unique(self.events, return_counts=True)
        return {
            "documents": len(self.events),
            "memorized": float(self.memorized.mean()),
            "never_memorized": float((~self.ever).mean()),
            "zero_events": float((self.events == 0).mean()),
            "stable": float(((self.events == 0) & self.ever).mean()),
            "events": {str(n): int(count) for n, count in zip(numbers, counts, strict=True)},
        }

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs, as JSON."""
        return {
            "memorized": np.flatnonzero(self.memorized).tolist(),
            "ever": np.flatnonzero(self.ever).tolist(),
            "events": self.events.tolist(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        state = with_current_names(state)
        for name in ("memorized", "ever"):
            marks = np.zeros(len(self.events), bool)
            marks[state[name]] = True
            setattr(self, name, marks)
        self.events = np.asarray(state["events"], np.int64)

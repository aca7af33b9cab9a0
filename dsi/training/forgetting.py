"""Forgetting events: documents that were memorized at one evaluation and are not at the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.former_names import with_current_names


class Forgetting:
    """Counts forgetting events during training (Toneva et al. 2019; DSI++, Mehta et al. 2023).

    A document is memorized where the model, given its text, finds it first. An event is that a
    document which was memorized at one evaluation is not at the next.

    Args:
        documents: How many documents are watched.

    Attributes:
        memorized: Which were memorized at the last evaluation; bool [documents].
        ever: Which were memorized at some evaluation; bool [documents].
        events: How often each was forgotten; int64 [documents].
    """

    def __init__(self, documents: int) -> None:
        self.memorized = np.zeros(documents, bool)
        self.ever = np.zeros(documents, bool)
        self.events = np.zeros(documents, np.int64)

    def see(self, memorized: npt.NDArray[np.bool_]) -> None:
        """Takes in an evaluation: which documents are memorized now."""
        self.events += self.memorized & ~memorized
        self.memorized = memorized
        self.ever = self.ever | memorized

    def measures(self) -> dict[str, float]:
        """Returns what a row of evaluations says: shares of the documents, and all events."""
        return {
            "documents Success@1": float(self.memorized.mean()),
            "forgetting events": int(self.events.sum()),
            "never forgotten": float((self.events == 0).mean()),
        }

    def summary(self) -> dict[str, Any]:
        """Returns what the manifest says at the end.

        Returns:
            documents: How many were watched. memorized: Share at the last evaluation.
            never_memorized: Share that no evaluation found memorized. zero_events: Share without
            a forgetting event (DSI++'s figure, those never memorized among them). stable: Share
            that was memorized once and never forgotten. events: Number of events -> documents.
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
        """Takes back what `state` returned."""
        state = with_current_names(state)
        for name in ("memorized", "ever"):
            marks = np.zeros(len(self.events), bool)
            marks[state[name]] = True
            setattr(self, name, marks)
        self.events = np.asarray(state["events"], np.int64)

"""Batches of an update in which every document appears in several views at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dsi.data.batching import Batch, Batches
from dsi.data.examples import Examples
from dsi.updating.data.proportions import NEW, OLD, apportion

_TEXTS = "indexing"


class ViewBatches(Batches):
    """Batches of size / views documents, each with `views` examples.

    Old and new documents are two endless streams, reshuffled in every pass. The first view is a
    query if the document has one; the others are drawn from all of its examples, tasks by their
    shares, without repetition as long as there are enough.

    Args:
        examples: "TASK/old" and "TASK/new" -> examples.
        shares: The same keys -> fraction of a batch.
        size: Examples per batch, a multiple of `views`.
        seed: Random seed.
        views: Examples per document.
        steps: Total number of steps.
        factors: As in `ReplayBatches`.
    """

    def __init__(
        self,
        examples: Mapping[str, Examples],
        shares: Mapping[str, float],
        size: int,
        seed: int,
        *,
        views: int,
        steps: int,
        factors: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(examples, shares, size, seed)
        self.views = views
        self._orders: dict[int, tuple[int, npt.NDArray[np.int64]]] = {}
        by_task = dict(zip(self.tasks, self.proportions, strict=True))
        # Old and new documents, and the examples of each: (task, number) and weight.
        self._pools: dict[str, dict[int, tuple[list[tuple[str, int]], list[float]]]] = {}
        for task, share in by_task.items():
            pool = self._pools.setdefault(task.rpartition("/")[2], {})
            rows = examples[task].rows
            counts = np.bincount(rows)
            for number, row in enumerate(rows.tolist()):
                members, weights = pool.setdefault(row, ([], []))
                members.append((task, number))
                weights.append(share / float(counts[row]))
        self.sides = [side for side in (OLD, NEW) if side in self._pools]
        self._rows = {side: np.array(sorted(self._pools[side])) for side in self.sides}
        counted = np.ones(steps) if factors is None else factors
        new = sum(share for task, share in by_task.items() if task.endswith(f"/{NEW}"))
        rising = counted * new / sum(by_task.values())
        wanted = np.ones((len(counted), 1))
        if len(self.sides) == 2:
            wanted = np.stack([1 - rising, rising], axis=1)
        drawn = apportion(wanted * (size // views), size // views)
        zero = np.zeros((1, drawn.shape[1]), np.int64)
        self._sums = np.concatenate([zero, drawn.cumsum(0)])

    def groups(self, step: int) -> list[list[tuple[str, int]]]:
        """Returns the views of every document of a step: tasks and example numbers."""
        found = []
        for place, side in enumerate(self.sides):
            start, end = self._sums[step, place], self._sums[step + 1, place]
            rows = self._rows[side]
            for count in range(int(start), int(end)):
                turn, number = divmod(count, len(rows))
                found.append(self._views(side, int(rows[self._order(place, turn)[number]]), turn))
        return found

    def _order(self, side: int, turn: int) -> npt.NDArray[np.int64]:
        """Returns the order of old or new documents in a pass; the last result is cached."""
        if self._orders.get(side, (-1, None))[0] != turn:
            rng = np.random.default_rng([self.seed, 41, side, turn])
            self._orders[side] = (turn, rng.permutation(len(self._rows[self.sides[side]])))
        return self._orders[side][1]

    def _views(self, side: str, row: int, turn: int) -> list[tuple[str, int]]:
        members, weights = self._pools[side][row]
        rng = np.random.default_rng([self.seed, 42, row, turn])
        chances = np.array(weights)
        asking = np.array([not task.startswith(_TEXTS) for task, _ in members])
        first = chances * asking if asking.any() else chances
        chosen = [int(rng.choice(len(members), p=first / first.sum()))]
        left = chances.copy()
        while len(chosen) < self.views:
            left[chosen[-1]] = 0
            if not left.any():
                left = chances.copy()
            chosen.append(int(rng.choice(len(members), p=left / left.sum())))
        return [members[place] for place in chosen]

    def members(self, step: int) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Returns the example numbers of each task in step `step`."""
        picked = [view for group in self.groups(step) for view in group]
        return [
            (task, np.array([number for name, number in picked if name == task], np.int64))
            for task in self.tasks
        ]

    def counts(self, step: int) -> list[int]:
        """Returns how many examples of each of `tasks` step `step` (from 0) takes."""
        return [len(numbers) for _, numbers in self.members(step)]

    def parts(self, step: int, parts: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """Returns the micro-batches of one process; the views of a document stay together.

        Args:
            step: From 0.
            parts: Number of micro-batches; each takes every `parts`-th document.
            rank: Rank of the process, from 0.
            world: Number of processes.
        """
        groups = self.groups(step)
        shards = [groups[rank * parts + part :: world * parts] for part in range(parts)]
        return [self._collate([view for group in shard for view in group]) for shard in shards]

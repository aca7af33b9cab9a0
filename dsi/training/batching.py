"""Which examples make up a step: a pure function of the seed and the step's number.

Nothing has to be saved or replayed to continue at any step, and every process of many knows
every batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsi.training.examples import TASKS, Examples

WINDOW = 16
"""Steps whose examples are sorted by length together: like lengths meet in a batch, so that
little is computed on padding, and which ones meet changes with every pass."""


@dataclass(frozen=True)
class Batch:
    """The examples of one step, or one process's part of them.

    Attributes:
        input_ids: Token ids, padded with 0; int64 [examples, longest].
        attention_mask: 1 for tokens, 0 for padding; int64, same shape.
        rows: Table rows of the documents; int64 [examples].
        labelled: Which examples are labelled queries; bool [examples].
        numbers: Each example's place among all examples of all tasks, tasks in the order of
            `TASKS` and then those that are none of them; int64 [examples].
    """

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    labelled: npt.NDArray[np.bool_]
    numbers: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def thinned(self, share: float, offset: int = 0) -> Batch:
        """Returns a share of the examples, at least one, spread evenly over the batch.

        Args:
            share: Above 0, at most 1.
            offset: Which ones; another number takes others, and none is always left out.
        """
        kept = max(1, round(share * len(self))) if len(self) else 0
        if kept == len(self):
            return self
        places = np.sort((np.arange(kept) * len(self) // kept + offset) % len(self))
        longest = max(1, int(self.attention_mask[places].sum(axis=1).max()))
        return Batch(
            self.input_ids[places, :longest],
            self.attention_mask[places, :longest],
            self.rows[places],
            self.labelled[places],
            self.numbers[places],
        )


class Batches:
    """The batches of a training run.

    Each task is an endless stream: a fresh permutation of its examples, pass after pass. Every
    batch takes the task's share from its stream, to the fraction: over many steps the mix is
    exact.

    Args:
        examples: Task -> examples.
        shares: Task -> its share; shares of tasks without examples go to the others.
        size: Examples per batch.
        seed: Of the permutations.
    """

    def __init__(
        self, examples: Mapping[str, Examples], shares: Mapping[str, float], size: int, seed: int
    ) -> None:
        self.examples = examples
        self.size = size
        self.seed = seed
        # What is not one of the tasks proper ("pseudo/old") comes after them, as it was given.
        ordered = [*TASKS, *(task for task in examples if task not in TASKS)]
        self.tasks = [task for task in ordered if task in examples and shares.get(task, 0) > 0]
        self.shares = [shares[task] for task in self.tasks]
        present = [task for task in ordered if task in examples]
        before = np.cumsum([0, *(len(examples[task]) for task in present)])
        self._first = dict(zip(present, before.tolist(), strict=False))
        self._window: tuple[int, list[list[tuple[str, npt.NDArray[np.int64]]]]] = (-1, [])

    def counts(self, step: int) -> list[int]:
        """Returns how many examples of each of `tasks` step `step` (from 0) takes."""
        starts, ends = self._drawn(step), self._drawn(step + 1)
        return [end - start for start, end in zip(starts, ends, strict=True)]

    def _drawn(self, step: int) -> list[int]:
        """How many examples of each of `tasks` all steps before `step` take.

        Each task takes its part of what the tasks before it have left: so the numbers add up,
        and none of them falls from one step to the next, however small a share is.
        """
        left = step * self.size
        drawn = []
        for task, share in enumerate(self.shares):
            last = task == len(self.shares) - 1
            drawn.append(left if last else int(left * (share / sum(self.shares[task:]))))
            left -= drawn[-1]
        return drawn

    def members(self, step: int) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Returns the example numbers of each task in step `step`."""
        window, place = divmod(step, WINDOW)
        if self._window[0] != window:
            self._window = (window, self._deal(window))
        return self._window[1][place]

    def _deal(self, window: int) -> list[list[tuple[str, npt.NDArray[np.int64]]]]:
        """Sorts the examples of a window by length and deals them to its steps."""
        first = window * WINDOW
        order = np.random.default_rng([self.seed, 5, window]).permutation(WINDOW)
        dealt: list[list[tuple[str, npt.NDArray[np.int64]]]] = [[] for _ in range(WINDOW)]
        starts, ends = self._drawn(first), self._drawn(first + WINDOW)
        for number, task in enumerate(self.tasks):
            drawn = self._stream(number, starts[number], ends[number] - starts[number])
            drawn = drawn[np.argsort(self.examples[task].lengths[drawn], kind="stable")]
            counts = np.array([self.counts(first + place)[number] for place in range(WINDOW)])
            # The shortest examples go to the step that comes first in the shuffled order.
            cuts = np.concatenate([[0], np.cumsum(counts[order])])
            for rank, place in enumerate(order):
                dealt[place].append((task, drawn[cuts[rank] : cuts[rank + 1]]))
        return dealt

    def _stream(self, task: int, start: int, count: int) -> npt.NDArray[np.int64]:
        """Returns examples `start` to `start + count` of a task's endless stream."""
        size = len(self.examples[self.tasks[task]])
        drawn: list[npt.NDArray[np.int64]] = []
        while count > 0:
            turn, place = divmod(start, size)
            rng = np.random.default_rng([self.seed, 6, _number(self.tasks[task]), turn])
            piece = rng.permutation(size)[place : place + count]
            drawn.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(drawn) if drawn else np.zeros(0, np.int64)

    def parts(self, step: int, parts: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """Returns the batches that one process works through in step `step`.

        Args:
            step: From 0.
            parts: How many; each takes every `parts`-th example.
            rank: Which process, from 0.
            world: How many processes share the step.
        """
        picked = [
            (task, number) for task, numbers in self.members(step) for number in numbers.tolist()
        ]
        shards = [picked[rank * parts + part :: world * parts] for part in range(parts)]
        return [self._collate(shard) for shard in shards]

    def _collate(self, picked: list[tuple[str, int]]) -> Batch:
        lines = [self.examples[task].line(number) for task, number in picked]
        longest = max((len(line) for line in lines), default=1)
        input_ids = np.zeros((len(lines), longest), np.int64)
        attention_mask = np.zeros_like(input_ids)
        for place, line in enumerate(lines):
            input_ids[place, : len(line)] = line
            attention_mask[place, : len(line)] = 1
        rows = np.array([self.examples[task].rows[number] for task, number in picked], np.int64)
        labelled = np.array([task.startswith("labelled") for task, _ in picked], bool)
        numbers = np.array([self._first[task] + number for task, number in picked], np.int64)
        return Batch(input_ids, attention_mask, rows, labelled, numbers)


def _number(task: str) -> int:
    """The number of a task in seeds; that of a stream which is no task proper is made from it."""
    return TASKS.index(task) if task in TASKS else zlib.crc32(task.encode())

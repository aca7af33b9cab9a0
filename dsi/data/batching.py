"""The examples of a step, as a pure function of the seed and the step number.

Resuming at any step requires no saved state and no replay, and in a distributed run every process
knows every batch.
"""

from __future__ import annotations

import bisect
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsi.data.examples import TASKS, Examples
from dsi.kernels.length_buckets import batches_within_budget, length_buckets

WINDOW = 16
"""Steps whose examples are sorted by length together: similar lengths meet in a batch, so that
little is computed on padding, and which ones meet changes with every pass."""


@dataclass(frozen=True)
class Batch:
    """The examples of one step, or one process's share of them.

    Attributes:
        input_ids: Token ids, padded with 0; int64 [examples, longest].
        attention_mask: 1 for tokens, 0 for padding; int64, same shape.
        rows: Table rows of the documents; int64 [examples].
        labeled: Which examples are labeled queries; bool [examples].
        numbers: Each example's index among all examples of all tasks, with tasks in the order of
            `TASKS` followed by any others; int64 [examples].
    """

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    labeled: npt.NDArray[np.bool_]
    numbers: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def subsampled(self, share: float, offset: int = 0) -> Batch:
        """Returns a fraction of the examples, at least one, spread evenly over the batch.

        Args:
            share: Above 0, at most 1.
            offset: Selects the examples; different numbers take different ones, so that none is
                always left out.
        """
        count = max(1, round(share * len(self))) if len(self) else 0
        if count == len(self):
            return self
        return self._at(np.sort((np.arange(count) * len(self) // count + offset) % len(self)))

    def by_length(self, groups: int) -> list[Batch]:
        """Returns the examples in groups of similar length, shortest texts first.

        Args:
            groups: Number of groups; fewer if there are fewer examples, but at least one.
        """
        groups = max(1, min(groups, len(self)))
        if groups == 1:
            return [self]
        lengths = self.attention_mask.sum(axis=1)
        return [self._at(places) for places in length_buckets(lengths, groups)]

    def _at(self, places: npt.NDArray[np.int64]) -> Batch:
        """Returns the examples at some indices, without unnecessary padding."""
        longest = max(1, int(self.attention_mask[places].sum(axis=1).max()))
        return Batch(
            self.input_ids[places, :longest],
            self.attention_mask[places, :longest],
            self.rows[places],
            self.labeled[places],
            self.numbers[places],
        )


class Batches:
    """The batches of a training run.

    Each task is an endless stream: a fresh permutation of its examples in every pass. Every batch
    takes the task's share from its stream, carrying fractions over: over many steps the mix is
    exact.

    Batches with a token budget take as many examples as fit: many short texts, or few long ones.
    The examples of a window are then sorted by length over all tasks, so that a batch may have more
    of one task; the mix is exact over windows.

    Args:
        examples: Task -> examples.
        shares: Task -> its share; shares of tasks without examples go to the others.
        size: Examples per batch; None: as many as `tokens` allow.
        seed: Seed of the permutations.
        tokens: Maximum number of text tokens per batch, including padding; at least that of the
            longest text.

    Attributes:
        tasks: The tasks with a share and examples, in the order of their example numbers.
        shares: Their shares, in that order.
        size: Examples per batch; with `tokens`, about the mean.
    """

    def __init__(
        self,
        examples: Mapping[str, Examples],
        shares: Mapping[str, float],
        size: int | None,
        seed: int,
        *,
        tokens: int | None = None,
    ) -> None:
        if (size is None) == (tokens is None):
            raise ValueError("a batch has either a size or a budget of tokens")
        self.examples = examples
        self.seed = seed
        self.tokens = tokens
        # Additional streams ("pseudo/old") come after the tasks proper, in the given order.
        ordered = [*TASKS, *(task for task in examples if task not in TASKS)]
        self.tasks = [task for task in ordered if task in examples and shares.get(task, 0) > 0]
        self.proportions = [shares[task] for task in self.tasks]
        self.size = self._mean_size() if size is None else size
        present = [task for task in ordered if task in examples]
        before = np.cumsum([0, *(len(examples[task]) for task in present)])
        self._first = dict(zip(present, before.tolist(), strict=False))
        self._window: tuple[int, list[list[tuple[str, npt.NDArray[np.int64]]]]] = (-1, [])
        self._starts = [0]
        """First steps of the windows that have been counted, and of the one after them."""
        self._turns: dict[int, tuple[int, npt.NDArray[np.int64]]] = {}

    @property
    def longest(self) -> int:
        """The number of tokens of the longest text."""
        return max(int(self.examples[task].lengths.max()) for task in self.tasks)

    @property
    def fewest(self) -> int:
        """The minimum number of examples of a batch."""
        if self.tokens is None:
            return self.size
        # The rest at the end of a window is balanced with the previous batch.
        return max(1, (self.tokens // max(self.longest, 1) + 1) // 2)

    def shapes(self) -> list[tuple[int, int]]:
        """Returns number of examples and longest text of typical future batches."""
        if self.tokens is None:
            return [(self.size, self.longest)]
        longest = max(self.longest, 1)
        return [
            (self.tokens // longest, longest),
            *(
                (
                    sum(len(numbers) for _, numbers in members),
                    max(
                        int(self.examples[task].lengths[numbers].max()) for task, numbers in members
                    ),
                )
                for members in self._draw_window(0)
            ),
        ]

    def _mean_size(self) -> int:
        """The number of examples of mean length in a batch of `tokens`."""
        assert self.tokens is not None
        means = [max(float(self.examples[task].lengths.mean()), 1.0) for task in self.tasks]
        return max(1, int(self.tokens / np.average(means, weights=self.proportions)))

    def counts(self, step: int) -> list[int]:
        """Returns the number of examples of each of `tasks` in step `step` (from 0)."""
        if self.tokens is not None:
            members = dict(self.members(step))
            return [len(members.get(task, ())) for task in self.tasks]
        starts, ends = self._examples_before(step), self._examples_before(step + 1)
        return [end - start for start, end in zip(starts, ends, strict=True)]

    def lengths(self, step: int) -> npt.NDArray[np.int64]:
        """Returns the number of tokens of every text of step `step`; int64 [examples]."""
        parts = [self.examples[task].lengths[numbers] for task, numbers in self.members(step)]
        return np.concatenate(parts).astype(np.int64)

    def total(self, steps: int) -> int:
        """Returns the number of examples in the first `steps` steps."""
        if self.tokens is None:
            return steps * self.size
        return sum(sum(self.counts(step)) for step in range(steps))

    def _examples_before(self, step: int) -> list[int]:
        """The number of examples of each of `tasks` in all steps before `step`.

        Each task takes its part of what the tasks before it leave: so the numbers add up, and none
        of them decreases from one step to the next, however small a share is.
        """
        remaining = step * self.size
        counts = []
        for task, share in enumerate(self.proportions):
            last = task == len(self.proportions) - 1
            counts.append(
                remaining if last else int(remaining * (share / sum(self.proportions[task:])))
            )
            remaining -= counts[-1]
        return counts

    def members(self, step: int) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """Returns the example numbers of each task in step `step`; tasks may be missing."""
        window, place = self._place(step)
        if self._window[0] != window:
            self._window = (window, self._draw_window(window))
        return self._window[1][place]

    def _place(self, step: int) -> tuple[int, int]:
        """Returns the window of a step, and the index of its batch for the step."""
        if self.tokens is None:
            return divmod(step, WINDOW)
        while self._starts[-1] <= step:
            # The number of batches of a window is known only after packing it.
            window = len(self._starts) - 1
            self._window = (window, self._draw_window(window))
            self._starts.append(self._starts[-1] + len(self._window[1]))
        window = bisect.bisect_right(self._starts, step) - 1
        return window, step - self._starts[window]

    def _draw_window(self, window: int) -> list[list[tuple[str, npt.NDArray[np.int64]]]]:
        """Draws the examples of a window and assigns them to its steps by similar length."""
        starts, ends = (
            self._examples_before(window * WINDOW),
            self._examples_before((window + 1) * WINDOW),
        )
        numbers_by_task = [
            self._stream(number, start, end - start)
            for number, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]
        rng = np.random.default_rng([self.seed, 5, window])
        if self.tokens is not None:
            return self._packed(numbers_by_task, self.tokens, rng)
        first = window * WINDOW
        order = rng.permutation(WINDOW)
        dealt: list[list[tuple[str, npt.NDArray[np.int64]]]] = [[] for _ in range(WINDOW)]
        for number, (task, numbers) in enumerate(zip(self.tasks, numbers_by_task, strict=True)):
            ordered = numbers[np.argsort(self.examples[task].lengths[numbers], kind="stable")]
            counts = np.array([self.counts(first + place)[number] for place in range(WINDOW)])
            # The shortest examples go to the first step in the shuffled order.
            cuts = np.concatenate([[0], np.cumsum(counts[order])])
            for rank, place in enumerate(order):
                dealt[place].append((task, ordered[cuts[rank] : cuts[rank + 1]]))
        return dealt

    def _packed(
        self, numbers_by_task: list[npt.NDArray[np.int64]], tokens: int, rng: np.random.Generator
    ) -> list[list[tuple[str, npt.NDArray[np.int64]]]]:
        """Packs the examples of a window, of all tasks, into batches within the token budget."""
        numbers = np.concatenate(numbers_by_task)
        owners = np.repeat(np.arange(len(self.tasks)), [len(part) for part in numbers_by_task])
        lengths = np.concatenate(
            [
                self.examples[task].lengths[part]
                for task, part in zip(self.tasks, numbers_by_task, strict=True)
            ]
        )
        batches = batches_within_budget(lengths, tokens)
        return [
            [
                (task, numbers[places[owners[places] == number]])
                for number, task in enumerate(self.tasks)
                if (owners[places] == number).any()
            ]
            for places in (batches[place] for place in rng.permutation(len(batches)))
        ]

    def _stream(self, task: int, start: int, count: int) -> npt.NDArray[np.int64]:
        """Returns examples `start` to `start + count` of a task's endless stream."""
        size = len(self.examples[self.tasks[task]])
        pieces: list[npt.NDArray[np.int64]] = []
        while count > 0:
            pass_number, place = divmod(start, size)
            piece = self._pass_order(task, pass_number)[place : place + count]
            pieces.append(piece)
            start, count = start + len(piece), count - len(piece)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def _pass_order(self, task: int, turn: int) -> npt.NDArray[np.int64]:
        """Returns the order of a task's examples in a pass; caches the last one."""
        name = self.tasks[task]
        if self._turns.get(task, (-1,))[0] != turn:
            rng = np.random.default_rng([self.seed, 6, _number(name), turn])
            self._turns[task] = (turn, rng.permutation(len(self.examples[name])))
        return self._turns[task][1]

    def parts(self, step: int, parts: int, rank: int = 0, world: int = 1) -> list[Batch]:
        """Returns the batches that one process handles in step `step`.

        Args:
            step: From 0.
            parts: Number of batches; each takes every `parts`-th example.
            rank: Index of the process, from 0.
            world: Number of processes that share the step.
        """
        members = [
            (task, number) for task, numbers in self.members(step) for number in numbers.tolist()
        ]
        shards = [members[rank * parts + part :: world * parts] for part in range(parts)]
        return [self._collate(shard) for shard in shards]

    def _collate(self, members: list[tuple[str, int]]) -> Batch:
        lines = [self.examples[task].line(number) for task, number in members]
        longest = max((len(line) for line in lines), default=1)
        input_ids = np.zeros((len(lines), longest), np.int64)
        attention_mask = np.zeros_like(input_ids)
        for place, line in enumerate(lines):
            input_ids[place, : len(line)] = line
            attention_mask[place, : len(line)] = 1
        rows = np.array([self.examples[task].rows[number] for task, number in members], np.int64)
        labeled = np.array([task.startswith("labeled") for task, _ in members], bool)
        numbers = np.array([self._first[task] + number for task, number in members], np.int64)
        return Batch(input_ids, attention_mask, rows, labeled, numbers)


def _number(task: str) -> int:
    """The number of a task for seeds; additional streams derive theirs from it."""
    return TASKS.index(task) if task in TASKS else zlib.crc32(task.encode())

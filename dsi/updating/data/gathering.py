"""Training examples of an update, by task, with old and new documents kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dsi.data.batching import WINDOW, Batches
from dsi.data.examples import Examples, gather_examples

if TYPE_CHECKING:
    from dsi.updating.plan import Plan, Update

OLD, NEW = "old", "new"
"""The two parts of a task's examples: "TASK/old" and "TASK/new"."""


def gather(plan: Plan) -> dict[str, Examples]:
    """Returns the examples of the plan's tasks by "TASK/old" and "TASK/new", without empty ones.

    Raises:
        InputError: There is nothing to train on.
    """
    from dataclasses import replace

    update, tasks = plan.update, plan.tasks()
    mix = replace(
        update.training.mix,
        indexing=tasks.get("indexing", 0.0),
        pseudo=tasks.get("pseudo", 0.0),
        labeled=tasks.get("labeled", 0.0),
        ratio=None,
    )
    gathered = gather_examples(
        update.corpus.dataset,
        update.documents,
        mix,
        generator=update.generator,
        seed=update.options.seed,
    )
    new = update.is_new()
    retired = np.asarray(update.assignment.table.retired)
    parts: dict[str, Examples] = {}
    for task, examples in gathered.items():
        marks = new[examples.rows]
        parts[f"{task}/{NEW}"] = examples.take(np.flatnonzero(marks))
        if plan.old:
            kept = ~marks & ~retired[examples.rows]
            parts[f"{task}/{OLD}"] = examples.take(np.flatnonzero(kept))
    return {name: examples for name, examples in parts.items() if len(examples)}


def corpus_proportions(plan: Plan, examples: Mapping[str, Examples]) -> dict[str, float]:
    """Returns the fraction of a batch for each set of examples.

    Every task keeps its share. Within a task, new documents get `new_fraction`, by default their
    share of all documents; if a task has only old or only new examples, they get the whole share.

    Args:
        plan: The plan.
        examples: The output of `gather`.

    Returns:
        The keys of `examples` -> shares, in any unit.
    """
    update = plan.update
    new = update.options.new_fraction
    if new is None:
        new = len(update.new_rows) / max(len(update.assignment.table.live), 1)
    shares: dict[str, float] = {}
    for task, share in plan.tasks().items():
        sides = {NEW: new, OLD: 1 - new}
        there = {side: part for side, part in sides.items() if f"{task}/{side}" in examples}
        total = sum(there.values())
        for side, part in there.items():
            shares[f"{task}/{side}"] = share * part / total if total else 0.0
    return shares


class ReplayBatches(Batches):
    """Batches of old and new documents whose shares may vary over the steps.

    Args:
        examples: "TASK/old" and "TASK/new" -> examples.
        shares: The same keys -> fraction of a batch.
        size: Examples per batch; None: as many as `tokens` allow.
        seed: Seed of the permutations.
        steps: Total number of steps.
        tokens: Maximum text tokens per batch, instead of `size`.
        factors: Multiplier of the fraction of new documents in each step, in [0, 1]; the rest goes
            to the old documents of the same task, if there are any; float64 [steps], or None for 1.
    """

    def __init__(
        self,
        examples: Mapping[str, Examples],
        shares: Mapping[str, float],
        size: int | None,
        seed: int,
        *,
        steps: int,
        tokens: int | None = None,
        factors: npt.NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(examples, shares, size, seed, tokens=tokens)
        length = -(-steps // WINDOW) * WINDOW
        if factors is None:
            factors = np.ones(steps)
        wanted = np.array(
            [
                self._proportions_at(shares, float(factors[min(step, steps - 1)]))
                for step in range(length)
            ]
        )
        counts = apportion(wanted * self.size / wanted.sum(axis=1, keepdims=True), self.size)
        self._sums = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), counts.cumsum(0)])

    def _proportions_at(self, shares: Mapping[str, float], factor: float) -> list[float]:
        now = dict(zip(self.tasks, self.proportions, strict=True))
        for name in list(now):
            task, side = name.split("/")
            other = f"{task}/{OLD}"
            if side == NEW and other in now:
                moved = now[name] * (1 - factor)
                now[name] -= moved
                now[other] += moved
        return [now[name] for name in self.tasks]

    def _examples_before(self, step: int) -> list[int]:
        # With a token budget, batches may hold more examples than the mean length suggests.
        last = len(self._sums) - 1
        beyond = max(step - last, 0) * (self._sums[last] - self._sums[last - 1])
        return [int(count) for count in self._sums[min(step, last)] + beyond]


def make_batches(plan: Plan, examples: Mapping[str, Examples], update: Update) -> Batches:
    """Returns the batches of an update according to its plan."""
    steps = plan.loop.total
    factors = None
    if plan.schedule is not None:
        factors = np.array([plan.schedule(step, steps) for step in range(steps)])
    shares = corpus_proportions(plan, examples)
    return ReplayBatches(
        examples,
        shares,
        plan.loop.size,
        update.options.seed,
        steps=steps,
        tokens=plan.loop.tokens,
        factors=factors,
    )


def apportion(wanted: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.int64]:
    """Rounds shares of batches to whole examples and carries the rounding error over.

    Args:
        wanted: Exact number of examples per stream; [steps, streams], every row sums to `size`.
        size: Examples per batch.

    Returns:
        int64, same shape; every row sums to `size` and no entry is negative.
    """
    counts = np.zeros(wanted.shape, np.int64)
    owed = np.zeros(wanted.shape[1])
    for step, row in enumerate(wanted):
        owed += row
        whole = np.floor(np.maximum(owed, 0)).astype(np.int64)
        while whole.sum() > size:
            whole[np.argmax(whole)] -= 1
        for stream in np.argsort(-(owed - whole), kind="stable")[: size - int(whole.sum())]:
            whole[stream] += 1
        counts[step] = whole
        owed -= whole
    return counts

"""Shares of old and new documents in the batches of an update."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

OLD, NEW = "old", "new"
"""The two parts of a task's examples: "TASK/old" and "TASK/new"."""


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

"""Balanced assignment: spreads documents evenly over codes, each to one nearby."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_SINKHORN_ROUNDS = 30
_SINKHORN_TEMPERATURE = 0.05


def balanced(
    scores: npt.NDArray[np.float32], group: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Assigns each row to a code so that the rows of a group are spread over all codes.

    Sinkhorn iterations make the soft assignment of each group use all codes equally; each row then
    takes the code with its largest weight. A group with fewer rows than codes cannot use them all:
    no code then gets more than the weight of one row, and a single row takes its nearest code.

    Args:
        scores: Similarity of each row to each code; float32 [rows, codes].
        group: Group of each row; int64 [rows].

    Returns:
        int64 [rows].
    """
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    sizes = np.diff(np.append(starts, len(ordered)))
    few = sizes < scores.shape[1]
    owner = np.repeat(np.arange(len(starts)), sizes)
    logits = scores[order] / _SINKHORN_TEMPERATURE
    shares = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    for _ in range(_SINKHORN_ROUNDS):
        shares /= shares.sum(axis=1, keepdims=True)
        used = np.add.reduceat(shares, starts, axis=0)
        used /= np.maximum(sizes / scores.shape[1], 1)[:, None]
        used[few] = np.maximum(used[few], 1)
        shares /= np.maximum(used, 1e-12)[owner]
    chosen = np.empty(len(scores), np.int64)
    chosen[order] = shares.argmax(axis=1)
    return chosen

"""Measures of continual indexing: retention, learning, and temporary drops.

P[n, o] is the performance on corpus o after the update with corpus n; o <= n. DSI++ (Mehta et al.,
EMNLP 2023) summarizes it as A_n, F_n and LA_n. De Lange et al. (Continual evaluation for lifelong
learning: identifying the stability gap, ICLR 2023) measure performance during an update, between
these points, with min-ACC, WC-ACC and windowed drops.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def average_performance(performance: npt.NDArray[np.float64], n: int) -> float:
    """A_n = 1 / (n + 1) * sum over o <= n of P[n, o].

    Args:
        performance: P; [corpora, corpora]; only entries with o <= n are used.
        n: Index of the last corpus, from 0.
    """
    return float(performance[n, : n + 1].mean())


def forgetting(performance: npt.NDArray[np.float64], n: int) -> float | None:
    """F_n = 1 / n * sum over o < n of the largest P[o', o] - P[n, o] with o <= o' < n.

    Negative if old corpora have improved.

    Returns:
        None for n = 0, because there is nothing to forget.
    """
    if n == 0:
        return None
    lost = [performance[o:n, o].max() - performance[n, o] for o in range(n)]
    return float(np.mean(lost))


def learning_performance(performance: npt.NDArray[np.float64], n: int) -> float | None:
    """LA_n = 1 / n * sum over 1 <= o <= n of P[o, o].

    Returns:
        None for n = 0, because no corpus has been added.
    """
    if n == 0:
        return None
    return float(np.mean([performance[o, o] for o in range(1, n + 1)]))


def min_acc(histories: Sequence[Sequence[float]]) -> float:
    """The mean over old corpora of the lowest value since each was learned.

    Args:
        histories: For each corpus before the current one, every evaluation after the end of its
            own update, up to now.
    """
    return float(np.mean([min(history) for history in histories]))


def worst_case_acc(current: float, histories: Sequence[Sequence[float]]) -> float:
    """WC-ACC: current value of the newest corpus, worst of the old ones; equal weight per corpus.

    1/k * A(E_k, f_t) + (1 - 1/k) * min-ACC, for k corpora so far.

    Args:
        current: Current value of the newest corpus.
        histories: As in `min_acc`; k - 1 of them, none for the first corpus.
    """
    corpora = len(histories) + 1
    if corpora == 1:
        return current
    return current / corpora + (1 - 1 / corpora) * min_acc(histories)


def windowed_drop(values: Sequence[float], window: int) -> float:
    """The largest drop from one evaluation to a later one within any `window` consecutive ones.

    Returns:
        At least 0; 0 for fewer than two evaluations.
    """
    falls = [
        values[earlier] - values[later]
        for later in range(len(values))
        for earlier in range(max(0, later - window + 1), later)
    ]
    return max([0.0, *falls])


def windowed_forgetting(curves: Sequence[Sequence[float]], window: int) -> float:
    """WF: the mean over corpora of their largest windowed drop."""
    return float(np.mean([windowed_drop(curve, window) for curve in curves]))


def windowed_plasticity(curves: Sequence[Sequence[float]], window: int) -> float:
    """WP: the mean over corpora of their largest windowed rise."""
    return float(np.mean([windowed_drop([-value for value in curve], window) for curve in curves]))


def forgetting_events(correct: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Counts how often each document goes from correct to wrong in consecutive evaluations.

    Toneva et al., An empirical study of example forgetting, ICLR 2019.

    Args:
        correct: bool [evaluations, documents].

    Returns:
        int64 [documents].
    """
    return (correct[:-1] & ~correct[1:]).sum(axis=0).astype(np.int64)

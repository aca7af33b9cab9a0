"""Measures of continual indexing: what is kept, what is learned, and what dips in between.

P[n, o] is the performance on corpus o after the update with corpus n; o <= n. DSI++ (Mehta et al.,
EMNLP 2023) sums it up as A_n, F_n and LA_n. What happens during an update, between these points,
is what De Lange et al. (Continual evaluation for lifelong learning: identifying the stability gap,
ICLR 2023) measure by min-ACC, WC-ACC and windowed drops.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def average_performance(performance: npt.NDArray[np.float64], n: int) -> float:
    """A_n = 1 / (n + 1) * sum over o <= n of P[n, o].

    Args:
        performance: P; [corpora, corpora], of which entries with o <= n count.
        n: After which corpus, from 0.
    """
    return float(performance[n, : n + 1].mean())


def forgetting(performance: npt.NDArray[np.float64], n: int) -> float | None:
    """F_n = 1 / n * sum over o < n of the largest P[o', o] - P[n, o] with o <= o' < n.

    Negative where old corpora have gained.

    Returns:
        None for n = 0, where there is nothing to forget.
    """
    if n == 0:
        return None
    lost = [performance[o:n, o].max() - performance[n, o] for o in range(n)]
    return float(np.mean(lost))


def learning_performance(performance: npt.NDArray[np.float64], n: int) -> float | None:
    """LA_n = 1 / n * sum over 1 <= o <= n of P[o, o].

    Returns:
        None for n = 0, where no corpus has been added.
    """
    if n == 0:
        return None
    return float(np.mean([performance[o, o] for o in range(1, n + 1)]))


def min_acc(histories: Sequence[Sequence[float]]) -> float:
    """The mean over old corpora of the lowest value that each has had since it was learned.

    Args:
        histories: For each corpus before the current one, every evaluation after the end of its
            own update, up to now.
    """
    return float(np.mean([min(history) for history in histories]))


def worst_case_acc(current: float, histories: Sequence[Sequence[float]]) -> float:
    """WC-ACC: the current corpus now, and old ones at their worst, each corpus counting alike.

    1/k * A(E_k, f_t) + (1 - 1/k) * min-ACC, with k corpora so far.

    Args:
        current: The newest corpus's value now.
        histories: As in `min_acc`; k - 1 of them, none for the first corpus.
    """
    corpora = len(histories) + 1
    if corpora == 1:
        return current
    return current / corpora + (1 - 1 / corpora) * min_acc(histories)


def windowed_drop(values: Sequence[float], window: int) -> float:
    """The largest fall from one evaluation to a later one among any `window` in a row.

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
    """Counts how often each document goes from right to wrong between evaluations in a row.

    Toneva et al., An empirical study of example forgetting, ICLR 2019.

    Args:
        correct: bool [evaluations, documents].

    Returns:
        int64 [documents].
    """
    return (correct[:-1] & ~correct[1:]).sum(axis=0).astype(np.int64)

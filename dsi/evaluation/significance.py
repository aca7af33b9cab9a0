"""Significance tests of the difference between two systems, paired by query, by scipy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK = 2**20
"""Approximate number of random numbers in memory at once."""


@dataclass(frozen=True)
class Comparison:
    """The difference in one measure between two systems on the same queries.

    Attributes:
        difference: Mean of first minus second.
        low: Lower end of the 95% bootstrap interval of the difference.
        high: Upper end of the interval.
        p_value: Two-sided p-value of the paired randomization test; in (0, 1].
        queries: Number of queries.
    """

    difference: float
    low: float
    high: float
    p_value: float
    queries: int


def compare(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    *,
    seed: int = 0,
    permutations: int = 10_000,
    resamples: int = 2_000,
) -> list[Comparison]:
    """Compares two systems on the same queries, in several measures at once.

    The test is the paired randomization test (Smucker, Allan and Carterette, CIKM 2007, section
    3.1): under the null hypothesis, the sign of each query's difference is random. The p-value is
    the proportion of sign assignments, including the observed one, whose mean difference is at
    least as far from 0. The interval is the percentile bootstrap over queries (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3).

    Args:
        first: Values of the first system; [queries, measures].
        second: Values of the second, in the same order.
        seed: Seed of the random signs and resamples.
        permutations: Number of random sign assignments.
        resamples: Number of bootstrap resamples.

    Returns:
        One comparison per measure.

    Raises:
        ValueError: The shapes differ, or there is no query.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"cannot compare values of shapes {first.shape} and {second.shape}")
    differences = first - second
    queries, measures = differences.shape
    low, high = _interval(differences, np.random.default_rng([seed, 1]), resamples)
    p_values = [
        _p_value(differences[:, column], np.random.default_rng([seed, 0]), permutations)
        for column in range(measures)
    ]
    return [
        Comparison(float(mean), float(lower), float(upper), p_value, queries)
        for mean, lower, upper, p_value in zip(
            differences.mean(axis=0), low, high, p_values, strict=True
        )
    ]


def _p_value(
    differences: npt.NDArray[np.float64], rng: np.random.Generator, permutations: int
) -> float:
    """Returns the p-value of the randomization test; 1 if no query differs."""
    from scipy import stats

    # A difference of 0 has no sign.
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0

    def signed(size: tuple[int, int]) -> npt.NDArray[np.float64]:
        return np.where(rng.integers(0, 2, size, np.int8), differences, -differences)

    def distance(sample: npt.NDArray[np.float64], axis: int) -> npt.NDArray[np.float64]:
        # The order of summation may change the last bits.
        return np.abs(sample.sum(axis=axis)).round(9)

    # permutation_test has the same null distribution, but takes ten times as long to draw from it.
    result = stats.monte_carlo_test(
        differences,
        signed,
        distance,
        vectorized=True,
        n_resamples=permutations,
        batch=max(1, BLOCK // len(differences)),
        alternative="greater",
    )
    return float(result.pvalue)


def _interval(
    differences: npt.NDArray[np.float64], rng: np.random.Generator, resamples: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns both ends of the interval; [measures] each."""
    from scipy import stats

    if len(differences) == 1:
        return differences[0], differences[0]
    result = stats.bootstrap(
        (differences,),
        np.mean,
        vectorized=True,
        axis=0,
        n_resamples=resamples,
        batch=max(1, BLOCK // differences.size),
        method="percentile",
        rng=rng,
    )
    return result.confidence_interval.low, result.confidence_interval.high

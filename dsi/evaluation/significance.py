"""Significance tests of the difference between two systems, paired by query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK = 2**22
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
    the share of random sign assignments, including the observed one, whose mean difference is at
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
    queries = len(differences)
    observed = differences.mean(axis=0)
    flipped = _flipped_means(differences, np.random.default_rng([seed, 0]), permutations)
    # The order of summation may change the last bits.
    extreme = np.abs(flipped) >= np.abs(observed) * (1 - 1e-9) - 1e-12
    p_values = (extreme.sum(axis=0) + 1) / (permutations + 1)
    resampled = _resampled_means(differences, np.random.default_rng([seed, 1]), resamples)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=0)
    return [
        Comparison(float(mean), float(lower), float(upper), float(p), queries)
        for mean, lower, upper, p in zip(observed, low, high, p_values, strict=True)
    ]


def _blocks(count: int, width: int) -> list[int]:
    """Divides `count` draws of `width` numbers each into blocks that fit in memory."""
    size = max(1, BLOCK // max(width, 1))
    return [min(size, count - start) for start in range(0, count, size)]


def _flipped_means(
    differences: npt.NDArray[np.float64], rng: np.random.Generator, count: int
) -> npt.NDArray[np.float64]:
    """Returns means under random signs; [count, measures]."""
    queries = len(differences)
    # A difference of 0 has no sign to flip.
    differences = differences[differences.any(axis=1)]
    means = [
        (1.0 - 2.0 * rng.integers(0, 2, (block, len(differences)), np.int8)) @ differences
        for block in _blocks(count, len(differences))
    ]
    return np.concatenate(means) / queries


def _resampled_means(
    differences: npt.NDArray[np.float64], rng: np.random.Generator, count: int
) -> npt.NDArray[np.float64]:
    """Returns means of queries drawn with replacement; [count, measures]."""
    queries = len(differences)
    means = []
    for block in _blocks(count, queries):
        drawn = rng.integers(0, queries, (block, queries)) + queries * np.arange(block)[:, None]
        times = np.bincount(drawn.ravel(), minlength=block * queries).reshape(block, queries)
        means.append(times @ differences)
    return np.concatenate(means) / queries

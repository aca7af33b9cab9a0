"""Batches texts of similar length: within a token budget, or in a given number of groups."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt


def batches_within_budget(
    lengths: npt.NDArray[np.int64], tokens: int
) -> list[npt.NDArray[np.int64]]:
    """Packs texts into batches of similar length, each within a token budget that includes padding.

    Texts are taken from longest to shortest, so that the first of a batch sets its padded length.
    The last two batches are balanced if the last one would be smaller.

    Args:
        lengths: Number of tokens of each text, counted as at least one; int64 [texts].
        tokens: Maximum of texts x longest text in a batch.

    Returns:
        The indices of the texts of each batch, from shortest to longest, texts of equal length in
        the order of `lengths`; int64.

    Raises:
        ValueError: A single text is longer than the budget.
    """
    order = np.argsort(lengths, kind="stable")
    ends = [len(order)]
    while ends[-1] > 0:
        longest = max(int(lengths[order[ends[-1] - 1]]), 1)
        if longest > tokens:
            raise ValueError(f"a text of {longest} tokens exceeds the budget of {tokens}")
        ends.append(max(0, ends[-1] - tokens // longest))
    cuts = ends[::-1]
    if len(cuts) > 2 and cuts[1] < cuts[2] - cuts[1]:
        cuts[1] = cuts[2] // 2
    return [order[start:end] for start, end in pairwise(cuts)]


def length_buckets(lengths: npt.NDArray[np.int64], groups: int) -> list[npt.NDArray[np.int64]]:
    """Divides texts into groups of similar length with the least total padding.

    Args:
        lengths: Number of tokens of each text, counted as at least one; int64 [texts].
        groups: Number of groups, at most the number of texts.

    Returns:
        The indices of the texts of each group, from the shortest texts to the longest, ascending
        within a group; int64. No group is empty.

    Raises:
        ValueError: There are more groups than texts, or fewer than one.
    """
    if not 1 <= groups <= len(lengths):
        raise ValueError(f"cannot make {groups} groups of {len(lengths)} texts")
    known, counts = np.unique(np.maximum(lengths, 1), return_counts=True)
    _, cuts = _cheapest_groups(known, counts, min(groups, len(known)))
    ends = [len(known)]
    for cut in reversed(cuts):
        ends.append(int(cut[ends[-1]]))
    # Maps lengths to texts; if groups are still missing, the largest ones are halved.
    before = np.concatenate([[0], np.cumsum(counts)])
    bounds = [0, *(int(before[end]) for end in reversed(ends))]
    while len(bounds) <= groups:
        widest = int(np.argmax(np.diff(bounds)))
        bounds.insert(widest + 1, (bounds[widest] + bounds[widest + 1]) // 2)
    order = np.argsort(lengths, kind="stable")
    return [np.sort(order[start:end]) for start, end in pairwise(bounds)]


def fewest_tokens(lengths: npt.NDArray[np.int64], most: int) -> list[int]:
    """Returns the tokens of texts, including padding, in 1, 2, ... groups of similar length.

    Args:
        lengths: As in `grouped`.
        most: Maximum number of groups, at most the number of texts.
    """
    known, counts = np.unique(np.maximum(lengths, 1), return_counts=True)
    least, _ = _cheapest_groups(known, counts, min(most, len(known)))
    return [int(tokens) for tokens in least + [least[-1]] * (most - len(least))]


def _cheapest_groups(
    known: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], groups: int
) -> tuple[list[float], list[npt.NDArray[np.int64]]]:
    """Finds the cheapest groups of neighboring lengths, by dynamic programming.

    Args:
        known: Distinct lengths, ascending.
        counts: Number of texts of each length.
        groups: Maximum number of groups, at most the number of lengths.

    Returns:
        The cost of 1, 2, ... groups; and for 2, 3, ... groups, where the last one starts, for each
        number of leading lengths.
    """
    before = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    places = np.arange(len(known) + 1)
    # Lengths start to end - 1 as one group cost `cost[start, end]`.
    cost = (before[None, :] - before[:, None]) * np.concatenate([[0], known])[None, :]
    cost[places[:, None] >= places[None, :]] = np.inf
    through = cost[0]
    least, cuts = [float(through[-1])], []
    for _ in range(groups - 1):
        steps = through[:, None] + cost
        cuts.append(steps.argmin(axis=0))
        through = steps.min(axis=0)
        least.append(float(through[-1]))
    return least, cuts

"""Texts of like lengths together: within a budget of tokens, or in so many groups."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt


def packed(lengths: npt.NDArray[np.int64], tokens: int) -> list[npt.NDArray[np.int64]]:
    """Packs texts into batches of like lengths, each within a budget that counts padding in.

    Texts are taken from the longest to the shortest, so that the first of a batch says what each
    of them takes. The last batch shares with the one before it, where it would be smaller.

    Args:
        lengths: Tokens of each text, one at least being reckoned with; int64 [texts].
        tokens: Most texts x longest text of a batch.

    Returns:
        The places of the texts of each batch, from the shortest texts to the longest, each batch
        as they come in `lengths` among equals; int64.

    Raises:
        ValueError: A text alone is longer than the budget.
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


def grouped(lengths: npt.NDArray[np.int64], groups: int) -> list[npt.NDArray[np.int64]]:
    """Divides texts into groups of like lengths, so that least padding is counted in all.

    Args:
        lengths: Tokens of each text, one at least being reckoned with; int64 [texts].
        groups: How many groups, at most as many as texts.

    Returns:
        The places of the texts of each group, from the shortest texts to the longest, each group
        in ascending order of place; int64. None is empty.

    Raises:
        ValueError: There are more groups than texts, or less than one.
    """
    if not 1 <= groups <= len(lengths):
        raise ValueError(f"cannot make {groups} groups of {len(lengths)} texts")
    order = np.argsort(lengths, kind="stable")
    longest = np.maximum(lengths[order], 1).astype(np.float64)
    # Texts start to end - 1 as one group take `cost[start, end]`.
    ends = np.arange(len(order) + 1)
    cost = (ends[None, :] - ends[:, None]) * np.concatenate([[0.0], longest])[None, :]
    cost[ends[:, None] >= ends[None, :]] = np.inf
    least, cuts = cost[0], []
    for _ in range(groups - 1):
        through = least[:, None] + cost
        cuts.append(through.argmin(axis=0))
        least = through.min(axis=0)
    bounds = [len(order)]
    for cut in reversed(cuts):
        bounds.append(int(cut[bounds[-1]]))
    bounds.append(0)
    return [np.sort(order[start:end]) for start, end in pairwise(bounds[::-1])]

"""Packing of texts under a token budget, against its specification in plain Python."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsi.kernels.length_buckets import batches_within_budget, length_buckets


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(12, 80))
def test_every_text_once_within_the_budget_and_as_few_batches_as_can_be(lengths, tokens):
    batches = batches_within_budget(np.array(lengths, np.int64), tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    costs = [[max(lengths[place], 1) for place in batch.tolist()] for batch in batches]
    assert all(len(cost) * max(cost) <= tokens for cost in costs)
    assert all(max(low) <= min(high) for low, high in pairwise(costs))
    assert len(batches) == fewest(
        sorted((max(length, 1) for length in lengths), reverse=True), tokens
    )
    least = (tokens // max(max(cost) for cost in costs) + 1) // 2
    assert len(batches) == 1 or min(map(len, batches)) >= least


def fewest(falling: list[int], tokens: int) -> int:
    """The least number of runs of falling lengths, each first x count <= tokens."""
    best = [0]
    for end in range(1, len(falling) + 1):
        starts = [start for start in range(end) if falling[start] * (end - start) <= tokens]
        best.append(1 + min(best[start] for start in starts))
    return best[-1]


def test_by_hand():
    lengths = np.array([3, 1, 4, 1, 5, 1, 1])
    # 2 x 5, then 10 // 3 = 3 texts starting at length 3, which leaves two.
    assert [batch.tolist() for batch in batches_within_budget(lengths, 10)] == [
        [1, 3],
        [5, 6, 0],
        [2, 4],
    ]
    # 3 x 3 and 4 x 2, which leaves length 1: the five shorter texts are distributed evenly.
    assert [
        batch.tolist() for batch in batches_within_budget(np.array([3, 2, 2, 2, 3, 3, 2, 1]), 9)
    ] == [
        [7, 1],
        [2, 3, 6],
        [0, 4, 5],
    ]


def test_a_text_longer_than_the_budget_is_an_error():
    with pytest.raises(ValueError, match="a text of 5 tokens exceeds the budget of 4"):
        batches_within_budget(np.array([1, 5]), 4)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=9), st.integers(1, 4))
def test_groups_hold_every_text_once_with_as_little_padding_as_can_be(lengths, groups):
    groups = min(groups, len(lengths))
    found = length_buckets(np.array(lengths, np.int64), groups)
    assert len(found) == groups
    assert all(len(places) and (np.diff(places) > 0).all() for places in found)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    taken = [[max(lengths[place], 1) for place in places.tolist()] for places in found]
    assert all(max(low) <= min(high) for low, high in pairwise(taken))
    rising = sorted(max(length, 1) for length in lengths)
    least = min(
        sum((end - start) * rising[end - 1] for start, end in pairwise([0, *cuts, len(rising)]))
        for cuts in combinations(range(1, len(rising)), groups - 1)
    )
    assert sum(len(cost) * max(cost) for cost in taken) == least


@pytest.mark.parametrize("groups", [0, 4])
def test_no_group_can_be_empty(groups):
    with pytest.raises(ValueError, match="groups of 3 texts"):
        length_buckets(np.array([3, 1, 2]), groups)

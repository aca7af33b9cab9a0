"""Batches of an update under a token budget."""

from __future__ import annotations

import numpy as np
import pytest

from dsi.data.batching import WINDOW
from dsi.data.examples import Examples
from dsi.updating.data.gathering import ReplayBatches


@pytest.mark.parametrize("length", [1, 7])
def test_a_budget_of_tokens_keeps_to_the_shares_of_old_and_new(length):
    """With texts of one length a budget is a size, and never runs out of windows."""
    texts = Examples.pack([[5] * length] * 30, list(range(30)))
    made = {"pseudo/new": texts, "pseudo/old": texts}
    shares = {"pseudo/new": 0.25, "pseudo/old": 0.75}
    batches = ReplayBatches(
        made, shares, None, 0, steps=10, tokens=8 * length, factors=np.full(10, 0.5)
    )
    assert batches.size == 8
    counts = np.array([batches.counts(step) for step in range(5 * WINDOW)])
    assert (counts.sum(axis=1) == 8).all()
    new = batches.tasks.index("pseudo/new")
    assert counts[:, new].sum() == 5 * WINDOW * 8 // 8  # half of a quarter

"""Documents in several views at once: sampling of batches, and the agreement term."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsi.data.examples import Examples
from dsi.updating.data.view_batches import ViewBatches
from dsi.updating.strategies.view_batch import first_of, self_distillation

OLD, NEW = range(6), range(6, 9)


def examples_of(rows, each):
    owners = [row for row in rows for _ in range(each)]
    return Examples.pack([[2 + row, 3] for row in owners], owners)


def batches(size=12, views=3, factors=None, steps=40, seed=0):
    examples = {
        "indexing/old": examples_of(OLD, 1),
        "indexing/new": examples_of(NEW, 1),
        "pseudo/old": examples_of(OLD, 5),
        "pseudo/new": examples_of(NEW, 5),
    }
    shares = {"indexing/old": 0.4, "indexing/new": 0.1, "pseudo/old": 0.4, "pseudo/new": 0.1}
    return ViewBatches(examples, shares, size, seed, views=views, steps=steps, factors=factors)


def rows_of(drawn, group):
    return [int(drawn.examples[task].rows[number]) for task, number in group]


def test_a_batch_has_documents_in_views_side_by_side():
    drawn = batches()
    for step in range(20):
        groups = drawn.groups(step)
        assert [len(group) for group in groups] == [3] * 4
        assert all(len(set(rows_of(drawn, group))) == 1 for group in groups)
        batch = drawn.parts(step, 1)[0]
        assert batch.rows.reshape(4, 3).tolist() == [rows_of(drawn, group) for group in groups]


def test_the_first_view_is_a_query_and_views_differ():
    drawn = batches()
    for step in range(20):
        for group in drawn.groups(step):
            assert group[0][0].startswith("pseudo/")
            assert len(set(group)) == 3


def test_a_document_with_one_example_is_seen_in_it_alone():
    examples = {"indexing/new": examples_of(NEW, 1)}
    drawn = ViewBatches(examples, {"indexing/new": 1.0}, 4, 0, views=2, steps=3)
    assert all(group[0] == group[1] for group in drawn.groups(0))


def test_every_document_has_its_turn_before_one_comes_again():
    drawn = batches()
    for documents in (OLD, NEW):
        seen = [
            row
            for step in range(40)
            for group in drawn.groups(step)
            if (row := rows_of(drawn, group)[0]) in documents
        ]
        whole = len(seen) // len(documents)
        for turn in range(whole):
            part = seen[turn * len(documents) : (turn + 1) * len(documents)]
            assert sorted(part) == list(documents)


def test_sides_and_tasks_have_their_shares():
    drawn = batches(steps=400)
    sides, tasks = Counter(), Counter()
    for step in range(400):
        for group in drawn.groups(step):
            sides[group[0][0].rpartition("/")[2]] += 1
            tasks.update(task.partition("/")[0] for task, _ in group[1:])
    assert sides["new"] / sides.total() == pytest.approx(0.2, abs=0.01)
    # Half of the later views would be texts if a document had more than one distinct text.
    assert 0.3 < tasks["indexing"] / tasks.total() < 0.5


def test_the_share_of_new_documents_may_rise():
    drawn = batches(factors=np.linspace(0, 1, 40))
    new = [sum(group[0][0].endswith("/new") for group in drawn.groups(step)) for step in range(40)]
    assert sum(new[:10]) < sum(new[-10:])
    assert sum(new) == pytest.approx(0.5 * 0.2 * 4 * 40, abs=1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 30), st.integers(1, 3), st.integers(1, 2))
def test_parts_share_a_step_out_and_keep_views_together(step, parts, world):
    drawn = batches()
    whole = drawn.parts(step, 1)[0]
    pieces = [piece for rank in range(world) for piece in drawn.parts(step, parts, rank, world)]
    assert sorted(np.concatenate([piece.numbers for piece in pieces])) == sorted(whole.numbers)
    for piece in pieces:
        assert all(len(set(views)) == 1 for views in piece.rows.reshape(-1, 3).tolist())


def test_a_step_depends_on_the_seed_and_its_number_only():
    one, two = batches(), batches()
    two.parts(7, 1)
    assert one.parts(3, 1)[0].numbers.tolist() == two.parts(3, 1)[0].numbers.tolist()
    other = batches(seed=1)
    assert any(one.groups(step) != other.groups(step) for step in range(5))
    assert sum(one.counts(3)) == 12


def test_the_first_of_each_document():
    assert first_of(torch.tensor([5, 5, 2, 5, 2])).tolist() == [0, 0, 2, 0, 2]


def test_the_divergence_between_views_by_hand():
    chances = torch.tensor([[[0.5, 0.5]], [[0.75, 0.25]], [[0.2, 0.8]], [[0.2, 0.8]]])
    logits = chances.log().requires_grad_(True)
    codes = torch.zeros(4, 1, dtype=torch.int64)
    found = self_distillation(logits, codes, torch.tensor([7, 7, 9, 9]))
    # KL(1/2, 1/2 || 3/4, 1/4); the second document's views agree.
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    found.backward()
    assert logits.grad[0].abs().sum() < 1e-6, "the first view teaches and does not learn"
    assert logits.grad[1].abs().sum() > 0.1


def test_the_divergence_is_a_mean_over_codes():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=generator)
    codes = torch.tensor([[1, 2, -100], [1, 2, -100]])
    p, q = logits.softmax(-1).tolist()
    each = [
        sum(a * math.log(a / b) for a, b in zip(p[place], q[place], strict=True))
        for place in range(2)
    ]
    found = self_distillation(logits, codes, torch.tensor([4, 4]))
    assert found.item() == pytest.approx(sum(each) / 2, rel=1e-5)

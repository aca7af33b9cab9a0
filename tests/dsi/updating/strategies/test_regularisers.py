"""Every regularizer matches its formula: computed by hand, or against plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import dsi.updating.strategies  # noqa: F401  (imports the module below, which imports its base)
from dsi.updating.regularization import per_sample_gradients as module
from dsi.updating.strategies.batch_softmax import batch_softmax
from dsi.updating.strategies.distill import (
    kl_to_before,
    proxy_distillation,
    sample_distillation,
)
from dsi.updating.strategies.ewc import ElasticPenalty, diagonal_fisher
from dsi.updating.strategies.frozen_rows import freeze_rows
from dsi.updating.strategies.rank1_ewc import RankOnePenalty, rank_one
from dsi.updating.strategies.threshold_margin import threshold_margin
from dsi.updating.strategies.warm_up import WarmUp

GRADIENTS = [
    {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.0])},
    {"a": torch.tensor([-1.0, 4.0]), "b": torch.tensor([3.0])},
]


class Two(torch.nn.Module):
    """A model of two weights."""

    def __init__(self, a, b):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(a))
        self.b = torch.nn.Parameter(torch.tensor(b))


def test_the_fisher_information_is_of_each_example_and_not_of_their_sum():
    fisher = diagonal_fisher(GRADIENTS)
    assert fisher["a"].tolist() == [1.0, 10.0]  # (1 + 1) / 2 and (4 + 16) / 2
    assert fisher["b"].tolist() == [4.5]
    assert GRADIENTS[0]["a"].tolist() == [1.0, 2.0], "what was given is left alone"


def test_the_elastic_penalty_by_hand():
    anchor = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([0.0])}
    penalty = ElasticPenalty(7.0, diagonal_fisher(GRADIENTS), anchor)
    model = Two([3.0, 1.5], [2.0])
    value = penalty.of_weights(model)
    # (1 * 4 + 10 * 0.25 + 4.5 * 4) / 2; the loop multiplies by the weight
    assert value.item() == pytest.approx(12.25)
    value.backward()
    assert model.a.grad.tolist() == [2.0, 5.0]  # F * (theta - theta*)
    assert penalty.of_weights(Two([1.0, 1.0], [0.0])).item() == 0


def test_one_direction_stands_for_the_fisher_information():
    direction, scale = rank_one(lambda: iter(GRADIENTS))
    assert direction["a"].tolist() == [0.0, 3.0]
    assert direction["b"].tolist() == [1.5]
    # <g, mu> is 6 and 16.5; ||mu||^2 is 11.25
    assert scale == pytest.approx((36 + 272.25) / 2 / 11.25**2)


def test_the_multiple_is_the_best_one():
    mean, scale = rank_one(lambda: iter(GRADIENTS))
    mu = torch.cat([mean["a"], mean["b"]])
    rows = torch.stack([torch.cat([each["a"], each["b"]]) for each in GRADIENTS])
    fisher = rows.T @ rows / len(rows)

    def distance(c):
        return float((fisher - c * torch.outer(mu, mu)).square().sum())

    assert distance(scale) < min(distance(scale * 1.01), distance(scale * 0.99))


def test_the_rank_one_penalty_by_hand():
    anchor = {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([0.0])}
    direction = {"a": torch.tensor([0.0, 3.0]), "b": torch.tensor([1.5])}
    penalty = RankOnePenalty(1.0, direction, 2.0, anchor)
    # c / 2 * (3 * 0.5 + 1.5 * 2)^2
    assert penalty.of_weights(Two([9.0, 1.5], [2.0])).item() == pytest.approx(20.25)
    assert penalty.of_weights(Two([9.0, 1.0], [0.0])).item() == 0, "other directions are free"


def test_gradients_that_cancel_hold_nothing():
    cancelling = [{"a": torch.tensor([1.0])}, {"a": torch.tensor([-1.0])}]
    assert rank_one(lambda: iter(cancelling))[1] == 0


def margin_by_hand(states, before, high, low):
    total, count = 0.0, 0
    for row, old in zip(states, before, strict=True):
        for h, star, pos, neg in zip(row, old, high, low, strict=True):
            if star >= pos:
                loss = max(pos - h, 0)
            elif star <= neg:
                loss = max(h - neg, 0)
            else:
                loss = max(h - pos, 0) + max(neg - h, 0)
            total += loss
            count += loss != 0
    return total / (count + 1e-8)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_the_threshold_margin_equals_plain_python(seed):
    rng = np.random.default_rng(seed)
    states, before = rng.normal(size=(2, 5, 3))
    high, low = before.mean(0) + before.std(0), before.mean(0) - before.std(0)
    found = threshold_margin(*(torch.tensor(each) for each in (states, before, high, low)))
    assert found.item() == pytest.approx(margin_by_hand(states, before, high, low), rel=1e-6)


def test_states_on_their_side_cost_nothing():
    before = torch.tensor([[2.0, -2.0, 0.0]])
    high, low = torch.ones(3), -torch.ones(3)
    assert threshold_margin(torch.tensor([[1.5, -9.0, 0.9]]), before, high, low).item() == 0
    # 1 - 0.5 too low and -0.5 + 1 too high: 1 in all, over the two that count
    moved = torch.tensor([[0.5, -0.5, 0.0]])
    assert threshold_margin(moved, before, high, low).item() == pytest.approx(0.5)


def test_batch_softmax_by_hand_counts_repeated_labels():
    states = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0]]])
    rows = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 1.0]])  # row 0 is not in the batch
    codes = torch.tensor([[1], [2], [1]])
    tau = 0.5
    first = -math.log(math.exp(2) / (2 * math.exp(2) + 1))
    second = -math.log(math.exp(2) / (math.exp(2) + 2))
    found = batch_softmax(states, codes, rows, tau)
    assert found.item() == pytest.approx(2 * first + second, abs=1e-6)


def test_batch_softmax_does_not_touch_documents_outside_the_batch():
    rows = torch.randn(5, 4, requires_grad=True)
    states = torch.nn.functional.normalize(torch.randn(2, 2, 4), dim=-1)
    batch_softmax(states, torch.tensor([[1, 2], [3, -100]]), rows, 0.1).backward()
    assert rows.grad[[0, 4]].abs().sum() == 0
    assert rows.grad[[1, 3]].abs().sum() > 0


def test_the_divergence_from_before_by_hand():
    before = torch.log(torch.tensor([[[0.75, 0.25, 0.0001]]]))
    now = torch.log(torch.tensor([[[0.5, 0.5, 7.0]]]))
    found = kl_to_before(before, now, torch.tensor([[True]]), known=2)
    assert found.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-6)
    assert kl_to_before(before, before, torch.tensor([[True]]), known=2).item() == 0


def test_the_divergence_is_a_mean_over_codes_and_a_sum_over_examples():
    generator = torch.Generator().manual_seed(0)
    before, now = torch.randn(2, 2, 3, 4, generator=generator)
    there = torch.tensor([[True, True, False], [True, True, True]])
    teacher, student = before.log_softmax(-1), now.log_softmax(-1)
    each = (teacher.exp() * (teacher - student)).sum(-1)
    expected = each[0, :2].mean() + each[1].mean()
    assert kl_to_before(before, now, there, known=4).item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_proxy_distillation_by_hand():
    before = torch.tensor([[1.0, 2.0, 50.0], [0.0, 0.0, 50.0]])
    now = torch.tensor([[2.0, 4.0, 0.0], [0.0, 3.0, 0.0]])
    # columns 0 and 1 only: (1 + 4) / 2 + (0 + 9) / 2
    assert proxy_distillation(before, now, torch.tensor([0, 1])).item() == pytest.approx(7.0)


def test_sample_distillation_is_least_where_nothing_has_changed():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(5, 4, generator=generator)
    same = sample_distillation(states, 3 * states, 0.5)
    turned = sample_distillation(states, torch.randn(5, 4, generator=generator), 0.5)
    unit = torch.nn.functional.normalize(states, dim=-1)
    entropy = 0.0
    for i in range(5):
        cosines = [float(unit[i] @ unit[j]) / 0.5 for j in range(5) if j != i]
        total = sum(map(math.exp, cosines))
        entropy -= sum(math.exp(c) / total * math.log(math.exp(c) / total) for c in cosines)
    assert same.item() == pytest.approx(entropy, rel=1e-5)
    assert turned > same


def test_frozen_rows_get_no_gradient():
    weight = torch.nn.Parameter(torch.ones(4, 2))
    freeze_rows(weight, 3)
    (weight * 5).sum().backward()
    assert weight.grad.tolist() == [[0, 0], [0, 0], [0, 0], [5, 5]]


def test_the_share_of_new_documents_rises_from_almost_nothing():
    from types import SimpleNamespace

    from dsi.updating.options import UpdateOptions, WarmUpOptions

    options = UpdateOptions(strategy="generative+warm-up", warm_up=WarmUpOptions(part=0.5))
    plan = SimpleNamespace(update=SimpleNamespace(options=options), schedule=None)
    WarmUp().shape(plan)
    assert [plan.schedule(step, 8) for step in range(8)] == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


class Scored(nn.Module):
    """log p = weight * example; an unused weight besides."""

    def __init__(self):
        super().__init__()
        self.used = nn.Parameter(torch.tensor(2.0))
        self.unused = nn.Parameter(torch.ones(3))


@pytest.fixture
def model(monkeypatch):
    def log_probability(model, batch, targets):
        assert not model.training
        return model.used * batch[0]

    monkeypatch.setattr(module, "log_probability", log_probability)
    return Scored().train()


def test_each_example_has_its_own_gradient_and_the_mode_comes_back(model):
    weights = dict(model.named_parameters())
    found = list(module.per_sample_gradients(model, weights, [[3.0], [5.0]], None))
    assert [float(each["used"]) for each in found] == [3, 5]
    assert all(each["unused"].tolist() == [0, 0, 0] for each in found)
    assert model.training


def test_the_mode_comes_back_after_an_error(model):
    with pytest.raises(ValueError, match="a batch of 2 examples"):
        list(module.per_sample_gradients(model, dict(model.named_parameters()), [[1, 2]], None))
    assert model.training

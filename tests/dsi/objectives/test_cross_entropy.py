"""The loss over the docid alphabet, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dsi.objectives.base import IGNORED
from dsi.objectives.cross_entropy import docid_cross_entropy


def by_hand(logits, targets, smoothing=0.0, competitors=None) -> float:
    """The definition: one loop over examples and positions."""
    total = 0.0
    for example, line in enumerate(targets):
        for position, target in enumerate(line):
            if target == IGNORED:
                continue
            among = range(len(logits[example][position]))
            if competitors is not None:
                among = [code for code in among if competitors[example][position][code]]
            values = {code: logits[example][position][code] for code in among}
            normalizer = math.log(sum(math.exp(value) for value in values.values()))
            logs = {code: value - normalizer for code, value in values.items()}
            total -= (1 - smoothing) * logs[target]
            total -= smoothing * sum(logs.values()) / len(logs)
    return total


LOGITS = [[[0.0, math.log(2), math.log(5)], [0.0, 0.0, 0.0]]]


def test_two_positions_computed_by_hand():
    # 2 / 8 of the first position's probability, 1 / 3 of the second's.
    loss = docid_cross_entropy(torch.tensor(LOGITS), torch.tensor([[1, 0]]))
    assert loss.item() == pytest.approx(math.log(4) + math.log(3))


def test_positions_past_the_end_do_not_count():
    loss = docid_cross_entropy(torch.tensor(LOGITS), torch.tensor([[1, IGNORED]]))
    assert loss.item() == pytest.approx(math.log(4))
    nothing = docid_cross_entropy(torch.tensor(LOGITS), torch.full((1, 2), IGNORED))
    assert nothing.item() == 0.0


def test_smoothing_spreads_a_share_of_the_target():
    loss = docid_cross_entropy(torch.tensor(LOGITS), torch.tensor([[1, 0]]), label_smoothing=0.3)
    first = 0.7 * math.log(4) + 0.1 * (math.log(8) + math.log(4) + math.log(8 / 5))
    assert loss.item() == pytest.approx(first + math.log(3))


def test_competitors_alone_share_the_probability():
    among = torch.tensor([[[True, True, False], [True, False, False]]])
    loss = docid_cross_entropy(torch.tensor(LOGITS), torch.tensor([[1, 0]]), competitors=among)
    assert loss.item() == pytest.approx(math.log(3 / 2))


def test_smoothing_spreads_over_the_competitors_only():
    among = torch.tensor([[[True, True, False], [True, True, True]]])
    loss = docid_cross_entropy(
        torch.tensor(LOGITS),
        torch.tensor([[1, IGNORED]]),
        competitors=among,
        label_smoothing=0.5,
    )
    expected = 0.5 * math.log(3 / 2) + 0.25 * (math.log(3) + math.log(3 / 2))
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_the_definition_on_random_values(smoothing, masked):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3, 7))
    targets = rng.integers(0, 7, (4, 3))
    targets[0, 2] = targets[3, 1] = IGNORED
    among = rng.random((4, 3, 7)) < 0.5
    np.put_along_axis(among, targets.clip(0)[..., None], True, axis=2)
    loss = docid_cross_entropy(
        torch.tensor(logits),
        torch.tensor(targets),
        label_smoothing=smoothing,
        competitors=torch.tensor(among) if masked else None,
    )
    expected = by_hand(logits, targets.tolist(), smoothing, among if masked else None)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_every_knob_moves_the_loss():
    logits, targets = torch.tensor(LOGITS), torch.tensor([[1, 0]])
    among = torch.tensor([[[True, True, False], [True, True, True]]])
    losses = {
        round(
            docid_cross_entropy(logits, targets, label_smoothing=share, competitors=some).item(), 6
        )
        for share in (0.0, 0.1, 0.2)
        for some in (None, among)
    }
    assert len(losses) == 6


def test_codes_out_of_competition_get_no_gradient():
    for smoothing in (0.0, 0.2):
        logits = torch.zeros((1, 1, 4), requires_grad=True)
        among = torch.tensor([True, True, False, True])
        docid_cross_entropy(
            logits, torch.tensor([[0]]), competitors=among, label_smoothing=smoothing
        ).backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
        assert logits.grad[0, 0, 2] == 0
        assert (logits.grad[0, 0, [0, 1, 3]] != 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("among", [None, torch.ones(5, dtype=torch.bool)])
def test_no_example_costs_nothing(smoothing, among):
    logits = torch.zeros((0, 2, 5), requires_grad=True)
    targets = torch.zeros((0, 2), dtype=torch.int64)
    loss = docid_cross_entropy(logits, targets, label_smoothing=smoothing, competitors=among)
    assert loss.item() == 0.0
    loss.backward()


def test_half_precision_logits_are_summed_in_full_precision():
    logits = torch.zeros((1, 1, 3000), dtype=torch.bfloat16)
    loss = docid_cross_entropy(logits, torch.tensor([[5]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(3000), rel=1e-6)

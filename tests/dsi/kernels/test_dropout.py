"""Dropout with cheaper random bits: rate, scale, gradient, seed, and complete removal."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dsi.kernels.dropout import fast_dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_share_of_elements_is_dropped_and_the_others_are_scaled_up(p, dtype):
    layer, states = nn.Dropout(p), torch.ones(300, 101, dtype=dtype)
    torch.manual_seed(0)
    with fast_dropout(layer):
        found = layer(states)
    assert found.dtype == dtype
    # Four standard deviations of the mean.
    far = 4 * (p * (1 - p) / states.numel()) ** 0.5
    assert (found == 0).float().mean().item() == pytest.approx(p, abs=far)
    torch.testing.assert_close(
        found[found != 0].float().mean().item(), 1 / (1 - p), rtol=1e-2, atol=0
    )
    rows = (found == 0).float().mean(1)
    assert rows.std() > 0
    assert rows.mean().item() == pytest.approx(p, abs=far)


def test_the_gradient_passes_where_the_state_did():
    layer, states = nn.Dropout(0.3), torch.randn(7, 9, requires_grad=True)
    with fast_dropout(layer):
        found = layer(states)
    [grad] = torch.autograd.grad(found.sum(), states)
    torch.testing.assert_close(grad, torch.where(found == 0, 0.0, 1 / 0.7), rtol=1e-4, atol=0)
    torch.testing.assert_close(found, states * grad)


def test_the_seed_fixes_what_is_dropped_and_the_next_call_drops_other_elements():
    layer, states = nn.Dropout(0.5), torch.ones(64)
    with fast_dropout(layer):
        torch.manual_seed(3)
        first, second = layer(states), layer(states)
        torch.manual_seed(3)
        assert torch.equal(layer(states), first)
        assert not torch.equal(first, second)


def test_what_is_computed_again_drops_the_same():
    layer, states = nn.Dropout(0.5), torch.randn(64, requires_grad=True)
    with fast_dropout(layer):
        found = checkpoint(layer, states, use_reentrant=False)
        [grad] = torch.autograd.grad(found.sum(), states)
    torch.testing.assert_close(found, states * grad)


@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0])
def test_the_ends_of_the_scale_are_pytorchs(p):
    layer, states = nn.Dropout(p), torch.ones(8)
    with fast_dropout(layer):
        assert torch.equal(layer(states), states * (p < 1))


def test_nothing_is_dropped_in_evaluation_and_no_trace_is_left():
    layer, states = nn.Dropout(0.5).eval(), torch.ones(64)
    with fast_dropout(layer):
        assert torch.equal(layer(states), states)
        assert "forward" in vars(layer)
    assert "forward" not in vars(layer)

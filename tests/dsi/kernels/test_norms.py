"""Normalization layers with an explicit backward pass: the values and gradients of T5's own."""

import pytest
import torch
from torch import nn
from transformers.models.mt5.modeling_mt5 import MT5LayerNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from dsi.kernels.norms import fast_norms


def norm(kind=T5LayerNorm, width=6):
    torch.manual_seed(0)
    layer = kind(width, eps=1e-3)
    nn.init.normal_(layer.weight)
    return layer


@pytest.mark.parametrize("kind", [T5LayerNorm, MT5LayerNorm])
@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 5, 6)])
def test_values_and_gradients_are_those_of_the_layer(kind, shape):
    layer, states = norm(kind), torch.randn(shape, requires_grad=True)
    grads = torch.randn(shape)
    wanted = [states, layer.weight]
    expected = layer(states)
    by_layer = torch.autograd.grad(expected, wanted, grads)
    with fast_norms(nn.Sequential(layer)):
        found = layer(states)
        ours = torch.autograd.grad(found, wanted, grads)
    torch.testing.assert_close(found, expected)
    for grad, other in zip(ours, by_layer, strict=True):
        torch.testing.assert_close(grad, other)


def test_the_gradient_is_that_of_finite_differences():
    layer, states = norm().double(), torch.randn(3, 6, dtype=torch.float64, requires_grad=True)

    with fast_norms(layer):
        assert torch.autograd.gradcheck(layer, states)
        [grad] = torch.autograd.grad(layer(states).sum(), layer.weight)
    torch.testing.assert_close(grad, (layer(states) / layer.weight).sum(0))


def test_a_frozen_weight_gets_no_gradient():
    layer = norm()
    layer.weight.requires_grad_(False)
    states = torch.randn(3, 6, requires_grad=True)
    with fast_norms(layer):
        layer(states).sum().backward()
    assert layer.weight.grad is None
    assert states.grad is not None


def test_under_autocast_the_next_product_reads_what_it_would_have_cast():
    layer, states = norm(), torch.randn(4, 6, requires_grad=True)
    with fast_norms(layer), torch.autocast("cpu", torch.bfloat16):
        found = layer(states)
        found.float().sum().backward()
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, layer(states).bfloat16())
    assert states.grad.dtype == layer.weight.grad.dtype == torch.float32
    grad = torch.autograd.grad(layer(states).sum(), states)[0]
    torch.testing.assert_close(states.grad, grad)


def test_other_dtypes_and_layers_are_left_alone_and_no_trace_is_left():
    layer, other = norm(), nn.LayerNorm(6)
    half = torch.randn(3, 6).bfloat16()
    expected = layer(half)
    with fast_norms(nn.Sequential(layer, other)):
        assert "forward" in vars(layer)
        assert "forward" not in vars(other)
        found = layer(half)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert "forward" not in vars(layer)

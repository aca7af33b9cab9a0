"""Training with oneDNN matrix products: the gradients of the original layers, and clean removal."""

import pytest
import torch
from torch import nn

from dsi.kernels import matmul as products
from dsi.kernels.linear import fast_linear

pytestmark = pytest.mark.skipif(
    not products.has_onednn_kernel(torch.zeros(1, 1)), reason="no oneDNN for this processor"
)


def network(bias):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5, bias=bias), nn.ReLU(), nn.Linear(5, 4, bias=bias))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (6, 3), (2, 5, 3)])
def test_values_and_gradients_are_those_of_the_layers(bias, shape):
    model = network(bias)
    states = torch.randn(shape, requires_grad=True)
    wanted = [states, *model.parameters()]
    expected = torch.autograd.grad((model(states) ** 2).sum(), wanted)
    with fast_linear(model):
        found = model(states)
        grads = torch.autograd.grad((found**2).sum(), wanted)
    torch.testing.assert_close(found, model(states))
    for grad, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, other)


def test_frozen_weights_get_no_gradient():
    model = network(True)
    model[0].requires_grad_(False)
    with fast_linear(model):
        model(torch.randn(2, 3)).sum().backward()
    assert model[0].weight.grad is None
    assert model[2].weight.grad is not None


def test_layers_are_as_they_were_afterwards_whatever_happened():
    model = network(True)
    names = [set(vars(layer)) for layer in model]

    def stopped():
        with fast_linear(model):
            assert [set(vars(layer)) for layer in model] != names
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert [set(vars(layer)) for layer in model] == names
    assert all(type(layer) is nn.Linear for layer in (model[0], model[2]))


def test_other_dtypes_are_left_to_pytorch():
    model = network(True)
    with fast_linear(model), torch.autocast("cpu", torch.bfloat16):
        assert model(torch.randn(2, 3)).dtype == torch.bfloat16

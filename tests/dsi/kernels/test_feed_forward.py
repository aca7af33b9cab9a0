"""T5 feed-forward layers with fewer passes over memory give the same results as T5's own."""

import pytest
import torch
from torch import nn
from transformers import MT5Config, T5Config
from transformers.models.mt5.modeling_mt5 import MT5DenseActDense, MT5DenseGatedActDense
from transformers.models.t5.modeling_t5 import T5DenseActDense, T5DenseGatedActDense

from dsi.kernels.feed_forward import fast_feed_forward

KINDS = {
    T5DenseActDense: T5Config(feed_forward_proj="relu"),
    MT5DenseActDense: MT5Config(feed_forward_proj="gelu"),
    T5DenseGatedActDense: T5Config(feed_forward_proj="gated-gelu"),
    MT5DenseGatedActDense: MT5Config(feed_forward_proj="gated-relu"),
}


def layer_of(kind, dropout=0.0):
    torch.manual_seed(0)
    config = KINDS[kind]
    config.d_model, config.d_ff, config.dropout_rate = 4, 10, dropout
    return kind(config)


def gradients(layer, states):
    found = layer(states)
    return found, torch.autograd.grad((found.float() ** 2).sum(), [states, *layer.parameters()])


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_of_the_layer(kind, autocast):
    layer, states = layer_of(kind), torch.randn(2, 3, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected, wanted = gradients(layer, states)
        with fast_feed_forward(layer):
            found, grads = gradients(layer, states)
    assert torch.equal(found, expected)
    for grad, other in zip(grads, wanted, strict=True):
        torch.testing.assert_close(grad, other)


def test_relu_and_dropout_pass_on_what_is_positive_and_kept_scaled_up():
    layer, states = layer_of(T5DenseActDense, 0.25), torch.randn(500, 4)
    seen = []
    layer.wi.register_forward_hook(lambda _, x, y: y.retain_grad() or seen.append(y))
    layer.wo.register_forward_pre_hook(lambda _, x: x[0].retain_grad() or seen.append(x[0]))
    with fast_feed_forward(layer):
        layer(states).sum().backward()
    before, after = seen
    passed = after != 0
    assert not passed[before <= 0].any()
    # Four standard deviations of the mean of about 2,500.
    assert passed[before > 0].float().mean().item() == pytest.approx(0.75, abs=0.035)
    torch.testing.assert_close(after[passed], before[passed] / 0.75)
    torch.testing.assert_close(before.grad, torch.where(passed, after.grad / 0.75, 0.0))


def test_products_read_what_the_layers_before_them_gave_without_a_cast():
    layer, dtypes = layer_of(T5DenseActDense, 0.25), []
    layer.wo.register_forward_pre_hook(lambda _, x: dtypes.append(x[0].dtype))
    with fast_feed_forward(layer):
        with torch.autocast("cpu", torch.bfloat16):
            layer(torch.randn(2, 4))
        layer.wi.bfloat16()
        layer(torch.randn(2, 4).bfloat16())  # transformers may keep its `wo` in float32
    assert dtypes == [torch.bfloat16, torch.float32]


def test_nothing_is_dropped_in_evaluation_and_no_trace_is_left():
    layer, states = layer_of(T5DenseActDense, 0.5).eval(), torch.randn(8, 4)
    expected = layer(states)
    with fast_feed_forward(nn.Sequential(layer)):
        assert torch.equal(layer(states), expected)
        assert "forward" in vars(layer)
    assert "forward" not in vars(layer)

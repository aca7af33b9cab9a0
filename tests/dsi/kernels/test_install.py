"""One call installs the fast paths, reports what they replaced, and removes them again."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from dsi.kernels.install import install
from dsi.kernels.matmul import has_onednn_kernel
from dsi.kernels.unpadded import supports_unpadded

IDS = torch.tensor([[3, 4, 5, 1], [6, 1, 0, 0]])
MASK = (IDS != 0).long()
LABELS = torch.tensor([[2, 1], [3, 1]])


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=9, d_model=16, d_kv=4, num_heads=2, d_ff=16, num_layers=1, num_decoder_layers=1,
        dropout_rate=0.0, decoder_start_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def loss_and_gradient(model):
    model.train().zero_grad()
    loss = model(input_ids=IDS, attention_mask=MASK, labels=LABELS).loss
    loss.backward()
    return loss.detach(), model.shared.weight.grad.clone()


def patched(model):
    return [name for name, layer in model.named_modules() if "forward" in vars(layer)]


def test_training_names_the_layers_of_each_fast_path(model):
    with install(model, "training") as installed:
        assert installed.model is model
        replaced = installed.replaced
        # Self-attention, cross-attention and feed-forward layers have one norm each, and so do the
        # ends of both stacks.
        assert len(replaced["norms"]) == 2 + 3 + 2
        assert "encoder.block.0.layer.0.layer_norm" in replaced["norms"]
        assert len(replaced["feed_forward"]) == 2
        assert set(replaced["dropout"]) >= {"encoder.dropout", "decoder.dropout"}
        assert ("unpadded" in replaced) == supports_unpadded(model)
        assert ("linear" in replaced) == has_onednn_kernel(model.shared.weight)
        assert sorted(patched(model)) == sorted(
            name for names in replaced.values() for name in names
        )


def test_the_values_and_gradients_are_those_of_the_layers_replaced(model):
    loss, gradient = loss_and_gradient(model)
    with install(model, "training", length_buckets=2):
        fast, fast_gradient = loss_and_gradient(model)
    torch.testing.assert_close(fast, loss, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(fast_gradient, gradient, atol=1e-6, rtol=1e-4)


def test_removing_gives_every_layer_its_own_computation_back(model):
    installed = install(model, "training")
    assert patched(model)
    installed.remove()
    installed.remove()
    assert not patched(model)


def test_an_error_in_training_removes_them_too(model):
    with pytest.raises(KeyboardInterrupt), install(model, "training"):
        raise KeyboardInterrupt
    assert not patched(model)


def test_in_bf16_linear_layers_are_left_to_autocast(model):
    with install(model, "training", precision="bf16") as installed:
        assert "linear" not in installed.replaced


def test_a_search_gets_a_copy_that_shares_its_other_weights(model):
    installed = install(model, "search")
    assert not patched(model)
    assert installed.model is not model
    assert installed.model.get_output_embeddings().weight is model.get_output_embeddings().weight
    if has_onednn_kernel(model.shared.weight):
        names = installed.replaced["packed_linear"]
        linear = [n for n, layer in model.named_modules() if type(layer) is torch.nn.Linear]
        assert set(names) == set(linear) - {"lm_head"}

"""Queries are encoded as transformers' T5 encodes them, whatever their padding."""

import pytest
import torch
from search_oracles import queries, tiny_model
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from dsi.kernels.packed_linear import packed
from dsi.search.decoders import t5_encoder, t5_layers
from dsi.search.decoders.t5 import T5Decoder


def encoded_by_transformers(model, ids, mask):
    """The encoder's own states, 0 at padding."""
    states = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    return states * mask.unsqueeze(-1)


@pytest.mark.parametrize("family", ["t5", "mt5"])
@pytest.mark.parametrize("ready", [packed, lambda model: model], ids=["packed", "as it is"])
@pytest.mark.parametrize("lengths", [[1], [5, 5], [3, 40, 1, 17]])
def test_encodes_as_transformers_does(family, ready, lengths):
    model, batch = tiny_model(family, 1, layers=2), queries(lengths, 0)
    assert t5_encoder.knows(model.get_encoder())
    with torch.inference_mode():
        found = t5_encoder.encode(ready(model).get_encoder(), *batch)
        expected = encoded_by_transformers(model, *batch)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_an_encoder_without_layers_gives_its_normed_embeddings():
    config = T5Config(vocab_size=12, d_model=8, d_kv=4, d_ff=8, num_layers=0, num_decoder_layers=1)
    model, batch = T5ForConditionalGeneration(config).eval(), queries([2, 4], 0)
    with torch.inference_mode():
        found = t5_encoder.encode(model.get_encoder(), *batch)
        torch.testing.assert_close(found, encoded_by_transformers(model, *batch))


def test_padding_is_neither_embedded_nor_multiplied():
    model, (ids, mask) = tiny_model("t5", 0), queries([3, 40, 1], 0)
    read = []
    layer = model.get_encoder().block[0].layer[0].SelfAttention.q
    layer.register_forward_hook(lambda _, inputs, found: read.append(tuple(inputs[0].shape[:-1])))
    with torch.inference_mode():
        t5_encoder.encode(model.get_encoder(), ids, mask)
    assert read == [(44,)]


def test_layers_with_something_around_them_are_asked_themselves():
    class Doubled(nn.Linear):
        def forward(self, states):
            return 2 * super().forward(states)

    model, batch = tiny_model("t5", 0), queries([2, 3], 0)
    block = model.get_encoder().block[0].layer[0].SelfAttention
    other = Doubled(block.q.in_features, block.q.out_features, bias=False)
    other.weight = block.q.weight
    block.q = other
    assert T5Decoder.knows(model)
    assert not t5_encoder.knows(model.get_encoder())
    with torch.inference_mode():
        found = T5Decoder.encode(model, *batch)
        expected = model.get_encoder()(input_ids=batch[0], attention_mask=batch[1])
    assert torch.equal(found, expected.last_hidden_state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_is_that_of_transformers(dtype):
    module = tiny_model("t5", 0).get_encoder().final_layer_norm.to(dtype)
    states = torch.randn(2, 3, module.weight.shape[0]).to(dtype) * 1e-3
    with torch.inference_mode():
        torch.testing.assert_close(t5_layers.norm(module, states), module(states))


def test_the_position_bias_is_that_of_transformers_at_any_distance():
    model, batch = tiny_model("t5", 0), queries([2], 0)
    attention = model.get_decoder().block[0].layer[0].SelfAttention
    most = attention.relative_attention_max_distance
    with torch.inference_mode():
        decoder = T5Decoder.start(model, *batch)
        decoder._depths = torch.arange(2 * most)
        expected = attention.compute_bias(2 * most, 2 * most)
        found = decoder._bias(decoder._depths)
    seen = torch.ones(2 * most, 2 * most).tril().bool()
    assert torch.equal(found[:, :, seen], expected[:, :, seen])

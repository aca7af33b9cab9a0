"""Layers packed for searching give the products of the layers they were made of."""

import pytest
import torch
from search_oracles import queries, table_of, tiny_model, torch_trie
from torch import nn

from dsi import products
from dsi.products import linear
from dsi.search.beam import beam_search
from dsi.search.packing import PackedLinear, packed

DOCIDS = [(2, 3, 4), (2, 3, 5), (2, 4, 4), (3, 2, 2), (3, 2, 5), (4, 5, 2), (4, 5, 3)]

can_pack = pytest.mark.skipif(
    not products.can_multiply(torch.zeros(1, 1)), reason="no oneDNN for this processor"
)


@can_pack
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 5, 3)])
def test_a_packed_layer_multiplies_as_the_layer_does(dtype, bias, shape):
    layer = nn.Linear(3, 4, bias=bias).to(dtype)
    states = torch.randn(shape).to(dtype)
    with torch.inference_mode():
        found = PackedLinear(layer)(states)
        assert found.dtype == dtype
        torch.testing.assert_close(found, layer(states))
        torch.testing.assert_close(linear(states, layer.weight, layer.bias), layer(states))


@can_pack
@pytest.mark.parametrize("family", ["t5", "bart", "mbart"])
def test_a_packed_model_finds_what_the_model_finds_and_leaves_it_alone(family):
    model = tiny_model(family, 3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batch = queries([2, 5], 0)
    trie = torch_trie(table_of(DOCIDS))
    ready = packed(model)
    assert any(isinstance(layer, PackedLinear) for layer in ready.modules())
    assert not any(isinstance(layer, PackedLinear) for layer in model.modules())
    expected = beam_search(model, *batch, trie, k=5, beams=5)
    found = beam_search(ready, *batch, trie, k=5, beams=5)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=0)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_packed_model_shares_what_is_no_linear_layer():
    model = tiny_model("t5", 0)
    ready = packed(model)
    assert ready.get_input_embeddings().weight is model.get_input_embeddings().weight
    assert ready.get_output_embeddings().weight is model.get_output_embeddings().weight


@pytest.mark.parametrize("missing", ["processor", "library"])
def test_layers_stay_as_they_are_where_they_cannot_be_packed(missing, monkeypatch):
    if missing == "processor":
        monkeypatch.setattr(products.platform, "machine", lambda: "aarch64")
    else:
        monkeypatch.setattr(products.torch.backends.mkldnn, "is_available", lambda: False)
    model = tiny_model("t5", 0)
    assert {type(layer) for layer in packed(model).modules()} == {
        type(layer) for layer in model.modules()
    }
    assert not products.can_multiply(torch.zeros(2, 2))


@can_pack
def test_only_plain_layers_in_known_dtypes_are_packed():
    assert not products.can_multiply(torch.zeros(2, 2, dtype=torch.float64))
    assert not products.can_multiply(torch.zeros(2, 2, device="meta"))

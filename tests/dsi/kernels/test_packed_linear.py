"""Layers packed for search give the same products as the original layers."""

import pytest
import torch
from search_oracles import queries, table_of, tiny_model, torch_trie
from torch import nn

from data_prep.errors import InputError
from docids.table import FIRST_CODE
from dsi import Index
from dsi.kernels import matmul as products
from dsi.kernels import packed_linear as packing
from dsi.kernels.int8_linear import Int8Linear, feed_forward, has_int8_kernel
from dsi.kernels.matmul import linear
from dsi.kernels.packed_linear import PackedLinear, packed, relu_of, rounded_head, together
from dsi.search.beam import beam_search
from dsi.search.decoders import start_decoder
from dsi.search.decoders.t5 import T5Decoder
from dsi.search.decoders.t5_folded import FoldedT5Decoder
from dsi.search.options import SearchOptions
from dsi.search.rescoring import rescored

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DOCIDS = [(2, 3, 4), (2, 3, 5), (2, 4, 4), (3, 2, 2), (3, 2, 5), (4, 5, 2), (4, 5, 3)]

can_pack = pytest.mark.skipif(
    not products.has_onednn_kernel(torch.zeros(1, 1)), reason="no oneDNN for this processor"
)
can_round = pytest.mark.skipif(
    not products.has_onednn_kernel(torch.zeros(1, 1), torch.bfloat16),
    reason="no products in bfloat16 by oneDNN on this processor",
)


@can_pack
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=can_round)])
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
    assert not products.has_onednn_kernel(torch.zeros(2, 2))


T5_EXACT = {"layer.1.EncDecAttention.k.whole", "layer.1.EncDecAttention.o"}
BART_EXACT = {f"encoder_attn.{name}_proj" for name in ("k", "v", "out")}
EXACT = {"t5": T5_EXACT, "mt5": T5_EXACT, "bart": BART_EXACT, "encoder-decoder": set()}
"""Cross-attention layers in the decoder's first layer that packing does not round."""
UNROUNDED = (
    *(f"EncDecAttention.{name}" for name in "kvo"),
    *(f"encoder_attn.{name}_proj" for name in ("k", "v", "out")),
)


@can_round
@pytest.mark.parametrize("family", ["t5", "mt5", "bart", "encoder-decoder"])
def test_in_bf16_only_the_products_of_linear_layers_are_rounded(family):
    model = tiny_model(family, 3)
    ready = packed(model, "bf16")
    dtypes = {
        name: layer.weight.dtype
        for name, layer in ready.named_modules()
        if isinstance(layer, PackedLinear)
    }
    exact = {name for name, dtype in dtypes.items() if dtype == torch.float32}
    assert {name.split(".0.", 1)[1] for name in exact} == EXACT[family]
    assert set(dtypes.values()) >= {torch.bfloat16}
    assert {parameter.dtype for parameter in ready.parameters()} == {torch.float32}
    for name in dtypes:
        layer = ready.get_submodule(name)
        with torch.inference_mode():
            assert layer(torch.randn(2, layer.in_features)).dtype == torch.float32
    rounded = tiny_model(family, 3)
    with torch.no_grad():
        for name, layer in rounded.named_modules():
            if isinstance(layer, nn.Linear) and not name.endswith((*UNROUNDED, "lm_head")):
                layer.weight.copy_(layer.weight.bfloat16())
    batch, trie = queries([2, 5], 0), torch_trie(table_of(DOCIDS))
    rows, scores = beam_search(ready, *batch, trie, k=7, beams=7)
    expected, near = beam_search(rounded, *batch, trie, k=7, beams=7)
    scores = scores.gather(1, rows.sort().indices)
    torch.testing.assert_close(scores, near.gather(1, expected.sort().indices), atol=0.1, rtol=0.02)


@pytest.mark.parametrize("missing", ["library", "instructions"])
def test_where_nothing_can_be_packed_bf16_is_the_whole_model_in_bf16(missing, monkeypatch):
    if missing == "library":
        monkeypatch.setattr(products.torch.backends.mkldnn, "is_available", lambda: False)
    else:
        monkeypatch.setattr(products, "_knows_bfloat16", lambda: False)
        assert not products.has_onednn_kernel(torch.zeros(2, 2, dtype=torch.bfloat16))
    model = tiny_model("t5", 0)
    assert {tensor.dtype for tensor in packed(model, "bf16").parameters()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


@can_pack
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_keeps_the_positive_part_where_it_is_told(bias):
    layer, states = nn.Linear(3, 4, bias=bias), torch.randn(5, 3)
    with torch.inference_mode():
        expected = layer(states).relu()
        torch.testing.assert_close(relu_of(PackedLinear(layer), states), expected)
        torch.testing.assert_close(relu_of(layer, states), expected)


@can_pack
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=can_round)])
def test_layers_that_read_the_same_states_are_one_product(precision, monkeypatch):
    model, states = tiny_model("t5", 1), torch.randn(2, 3, 16)
    own = packed(model, precision).get_decoder().block[0].layer[0].SelfAttention
    plain = model.get_decoder().block[0].layer[0].SelfAttention
    near = {"atol": 1e-5 if precision == "fp32" else 0.1, "rtol": 0.02}
    products_made = []
    original = packing.onednn_linear
    monkeypatch.setattr(
        packing, "onednn_linear", lambda *a: (products_made.append(1), original(*a))[1]
    )
    with torch.inference_mode():
        expected = torch.cat([layer(states) for layer in (plain.q, plain.k, plain.v)], dim=-1)
        torch.testing.assert_close(together(states, plain.q, plain.k, plain.v), expected)
        found = together(states, own.q, own.k, own.v)
        assert len(products_made) == 1
        assert found.dtype == DTYPES[precision]
        torch.testing.assert_close(found.float(), expected, **near)
        torch.testing.assert_close(own.k(states), plain.k(states), **near)
        some = together(states, own.q, own.v)
        torch.testing.assert_close(
            some.float(), torch.cat([plain.q(states), plain.v(states)], dim=-1), **near
        )


@can_round
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_codes_that_are_asked_for_have_exact_logits_among_rounded_ones(family):
    model = tiny_model(family, 3, alphabet=600)
    if family == "bart":
        model.final_logits_bias.normal_()
    ready = packed(model, "bf16")
    generator = torch.Generator().manual_seed(0)
    few = torch.randint(FIRST_CODE, 600, (2, 1, 2), generator=generator)
    many = torch.randint(FIRST_CODE, 600, (2, 1, 3), generator=generator)
    with torch.inference_mode():
        decoder = start_decoder(ready, *queries([2, 5], 0))
        states = decoder.step(torch.zeros((2, 1), dtype=torch.int64), few[:, :, 0])
        exact = decoder.logits(states)
        assert exact.dtype == torch.float32
        found = decoder.log_probabilities(states, few)
        torch.testing.assert_close(found.diff(), exact.gather(2, few).diff(), atol=1e-5, rtol=1e-5)
        rounded = states.bfloat16().float() @ model.lm_head.weight.bfloat16().float().t()
        if family == "bart":
            rounded += model.final_logits_bias
        among = rounded.scatter(2, few, exact.gather(2, few)).log_softmax(-1).gather(2, few)
        torch.testing.assert_close(found, among, atol=0.02, rtol=0)
        assert not torch.equal(found, exact.log_softmax(-1).gather(2, few))
        found = decoder.log_probabilities(states, many)
        assert torch.equal(found, exact.log_softmax(-1).gather(2, many))


@can_round
def test_only_a_model_in_bf16_has_a_rounded_output_layer():
    model = tiny_model("t5", 0)
    assert rounded_head(packed(model, "bf16")).weight.dtype == torch.bfloat16
    assert rounded_head(packed(model)) is None
    assert rounded_head(model) is None


@can_pack
def test_only_plain_layers_in_known_dtypes_are_packed():
    assert not products.has_onednn_kernel(torch.zeros(2, 2, dtype=torch.float64))
    assert not products.has_onednn_kernel(torch.zeros(2, 2, device="meta"))


can_int8 = pytest.mark.skipif(
    not has_int8_kernel(torch.zeros(1, 1)), reason="no products in int8 on this processor"
)


@can_int8
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 5, 3)])
def test_an_int8_layer_is_the_product_of_rounded_weights_and_rows(bias, shape):
    torch.manual_seed(0)
    layer = nn.Linear(3, 4, bias=bias)
    states = torch.randn(shape) * 10
    states.view(-1, 3)[0] = 0  # an empty row has no scale
    by_hand = torch.empty(states.view(-1, 3).shape[0], 4)
    for place, row in enumerate(states.view(-1, 3)):
        scale = max(float(row.abs().max()) / 127, 1e-12)
        rounded = [round(float(value) / scale) for value in row]
        for out, weights in enumerate(layer.weight.detach()):
            of = float(weights.abs().max()) / 127
            products = (a * round(float(w) / of) for a, w in zip(rounded, weights, strict=True))
            by_hand[place, out] = sum(products) * scale * of
            if bias:
                by_hand[place, out] += layer.bias[out].detach()
    with torch.inference_mode():
        found = Int8Linear(layer)(states)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.view(-1, 4), by_hand, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found, layer(states), atol=0.3, rtol=0.05)
        torch.testing.assert_close(relu_of(Int8Linear(layer), states), found.relu())


@can_int8
def test_int8_layers_with_a_relu_between_them_are_those_layers_one_after_another():
    torch.manual_seed(0)
    inner, outer = (nn.Linear(*shape, bias=False) for shape in ((24, 96), (96, 24)))
    states = torch.randn(2, 5, 24) * torch.logspace(-3, 3, 5)[:, None]
    states[0, 0] = 0
    with torch.inference_mode():
        first, second = Int8Linear(inner), Int8Linear(outer)
        expected = second.linear(first.linear(states, "relu"))
        found = feed_forward(first, second, states)
        # A value halfway between two integers may be rounded to the other one.
        size = expected.abs().amax(dim=-1, keepdim=True).clamp_min(1e-9)
        assert ((found - expected).abs() / size).max() < 0.01
        assert not found[0, 0].any()


@can_int8
@pytest.mark.parametrize("family", ["t5", "bart", "mbart"])
def test_an_int8_model_scores_nearly_as_the_model_and_rescored_exactly_so(family):
    model = tiny_model(family, 3)
    batch = queries([2, 5], 0)
    table = table_of(DOCIDS)
    trie = torch_trie(table)
    ready = packed(model, "int8")
    assert any(isinstance(layer, Int8Linear) for layer in ready.modules())
    exact = beam_search(model, *batch, trie, k=7, beams=7)
    rows, scores = beam_search(ready, *batch, trie, k=7, beams=7)
    codes = torch.tensor(DOCIDS)[rows]
    for score in ("model", "constrained"):
        exact = beam_search(model, *batch, trie, k=7, beams=7, score=score)
        again = rescored(model, *batch, trie, rows, codes, score=score)
        assert torch.equal(again[0], exact[0])
        torch.testing.assert_close(again[1], exact[1], atol=1e-4, rtol=0)
    for line in range(len(rows)):
        known = dict(zip(again[0][line].tolist(), scores[line].tolist(), strict=True))
        assert known.keys() == set(rows[line].tolist())
    exact = beam_search(model, *batch, trie, k=7, beams=7)
    for line in range(len(rows)):
        known = dict(zip(exact[0][line].tolist(), exact[1][line].tolist(), strict=True))
        for row, score in zip(rows[line].tolist(), scores[line].tolist(), strict=True):
            assert score == pytest.approx(known[row], abs=1.0, rel=0.1)


@can_int8
@pytest.mark.parametrize("lengths", [[4], [2, 4], [1, 3]])
def test_short_queries_in_int8_have_the_states_of_layers_one_by_one(lengths):
    model = tiny_model("t5", 3, layers=2)
    with torch.no_grad():
        for layer in (*model.encoder.block, *model.decoder.block):
            for part in layer.layer:
                part.layer_norm.weight.uniform_(0.3, 2.0)
    batch, ready = queries(lengths, 0), packed(model, "int8")
    with torch.inference_mode():
        found = [start_decoder(ready, *batch), T5Decoder.start(ready, *batch)]
        assert type(found[0]) is FoldedT5Decoder

        def assert_near(call):
            states, others = (call(decoder) for decoder in found)
            assert (states - others).norm() < 0.04 * others.norm()

        assert_near(lambda decoder: type(decoder).encode(ready, *batch))
        some = torch.tensor([[2, 3, 4]]).expand(len(lengths), -1)
        rows = torch.tensor([[2, 0, 1]]).expand(len(lengths), -1)
        assert_near(lambda decoder: decoder.begin(some[0], torch.tensor([0, 0, 1])))
        assert_near(lambda decoder: decoder.step(some, torch.full_like(rows, 3)))
        assert_near(lambda decoder: decoder.step(some.flip(1), rows))
        assert_near(lambda decoder: decoder.tails(some[:, :2, None].expand(-1, -1, 2), rows[:, :2]))
        found = [decoder.take(torch.tensor([len(lengths) - 1])) for decoder in found]
        assert_near(lambda decoder: decoder.step(some[:1, :2], rows[:1, :2]))


@can_int8
def test_long_queries_and_other_layers_in_int8_run_layer_by_layer():
    ready = packed(tiny_model("t5", 0), "int8")
    gated = packed(tiny_model("mt5", 0), "int8")
    with torch.inference_mode():
        assert type(start_decoder(ready, *queries([8], 0))) is FoldedT5Decoder
        assert type(start_decoder(ready, *queries([9], 0))) is T5Decoder
        assert type(start_decoder(ready, *queries([5, 2], 0))) is T5Decoder
        assert type(start_decoder(gated, *queries([4], 0))) is T5Decoder


def test_int8_is_refused_where_layers_have_no_such_products(monkeypatch):
    import tiny_checkpoints

    from dsi.backbones.language_model import PromptedLanguageModel

    model = tiny_model("t5", 0)
    monkeypatch.setattr(products.platform, "machine", lambda: "aarch64")
    with pytest.raises(InputError, match="int8 needs a CPU with VNNI"):
        packed(model, "int8")
    monkeypatch.undo()
    if has_int8_kernel(torch.zeros(1, 1)):
        whole = tiny_checkpoints.LANGUAGE_MODELS["gpt2"](20)
        with pytest.raises(InputError, match=r"layers of a gpt2 are not torch\.nn\.Linear"):
            packed(PromptedLanguageModel(whole.config, whole.base_model, 9), "int8")


@can_int8
def test_hits_in_int8_are_scored_again_in_fp32(trained):
    index = Index.open(trained("semantic"), "cpu")
    asked = ["where is the harbour", "a falcon and a comet"]
    exact = index.search(asked, k=40, beams=40)
    again = index.search(asked, k=40, beams=40, options=SearchOptions("constrained", "int8", True))
    plain = index.search(asked, k=40, beams=40, options=SearchOptions("constrained"))
    assert exact == plain or index.manifest.score == "model"
    for mine, wanted in zip(again, plain, strict=True):
        assert {hit.doc_id for hit in mine} == {hit.doc_id for hit in wanted}
        assert [hit.score for hit in mine] == pytest.approx([hit.score for hit in wanted], abs=1e-4)
    with pytest.raises(InputError, match="rescore has no effect"):
        SearchOptions(rescore=True)
    with pytest.raises(InputError, match="int8 packs whole weights"):
        index.spread({"zero_optimization": {"stage": 3}}, "int8")

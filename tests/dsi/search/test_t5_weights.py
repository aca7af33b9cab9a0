"""Weights read without transformers give the same results as its models, bit for bit."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from data_prep.errors import InputError
from dsi.backbones.backbone import from_scratch, load_backbone, save_backbone, set_docid_alphabet
from dsi.search.decoders import start_decoder
from dsi.search.decoders.t5 import T5Decoder
from dsi.search.t5_weights import T5Weights, read_weights, readable

ROWS, ALPHABET = 30, 12
SHAPE = {
    "vocab_size": ALPHABET, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2,
    "num_decoder_layers": 2, "num_heads": 4, "tie_word_embeddings": False,
}  # fmt: skip
KINDS = {
    "t5": lambda: T5ForConditionalGeneration(T5Config(**SHAPE, feed_forward_proj="relu")),
    "gated": lambda: T5ForConditionalGeneration(T5Config(**SHAPE, feed_forward_proj="gated-gelu")),
    "mt5": lambda: MT5ForConditionalGeneration(MT5Config(**SHAPE)),
}


def stored(tmp_path, kind):
    torch.manual_seed(0)
    model = set_docid_alphabet(KINDS[kind](), ROWS, ALPHABET)
    folder = tmp_path / kind
    save_backbone(model, folder)
    return folder


def answers(model):
    """Returns the encoded queries, and the probabilities of two steps."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, ROWS, (3, 7), generator=generator)
    mask = torch.ones_like(tokens)
    mask[0, 3:] = mask[1, 5:] = 0
    with torch.no_grad():
        decoder = start_decoder(model, tokens, mask)
        assert isinstance(decoder, T5Decoder)
        first = decoder.step(torch.zeros(3, 1, dtype=torch.int64), torch.zeros(3, 1).long())
        second = decoder.step(torch.tensor([[2, 3]] * 3), torch.zeros(3, 2).long())
        return T5Decoder.encode(model, tokens, mask), first, second


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_computes_the_same_bits(kind, tmp_path):
    folder = stored(tmp_path, kind)
    network = read_weights(folder, "cpu")
    assert isinstance(network, T5Weights)
    for mine, theirs in zip(answers(network), answers(load_backbone(folder)), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("length", [1, 40, 300])
def test_position_biases_are_those_of_transformers(length, tmp_path):
    folder = stored(tmp_path, "t5")
    network, whole = read_weights(folder, "cpu"), load_backbone(folder)
    for stack in ("encoder", "decoder"):
        mine, theirs = (
            getattr(model, stack)
            .block[0]
            .layer[0]
            .SelfAttention.compute_bias(length, length, device=torch.device("cpu"))
            for model in (network, whole)
        )
        assert torch.equal(mine, theirs)


def test_the_model_of_transformers_shares_the_weights(tmp_path):
    folder = stored(tmp_path, "t5")
    network = read_weights(folder, "cpu")
    whole = network.complete(folder)
    assert type(whole) is T5ForConditionalGeneration
    assert not whole.training
    wanted = load_backbone(folder).state_dict()
    assert whole.state_dict().keys() == wanted.keys()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, wanted[name])
    assert whole.lm_head.weight.data_ptr() == network.lm_head.weight.data_ptr()
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(
        whole.generate(ids, max_new_tokens=3), load_backbone(folder).generate(ids, max_new_tokens=3)
    )


def test_a_model_without_an_encoder_layer_is_read_too(tmp_path):
    model = from_scratch("latent", text_vocabulary=ROWS, alphabet_size=ALPHABET, seed=3)
    save_backbone(model, tmp_path)
    for mine, theirs in zip(
        answers(read_weights(tmp_path, "cpu")), answers(load_backbone(tmp_path)), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    "change",
    [
        {"feed_forward_proj": "gated-silu"},
        {"architectures": ["BartForConditionalGeneration"]},
        {"architectures": ["T5ForConditionalGeneration", "T5Model"]},
        {"model_type": "bart"},
        {"d_model": "16"},
        {"num_heads": 0},
        {"num_layers": -1},
        {"dtype": "float16"},
        {"dsi_pawa_layers": 2},
        {"dsi_encoder": {"kind": "static"}},
        {"auto_map": {"AutoModel": "evil.Model"}},
        {"layer_norm_epsilon": None},
        {"relative_attention_max_distance": 1},
    ],
    ids=str,
)
def test_anything_unusual_is_left_to_transformers(change, tmp_path):
    folder = stored(tmp_path, "t5")
    config = json.loads((folder / "config.json").read_text())
    assert readable(config)
    assert not readable({**config, **change})
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    assert read_weights(folder, "cpu") is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"d_model": 32}, "has shape"),
        ({"num_layers": 3}, "is missing"),
        ({"vocab_size": 2**30}, "has shape"),
    ],
    ids=str,
)
def test_weights_that_do_not_fit_are_refused(change, told, tmp_path):
    folder = stored(tmp_path, "t5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    for read in (lambda: read_weights(folder, "cpu"), lambda: load_backbone(folder)):
        with pytest.raises(InputError, match=told):
            read()

"""Adapters: start at zero, are the only trained weights, and are merged into the index."""

from __future__ import annotations

import sys

import pytest
import small
import torch
from small import StopError, interrupt

from data_prep.errors import InputError
from dsi import Index
from dsi.backbones.backbone import from_scratch
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.training.optimization.lora import add_adapters, is_adapter, merge_adapters
from dsi.training.options import LoraOptions

pytest.importorskip("peft")


def model():
    return from_scratch("tiny", text_vocabulary=11, alphabet_size=7, dropout=0.0)


def logits(network):
    ids = torch.tensor([[2, 3, 4], [5, 6, 7]])
    with torch.no_grad():
        return network(input_ids=ids, decoder_input_ids=torch.tensor([[0, 2], [0, 3]])).logits


def test_an_adapter_changes_nothing_until_it_moves_and_is_merged_without_a_trace():
    network = model()
    names, before = list(network.state_dict()), logits(network)
    add_adapters(network, LoraOptions(rank=3, alpha=6), seed=0)
    torch.testing.assert_close(logits(network), before)
    layer = network.decoder.block[0].layer[1].EncDecAttention.q
    base = layer.get_base_layer().weight.detach().clone()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if is_adapter(name):
                weight.normal_(std=0.1)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert (a.shape, b.shape) == ((3, 256), (256, 3))
    moved = logits(network)
    assert not torch.allclose(moved, before, atol=1e-3)
    merge_adapters(network)
    assert list(network.state_dict()) == names
    assert {type(part).__module__.split(".")[0] for part in network.modules()} <= {
        "torch",
        "transformers",
    }
    merged = network.decoder.block[0].layer[1].EncDecAttention.q.weight
    torch.testing.assert_close(merged, base + 6 / 3 * b @ a)
    torch.testing.assert_close(logits(network), moved, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "encoder", "has", "has_not"),
    [
        ({}, True, ["encoder.block.0.layer.1", "SelfAttention.k", "decoder.block.1"], ["lm_head"]),
        ({}, False, ["decoder.block.0", "EncDecAttention.o"], ["encoder.", "lm_head"]),
        ({"targets": ["q", "wo"]}, True, ["SelfAttention.q", "DenseReluDense.wo"], [".k.", ".wi"]),
    ],
    ids=["all", "decoder", "named"],
)
def test_which_layers_get_an_adapter(changes, encoder, has, has_not):
    network = model()
    add_adapters(network, LoraOptions(rank=1, **changes), seed=0, encoder=encoder)
    adapted = [name for name, _ in network.named_parameters() if is_adapter(name)]
    for part in has:
        assert any(part in name for name in adapted), part
    for part in has_not:
        assert not any(part in name for name in adapted), part


def test_the_seed_draws_the_adapters_and_nothing_else():
    drawn = []
    for seed, global_seed in ((0, 1), (0, 2), (1, 1)):
        network = model()
        torch.manual_seed(global_seed)
        add_adapters(network, LoraOptions(rank=2), seed=seed)
        drawn.append(network.encoder.block[0].layer[0].SelfAttention.q.lora_A["default"].weight)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_names_that_no_layer_has_and_a_missing_package_are_told(monkeypatch):
    with pytest.raises(InputError, match=r"no linear layer 'query'.*Choose from: k, o, q, v, wi"):
        add_adapters(model(), LoraOptions(rank=1, targets=["query"]), seed=0)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"requires the package peft.*dsi-toolkit\[peft\]"):
        add_adapters(model(), LoraOptions(rank=1), seed=0)


def test_a_rank_above_that_of_every_matrix_is_refused_before_any_adapter_is_made():
    network = model()
    for rank in (257, 10_000):
        with pytest.raises(InputError, match=rf"--lora\.rank {rank} is higher .* at most 256"):
            add_adapters(network, LoraOptions(rank=rank), seed=0)
    assert not any(is_adapter(name) for name, _ in network.named_parameters())


def test_training_with_adapters_resumes_and_leaves_a_plain_index(dataset, tmp_path, monkeypatch):
    wanted = small.options(
        docids="semantic",
        lora__rank=2,
        lora__dropout=0.1,
        loop__steps=4,
        loop__checkpoint_every=2,
        loop__evaluate_every=2,
    )
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(StopError):
            train_index(dataset, tmp_path / "index", wanted)
    train_index(dataset, tmp_path / "index", wanted)
    train_index(dataset, tmp_path / "alone", wanted)
    assert small.weights(tmp_path / "index") == small.weights(tmp_path / "alone")
    index = Index.open(tmp_path / "index")
    assert not any(is_adapter(name) for name in index.model.state_dict())
    assert len(index.search(["harbour whale"], k=5)[0]) == 5
    folder = versions.folder(tmp_path / "index", "0001")
    assert sorted(entry.name for entry in (folder / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
